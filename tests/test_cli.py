"""The command line: results on stdout, one plain sentence when something is wrong, nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors import SafetensorError
from typer.testing import CliRunner, Result

from conftest import RATE_HZ, SEGMENT_SAMPLES, tone, write_model
from linernotes.attribution.prepare import prepare
from linernotes.attribution.query import segment_query
from linernotes.audio import Sound, write_sound
from linernotes.catalog.store import Catalogue
from linernotes.cli.app import app
from linernotes.evaluation.self_influence import choose_segments
from linernotes.methods.all import score
from linernotes.models.stable_audio import StableAudio
from linernotes.settings.methods import METHOD_SETTINGS

QUICK = ["--draws", "3", "--gradient-draws", "8", "--step-size", "2e-5"]


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINERNOTES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(result: Result, sentence: str, code: int = 1) -> None:
    assert result.exit_code == code
    assert "Traceback" not in result.output
    flat = " ".join(result.stderr.split())
    assert sentence in flat
    assert flat.count("error:") == 1


def test_the_whole_chain_on_ones_own_recordings(tmp_path: Path, recordings: Path, model_path: Path) -> None:
    own, trained, clip, out = tmp_path / "own", tmp_path / "trained", tmp_path / "clip.flac", tmp_path / "out"
    built = run("catalog", "build", recordings, "-o", own, "--model", model_path, "--json")
    assert built.exit_code == 0
    assert json.loads(built.stdout)["tracks"] == 10
    assert (
        run("train", own, "-o", trained, "--init", model_path, "--steps", "5", "--batch-size", "4").exit_code
        == 0
    )
    made = run("generate", "--prompt", "tone 2", "--seed", 3, "-o", clip, "--model", trained)
    assert made.exit_code == 0
    done = run("attribute", clip, "-o", out, "--model", trained, "--catalog", own, *QUICK, "--json")
    assert done.exit_code == 0
    (attribution,) = json.loads(done.stdout)
    assert len(attribution["tracks"]) == 10
    assert json.loads((out / "attribution.json").read_text())["tracks"] == attribution["tracks"]
    again = run(
        "attribute",
        clip,
        "-o",
        tmp_path / "again",
        "--model",
        trained,
        "--catalog",
        own,
        "--settings",
        out / "attribution.json",
    )
    assert again.exit_code == 0
    assert "Tone" in again.stdout
    assert (tmp_path / "again/attribution.json").read_bytes() == (out / "attribution.json").read_bytes()
    page = (out / "report.html").read_bytes()
    (out / "report.html").unlink()
    assert run("report", out, "--json").stdout.strip() == json.dumps(
        {"page": str(out / "report.html")}, indent=2
    )
    assert (out / "report.html").read_bytes() == page
    assert run("report", tmp_path / "nowhere").exit_code == 1
    configs = [path.read_text() for path in trained.rglob("config.json")]
    assert configs and not any(str(tmp_path) in text for text in configs)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "again",
        "cache",
        "clip.flac",
        "clip.flac.safetensors",
        "out",
        "own",
        "trained",
    ]


def test_self_influence_on_ones_own_recordings(
    tmp_path: Path, model: StableAudio, catalogue: Catalogue, model_path: Path
) -> None:
    """Ranks are those of the scores themselves, each track's gathered from its segments'."""
    what = ["--model", model_path, "--catalog", catalogue.path, "--segments", "4"]
    result = run("evaluate", "self-influence", *what, *QUICK, "--json", "-o", tmp_path)
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    prepared = replace(prepare(model, catalogue), drawn="tracks")  # as models of unknown training are taken
    settings = METHOD_SETTINGS["readout"](draws=3, gradient_draws=8, step_size=2e-5)
    rows = choose_segments(catalogue, 4, settings.seed)
    queries = [segment_query(catalogue, int(row)) for row in rows]
    scores_qn = score("readout", prepared, queries, settings, tmp_path / "work").scores_qn
    ranks = []
    for row, scores_n in zip(rows, scores_qn, strict=True):
        scores_t = prepared.gatherer("norm").of(scores_n)
        ranks.append(1 + int((scores_t > scores_t[catalogue.track_n[row]]).sum()))
    assert [each["track_rank"] for each in found["ranks"]] == ranks
    assert (found["first"], found["segments"]) == (ranks.count(1), 4) and ranks.count(1) > 1
    assert found["mean_rank"] == pytest.approx(sum(ranks) / 4)
    assert {path.name for path in tmp_path.glob("self*")} == {
        f"self-influence.{kind}" for kind in ("md", "parquet", "svg")
    }
    page = (tmp_path / "self-influence.md").read_text()
    assert f"{ranks.count(1)} of 4 segments have their own track first" in page


def test_catalog_show_prints_what_is_in_it(catalogue: Catalogue) -> None:
    result = run("catalog", "show", catalogue.path)
    assert result.exit_code == 0
    assert "10 tracks (3 decoys)" in result.stdout
    assert "The Oscillators" in result.stdout


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "mine.wav", tone(440, SEGMENT_SAMPLES), RATE_HZ)
    return tmp_path / "mine.wav"


def test_bad_input_to_attribute(tmp_path: Path, clip: Path, model_path: Path, catalogue: Catalogue) -> None:
    good = ["-o", tmp_path / "out", "--model", model_path, "--catalog", catalogue.path, "--prompt", "tone 1"]

    def with_option(name: str, value: object) -> list[object]:
        changed = list(good)
        changed[changed.index(name) + 1] = value
        return changed

    refused(run("attribute", clip, *with_option("--model", tmp_path / "none")), "there is no model at")
    refused(run("attribute", clip, *with_option("--catalog", tmp_path / "none")), "there is no catalogue at")
    refused(run("attribute", tmp_path / "none.wav", *good), "none.wav is missing")
    refused(
        run("attribute", clip, *good, "--damping", "-1"),
        "setting damping = -1.0 for readout is refused",
        code=2,
    )
    refused(run("attribute", clip, *good, "--settings", tmp_path / "none.toml"), "none.toml cannot be read")
    (tmp_path / "mine.toml").write_text("tempo = 3\n")
    refused(
        run("attribute", clip, *good, "--settings", tmp_path / "mine.toml"), "setting tempo = 3 in", code=2
    )
    refused(run("attribute", clip, *good, *QUICK[:-1], "1e30"), "a smaller --step-size")
    other = write_model(tmp_path / "other", seed=1)
    refused(run("attribute", clip, *with_option("--model", other)), "was encoded by another model")
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x04.")
    refused(run("attribute", clip, *with_option("--model", tmp_path / "model.ckpt")), "is a pickle")
    assert not (tmp_path / "out" / "attribution.json").exists()
    assert run("attribute").exit_code == 2


def test_a_catalogue_of_another_version_or_cut_short_is_refused(tmp_path: Path, catalogue: Catalogue) -> None:
    old = shutil.copytree(catalogue.path, tmp_path / "old")
    record = json.loads((old / "catalogue.json").read_text())
    (old / "catalogue.json").write_text(json.dumps({**record, "schema": 0}))
    refused(run("catalog", "show", old), "has schema version 0")
    cut = shutil.copytree(catalogue.path, tmp_path / "cut")
    shutil.rmtree(cut / "segments.lance")
    refused(run("catalog", "show", cut), "build the catalogue anew")


def test_a_catalogue_without_training_tracks_is_refused(tmp_path: Path, clip: Path, model_path: Path) -> None:
    folder = tmp_path / "decoys"
    folder.mkdir()
    soundfile.write(folder / "a.wav", tone(300, SEGMENT_SAMPLES), RATE_HZ)
    (folder / "metadata.csv").write_text("file_name,split\na.wav,decoy\n")
    assert run("catalog", "build", folder, "-o", tmp_path / "c", "--model", model_path).exit_code == 0
    common = ["--model", model_path, "--catalog", tmp_path / "c", "--prompt", "x", *QUICK]
    refused(run("attribute", clip, "-o", tmp_path / "out", *common), "holds no training segments")
    for method in ("trak", "mucs", "latent"):
        attributed = run("attribute", clip, "-o", tmp_path / "out", "--method", method, *common[:6])
        refused(attributed, "holds no training segments")
    refused(
        run("train", tmp_path / "c", "-o", tmp_path / "m", "--init", model_path), "holds no training segments"
    )


def test_nothing_is_overwritten_unasked(
    tmp_path: Path, recordings: Path, model_path: Path, catalogue: Catalogue
) -> None:
    refused(
        run("catalog", "build", recordings, "-o", catalogue.path, "--model", model_path), "exists already"
    )
    refused(run("train", catalogue.path, "-o", model_path, "--init", model_path), "exists already")
    clip, where = tmp_path / "clip.flac", ["--seconds", "0.3", "--model", model_path]
    clip.write_bytes(b"a master")
    refused(run("generate", "--prompt", "tone 1", "-o", clip, *where), "exists already")
    assert clip.read_bytes() == b"a master" and [path.name for path in tmp_path.iterdir()] == ["clip.flac"]


def test_a_generated_clip_is_kept_if_it_is_the_same_and_else_refused(
    tmp_path: Path, model_path: Path
) -> None:
    clip = tmp_path / "clip.flac"
    words = ["generate", "--prompt", "tone 1", "-o", clip, "--seconds", "0.3", "--model", model_path]
    assert run(*words).exit_code == 0
    sidecar = clip.with_name("clip.flac.safetensors")
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in (clip, sidecar)]
    assert run(*words).exit_code == 0
    refused(
        run(*words, "--seed", "1"), "exists already and is not this clip: choose another name or remove it"
    )
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in (clip, sidecar)] == before
    clip.unlink()  # as a run leaves it that is stopped between the two
    assert run(*words).exit_code == 0 and clip.read_bytes() == before[0][0]
    write_sound(clip, Sound(np.full((1, 800), 0.5, dtype=np.float32), 8000))
    refused(run(*words), "exists already and is not this clip")


def test_ctrl_c_is_a_sentence(
    tmp_path: Path, recordings: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("linernotes.catalog.pieces._encode", interrupt)
    result = run("catalog", "build", recordings, "-o", tmp_path / "c", "--model", model_path)
    refused(result, "stopped: the same command goes on from whatever was finished", code=130)
    assert not (tmp_path / "c").exists()


def test_a_full_disk_is_a_sentence(tmp_path: Path, model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")  # what safetensors raises

    monkeypatch.setattr("safetensors.torch.save_file", full)
    result = run("generate", "--prompt", "tone 1", "-o", tmp_path / "clip.flac", "--model", model_path)
    refused(result, "the disk is full")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("take", [torch.empty, np.empty])
def test_full_memory_is_a_sentence(
    tmp_path: Path,
    recordings: Path,
    model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    take: Callable[[int], object],
) -> None:
    monkeypatch.setattr("linernotes.catalog.pieces._encode", lambda *_: take(10**15))
    result = run("catalog", "build", recordings, "-o", tmp_path / "c", "--model", model_path)
    refused(result, "memory is full: end other programs, give a smaller --batch-size")
    assert not (tmp_path / "c").exists()


def test_impossible_durations_are_refused(tmp_path: Path, model_path: Path) -> None:
    result = run(
        "generate", "--prompt", "tone 1", "--seconds", 60, "-o", tmp_path / "clip.flac", "--model", model_path
    )
    refused(result, "--seconds 60 is out of range: this model generates 0.06 to 0.51 s", code=2)


def test_every_public_name_is_a_function() -> None:
    import linernotes.api.evaluating  # importing a room must not hide a function of the same name

    for name in set(linernotes.__all__) - {"__version__"}:
        assert callable(getattr(linernotes, name)), name


def test_methods_are_listed() -> None:
    listed = json.loads(run("methods", "--json").stdout)
    assert [m["name"] for m in listed[:3]] == ["readout", "abu", "abu-ekfac"]
    shown = run("methods").stdout
    assert all(m["name"] in shown for m in listed)


def test_methods_are_compared_planned_and_searched(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    where = ["--model", model_path, "--catalog", catalogue.path]
    clip = tmp_path / "clip.flac"
    run("generate", "--prompt", "tone 1", "-o", clip, "--model", model_path)
    done = run("compare", clip, "-o", tmp_path / "c", "--methods", "latent,random", *where, "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["methods"] == ["latent", "random"]
    planned = run("plan", "--methods", "abu", "--draws", 2, *where, "--json")
    assert planned.exit_code == 0 and json.loads(planned.stdout)[0]["once_forwards"] > 0
    grid = ["--grid", "damping=0.1,0.01", "--segments", 2, "--candidates", 4]
    found = run("search", "-o", tmp_path / "s", *grid, *where, *QUICK, "--json")
    assert found.exit_code == 0 and len(json.loads(found.stdout)["trials"]) == 2
    best = tmp_path / "s/best.toml"
    assert run("attribute", clip, *where, "--settings", best, "-o", tmp_path / "out").exit_code == 0
    refused(
        run("attribute", clip, *where, "--settings", best, "--method", "trak", "-o", tmp_path / "x"),
        "best.toml holds settings for 'readout', not for 'trak'",
        code=2,
    )


def test_bad_methods_and_settings_are_sentences(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    clip, where = tmp_path / "clip.flac", ["--model", model_path, "--catalog", catalogue.path]
    run("generate", "--prompt", "tone 1", "-o", clip, "--model", model_path)
    attribute = ("attribute", clip, *where, "-o", tmp_path / "x")
    refused(run(*attribute, "--method", "tuba"), "there is no method 'tuba': choose one of readout", code=2)
    refused(
        run(*attribute, "--method", "tonal", "--steps", 2), "setting steps = 2 for tonal is refused", code=2
    )
    refused(run(*attribute, "--method", "clap"), "give its folder with --clap", code=2)
    refused(run(*attribute, "--method", "clap", "--clap", tmp_path), "is no CLAP checkpoint")
    refused(run(*attribute, "--method", "forward-inf", "--step-size", 1e30), "finite")
    search = ("search", "-o", tmp_path / "s", *where)
    refused(run(*search, "--grid", "damping="), "names no values", code=2)
    refused(
        run(*search, "--grid", "damping=0.1", "--metric", "tuba"),
        "setting metric = 'tuba' is refused",
        code=2,
    )
    refused(
        run(*search, "--grid", "damping=0.1", "--segments", 3, "--candidates", 2),
        "--candidates 2 is fewer",
        code=2,
    )
    refused(run("compare", clip, *where, "--together", "-o", tmp_path / "c"), "leave out --together", code=2)
    assert not (tmp_path / "x").exists() or not any((tmp_path / "x").rglob("attribution.json"))
