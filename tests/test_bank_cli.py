"""The verbs that hold attributions against retraining, on a tiny model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

import linernotes
from linernotes.artefacts import load_tensors, save_tensors
from linernotes.catalog.store import Catalogue
from linernotes.cli.app import app
from linernotes.demo import places
from linernotes.errors import LinernotesWarning, UsageError
from linernotes.evaluation.bank.folder import BANK_FILE
from linernotes.evaluation.bank.store import BANK, plan_retrains, read_bank

METHODS = "latent,random"


@pytest.fixture(scope="module", autouse=True)
def one_after_the_other(one_thread: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Retrains run in this process: starting others takes seconds, and they give the same bytes
    (tests/test_truth.py).
    """
    with one_thread():
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, catalogue: Catalogue, model_path: Path) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "model"
    linernotes.train_model(catalogue, folder, model_path, steps=3, batch_size=4)
    return folder


@pytest.fixture(scope="module")
def where(trained: Path, catalogue: Catalogue) -> list[str]:
    return ["--model", str(trained), "--catalog", str(catalogue.path)]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, where: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("banks") / "bank"
    prompts = folder.with_name("prompts.csv")
    prompts.write_text(
        "prompt,split,heard\ntone 0,reporting,yes\ntone 1,reporting,\ntone 2,reporting,\na "
        "tone,tuning,\ntone,tuning,\n"
    )
    done = run(
        "bank",
        "build",
        "-o",
        folder,
        *where,
        "--prompts",
        prompts,
        "--halves",
        8,
        "--again",
        2,
        "--full",
        2,
        "--draws",
        2,
    )
    assert done.exit_code == 0, done.output
    return folder


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def told(*words: object) -> dict:
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_bank_is_shown_with_what_its_models_learned(bank: Path, where: list[str]) -> None:
    lines = told("bank", "show", "--bank", bank, *where)
    assert [line["kind"] for line in lines].count("half") == 8 and len(lines) == 12
    assert all(np.isfinite(line["own_loss"]) for line in lines)
    assert "12 models" in run("bank", "show", "--bank", bank, *where).stdout


def test_lds_is_told_as_the_issue_says_and_saved(bank: Path, where: list[str], tmp_path: Path) -> None:
    words = ("evaluate", "lds", "--bank", bank, *where, "--methods", METHODS, "-o", tmp_path)
    found = told(*words)
    assert 0 <= found["ceiling"] <= 1 and found["reference"] == found["methods"][0]["method"]
    assert {m["method"] for m in found["methods"]} == {"latent", "random"}
    for method in found["methods"]:
        assert method["low"] <= method["lds"] <= method["high"] and 1 <= method["kept"] < 7
    assert pq.read_table(tmp_path / "lds.parquet").num_rows == 2 and (
        tmp_path / "lds.svg"
    ).read_text().startswith("<svg")
    assert told(*words) == found  # from the scores that are kept beside the bank
    by_prediction = told(
        "evaluate",
        "lds",
        "--bank",
        bank,
        *where,
        "--methods",
        METHODS,
        "--output",
        "prediction",
        "-o",
        tmp_path,
    )
    assert by_prediction["output"] == "prediction"


def test_a_bank_with_its_kept_scores_is_all_that_the_table_over_benchmarks_needs(
    bank: Path, where: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the model nor the catalogue is there under the name; a mean over segments is no sum."""
    lds = told("evaluate", "lds", "--bank", bank, *where, "--methods", METHODS)
    shutil.copytree(bank, tmp_path / "deep")
    monkeypatch.setattr(places, "BUNDLE", tmp_path)
    words = (
        "evaluate",
        "benchmarks",
        "--benchmarks",
        "deep",
        "--methods",
        METHODS,
        "-o",
        tmp_path / "page.md",
    )
    found = told(*words)
    assert {m["method"]: m["lds_deep"] for m in found["methods"]} == {
        m["method"]: m["lds"] for m in lds["methods"]
    }
    page = (tmp_path / "page.md").read_text()
    assert "linernotes evaluate benchmarks" in page and "## A track's score from its segments'" in page
    assert all(page.count(f"| `random, {way}` |") == 1 for way in ("sum", "mean", "max"))
    refused = run(*words[:3], "long", *words[4:])
    assert refused.exit_code == 1 and "no retrain bank of the benchmark long" in " ".join(
        refused.stderr.split()
    )


def test_scores_from_elsewhere_stand_beside_the_methods(bank: Path, where: list[str], tmp_path: Path) -> None:
    read = read_bank(bank)
    rows = [
        {"query": q.name, "track_id": t, "score": float(i + j)}
        for i, q in enumerate(read.queries)
        for j, t in enumerate(read.tracks)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "mine.parquet")
    words = ("evaluate", "lds", "--bank", bank, *where, "--methods", "random", "-o", tmp_path)
    found = told(*words, "--scores", f"mine={tmp_path / 'mine.parquet'}")
    assert {m["method"] for m in found["methods"]} == {"random", "mine"}
    refused = run(*words, "--scores", "mine")
    assert refused.exit_code == 2 and "write --scores NAME=FILE" in " ".join(refused.stderr.split())


def test_leave_k_out_trains_and_is_read_back(bank: Path, where: list[str], tmp_path: Path) -> None:
    words = ("evaluate", "counterfactual", "--bank", bank, *where)
    missing = run(*words, "-o", tmp_path)
    assert missing.exit_code == 1 and "there is no leave-k-out" in " ".join(missing.stderr.split())
    found = told(*words, "--methods", METHODS, "--percent", 30, "-o", tmp_path)
    cases = [(m["method"], m["retrains"], m["clips"], m["tracks"]) for m in found["methods"]]
    assert cases == [("at random", 4, 1, 2.0), ("latent", 1, 1, 2.0), ("random", 1, 1, 2.0)]
    assert told(*words, "-o", tmp_path) == found  # now it is there
    unnamed = run(*words, "-o", tmp_path, "--scores", "mine=nowhere.parquet")
    assert unnamed.exit_code == 2 and "--scores needs --methods" in " ".join(unnamed.stderr.split())
    of_another_seed = told(*words, "--methods", "random", "--seed", 1, "--percent", 30, "-o", tmp_path)[
        "methods"
    ]
    assert [(m["method"], m["retrains"]) for m in of_another_seed] == [
        ("latent", 1),
        ("at random", 4),
        ("random", 1),
    ]
    pooled = told(*words, "--methods", "latent", "--percent", 30, "--pooled", "-o", tmp_path)  # is added
    assert {(m["method"], m["pooled"]) for m in pooled["methods"]} >= {
        (m, False) for m in ("at random", "latent", "random")
    }
    assert [(m["method"], m["retrains"]) for m in pooled["methods"] if m["pooled"]] == [
        ("at random", 4),
        ("latent", 2),
    ]


def test_groups_hubs_and_repeatability(bank: Path, where: list[str], tmp_path: Path) -> None:
    rest = ("--bank", bank, *where, "--methods", METHODS, "-o", tmp_path)
    groups = told("evaluate", "groups", "--by", "caption", *rest)
    assert set(groups["rises"]) == {"tone 0", "tone 1", "tone 2"}
    assert all(0 <= m["ndcg"] <= 1 for m in groups["methods"])
    assert all(h["queries"] == 3 for h in told("evaluate", "hubs", *rest)["methods"])
    repeated = {m["method"]: m for m in told("evaluate", "repeatability", *rest)["methods"]}
    assert repeated["latent"]["pearson"] == pytest.approx(1) and repeated["random"]["pearson"] < 0.9
    assert {p.name for p in tmp_path.glob("*.svg")} >= {"groups-caption.svg", "hubs.svg", "repeatability.svg"}


def test_an_evaluation_says_the_same_on_a_terminal_in_markdown_and_in_json(
    bank: Path, where: list[str], tmp_path: Path
) -> None:
    for verb in (("lds",), ("hubs",), ("groups", "--by", "caption")):
        words = ("evaluate", *verb, "--bank", bank, *where, "--methods", METHODS)
        printed = run(*words, "-o", tmp_path).stdout
        (page,) = tmp_path.glob("*.md")
        rows = [
            line.strip("| ").split(" | ") for line in page.read_text().splitlines() if line.startswith("| `")
        ]
        assert [row[0].strip("`") for row in rows] == [
            m["method"] for m in told(*words, "-o", tmp_path)["methods"]
        ]
        assert all(cell.strip("`") in printed for row in rows for cell in row)
        page.unlink()


def test_a_leaderboard_has_every_method_and_the_lds_that_is_told_alone(
    bank: Path, where: list[str], tmp_path: Path
) -> None:
    words = ("--bank", bank, *where, "--methods", METHODS)
    board = told("evaluate", "leaderboard", "-o", tmp_path / "board.md", *words)
    assert board == told("evaluate", "lds", *words)
    page = (tmp_path / "board.md").read_text()
    assert (tmp_path / "board-lds.svg").exists() and "Not trained yet" in page
    for method in board["methods"]:
        written = f"{method['lds']:.2f} [{method['low']:.2f}, {method['high']:.2f}]"
        assert f"| `{method['method']}` | {written} |" in page


def test_a_search_by_lds_uses_the_tuning_clips(bank: Path, where: list[str], tmp_path: Path) -> None:
    words = (
        "search",
        "--method",
        "random",
        "--metric",
        "lds",
        "--grid",
        "seed=1,2,3",
        "--bank",
        bank,
        *where,
        "-o",
        tmp_path,
    )
    trials = told(*words)["trials"]
    values = [trial["values"]["lds"] for trial in trials]
    assert values == sorted(values, reverse=True) and len(values) == 3


def test_a_bank_of_another_model_is_refused(bank: Path, model_path: Path, catalogue: Catalogue) -> None:
    refused = run("evaluate", "lds", "--bank", bank, "--model", model_path, "--catalog", catalogue.path)
    assert refused.exit_code == 1 and "is the bank of another model" in " ".join(refused.stderr.split())
    unsaid = run(
        "bank", "build", "-o", bank.with_name("other"), "--model", model_path, "--catalog", catalogue.path
    )
    assert unsaid.exit_code == 1 and "training.json is missing" in " ".join(unsaid.stderr.split())


def test_an_attribution_is_verified_and_can_be_heard(
    trained: Path, catalogue: Catalogue, where: list[str], tmp_path: Path
) -> None:
    clip = linernotes.generate("tone 1", tmp_path / "clip.flac", seed=5, model=trained)
    linernotes.attribute(clip, tmp_path / "out", trained, catalogue.path, method="latent")
    words = ("verify", tmp_path / "out", "-o", tmp_path / "verified", "--k", 2, "--repeats", 1, *where)
    found = told(*words)
    assert [r["arm"] for r in found["remade"]] == ["first", "random"] and all(
        len(r["left_out"]) == 2 for r in found["remade"]
    )
    page = (tmp_path / "verified" / "verify.html").read_text()
    assert page.count("data:audio/mpeg") == 5 and "Without the 2 tracks named first" in page
    assert told(*words) == found  # nothing is trained twice
    other = run("verify", tmp_path / "out", "-o", tmp_path / "x", "--model", trained, "--catalog", "builtin")
    assert other.exit_code == 1 and "made with another catalogue" in " ".join(other.stderr.split())
    many = run(*(word if word != 2 else 5 for word in words))
    assert many.exit_code == 2 and "5 of 7 tracks cannot be left out" in " ".join(many.stderr.split())


def test_a_bank_without_its_clips_still_says_what_was_scored(
    bank: Path, where: list[str], tmp_path: Path
) -> None:
    there = tmp_path / "bank"
    shutil.copytree(bank, there)
    scored = told("evaluate", "lds", "--bank", there, *where, "--methods", "random")
    tensors, header = load_tensors(there / BANK_FILE, BANK)
    del tensors["latents_qct"]
    save_tensors(there / BANK_FILE, tensors, BANK, header)
    assert told("evaluate", "lds", "--bank", there, *where, "--methods", "random") == scored
    assert not any(line["wrong"] for line in told("bank", "show", "--bank", there, *where))
    done = run("evaluate", "lds", "--bank", there, *where, "--methods", "tonal")
    assert done.exit_code == 1 and "not the clips" in done.output and "bank build" in done.output


def test_a_bank_with_models_that_went_wrong_is_measured_by_the_others_and_names_them(
    bank: Path, where: list[str], tmp_path: Path
) -> None:
    there = tmp_path / "bank"
    shutil.copytree(bank, there)
    tensors, header = load_tensors(there / BANK_FILE, BANK)
    names = [retrain["name"] for retrain in header["retrains"]]
    broken = "half-001"
    tensors["loss_mqk"][names.index(broken)] = float("nan")
    save_tensors(there / BANK_FILE, tensors, BANK, header)
    with pytest.warns(LinernotesWarning, match=f"{broken} went wrong .losses or clips are not finite."):
        left = linernotes.open_bank(there, *where[1::2]).bank
    gone = [name for name in names if name.partition("-again")[0] == broken]
    assert left.names == [name for name in names if name not in gone] and len(gone) >= 1
    assert np.array_equal(left.loss_mqk, read_bank(bank).without(gone).loss_mqk)
    assert np.isfinite(left.loss_mqk).all() and len(left.runs()) == len(read_bank(bank).runs()) - 1
    done = run("evaluate", "lds", "--bank", there, *where, "--methods", "random", "--json")
    # of this bank too few halves are left; that is the sentence, after the one that names the model
    assert done.exit_code == 1 and f"left out: {there / BANK_FILE}: {broken} went wrong" in done.stderr
    assert "Warning" not in done.stderr and "7 halves" in done.stderr


@pytest.mark.parametrize("tracks", [0, 1])
def test_halves_of_a_track_are_refused_before_anything_is_trained(tracks: int) -> None:
    with pytest.raises(UsageError, match=f"^a half of {tracks} training track"):
        plan_retrains(tracks, halves=8, again=2, full=2, seed=0)
