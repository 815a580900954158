"""From a clip to an attribution: the files, their laws, the page, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

import linernotes
from conftest import FRAME_SAMPLES, RATE_HZ, SEGMENT_SAMPLES, tone, write_model
from linernotes.attribution.query import load_clip
from linernotes.attribution.result import Attribution, gather_tracks, rank_tracks
from linernotes.audio import AudioError
from linernotes.catalog.source import Track
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.search import write_settings
from linernotes.models.stable_audio import StableAudio
from linernotes.settings.methods import DEFAULT_METHOD, METHOD_SETTINGS, AbuSettings, TrakSettings
from linernotes.settings.reading import read_settings

QUICK = {"draws": 3, "gradient_draws": 8, "step_size": 2e-5}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> Path:
    return linernotes.generate("tone 1", tmp_path_factory.mktemp("clips") / "clip.flac", seed=5, model=model_path)


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory, clip: Path, model_path: Path, catalogue: Catalogue
) -> tuple[Path, Attribution]:
    out = tmp_path_factory.mktemp("done") / "out"
    (attribution,) = linernotes.attribute(clip, out, model_path, catalogue.path, **QUICK)
    return out, attribution


def test_the_files_are_there_and_agree(done: tuple[Path, Attribution], catalogue: Catalogue) -> None:
    out, attribution = done
    assert sorted(path.name for path in out.iterdir()) == ["attribution.json", "report.html", "scores.parquet"]
    assert Attribution.load(out / "attribution.json") == attribution
    table = pq.read_table(out / "scores.parquet")
    assert table.num_rows == len(catalogue)
    assert b"higher = removing it would hurt" in table.schema.metadata[b"orientation"]
    sums = table.group_by("track_id").aggregate([("score", "sum")]).to_pylist()
    by_track = {row["track_id"]: row["score_sum"] for row in sums}
    assert [t.rank for t in attribution.tracks] == list(range(1, len(catalogue.tracks) + 1))
    for t in attribution.tracks:
        assert t.score == pytest.approx(by_track[t.track_id])
    scores = [t.score for t in attribution.tracks]
    assert scores == sorted(scores, reverse=True)


def test_a_saved_attribution_replays_to_the_same_scores(
    tmp_path: Path, done: tuple[Path, Attribution], clip: Path, model_path: Path, catalogue: Catalogue
) -> None:
    method, settings = read_settings(None, done[0] / "attribution.json", {})
    (again,) = linernotes.attribute(
        clip, tmp_path / "again", model_path, catalogue.path, method=method, **settings.model_dump()
    )
    assert again == done[1]


def test_several_clips_at_once_are_attributed_as_one_by_one(
    tmp_path: Path, done: tuple[Path, Attribution], clip: Path, model_path: Path, catalogue: Catalogue
) -> None:
    other = linernotes.generate("tone 2", tmp_path / "other.wav", seed=6, seconds=0.3, model=model_path)
    both = linernotes.attribute([clip, other], tmp_path / "both", model_path, catalogue.path, **QUICK)
    assert both[0] == done[1]
    assert (tmp_path / "both" / "other" / "report.html").exists()
    assert both[1].query.seconds == 0.3


def test_the_page_needs_nothing_from_outside(done: tuple[Path, Attribution]) -> None:
    page = (done[0] / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert not re.findall(r"url\((?!#)", page)
    assert page.count("<audio") == 8  # the clip and the seven training tracks; decoys are not shown
    assert "tone 1" in page


def test_track_text_cannot_break_the_page(tmp_path: Path, clip: Path, model_path: Path, recordings: Path) -> None:
    folder = tmp_path / "sounds"
    folder.mkdir()
    soundfile.write(folder / "a.wav", tone(300, SEGMENT_SAMPLES), RATE_HZ)
    (folder / "metadata.csv").write_text('file_name,title\na.wav,"<script>alert(1)</script>"\n')
    linernotes.build_catalogue(folder, tmp_path / "catalogue", model_path)
    linernotes.attribute(clip, tmp_path / "out", model_path, tmp_path / "catalogue", **QUICK)
    assert "<script>alert" not in (tmp_path / "out" / "report.html").read_text()


def test_tracks_gather_their_segments() -> None:
    np.testing.assert_allclose(gather_tracks(np.array([1.0, 2.0, 4.0]), np.array([1, 0, 1]), 3), [2.0, 5.0, 0.0])


def test_ranks_count_the_decoys_above() -> None:
    tracks = [Track(f"{i}", "", "", split=split) for i, split in enumerate(["train", "decoy", "train", "decoy"])]
    ranked = rank_tracks(np.array([3.0, 2.0, 1.0, 0.0]), np.arange(4), np.zeros(4), tracks)
    assert [(t.track_id, t.decoys_above) for t in ranked] == [("0", 0), ("1", 0), ("2", 1), ("3", 1)]


def test_generated_latents_are_what_is_attributed(clip: Path, model: StableAudio) -> None:
    loaded = load_clip(clip, model, None)
    latents = model.sample("tone 1", model.shape.segment_s, 5)[0]
    assert bool((loaded.query.latents_ct == latents).all())
    assert loaded.query.prompt == "tone 1"


def test_any_sound_with_a_prompt_is_a_query(tmp_path: Path, model: StableAudio) -> None:
    soundfile.write(tmp_path / "mine.wav", tone(440, 3 * FRAME_SAMPLES), RATE_HZ)
    query = load_clip(tmp_path / "mine.wav", model, "a low tone").query
    assert query.heard_t.tolist() == [True] * 3 + [False] * 5
    with pytest.raises(UsageError, match="say with --prompt"):
        load_clip(tmp_path / "mine.wav", model, None)


@pytest.mark.parametrize(
    ("samples", "sentence"),
    [(FRAME_SAMPLES - 1, "less than one latent frame"), (SEGMENT_SAMPLES + 1, "hears at most 0.51 s: cut it")],
)
def test_clips_of_a_wrong_length_are_refused(tmp_path: Path, model: StableAudio, samples: int, sentence: str) -> None:
    soundfile.write(tmp_path / "mine.wav", tone(440, samples), RATE_HZ)
    with pytest.raises(LinernotesError, match=sentence):
        load_clip(tmp_path / "mine.wav", model, "a low tone")


def test_an_edited_clip_is_not_taken_for_the_generated_one(tmp_path: Path, model_path: Path, model: StableAudio) -> None:
    clip = linernotes.generate("tone 1", tmp_path / "clip.wav", seed=1, model=model_path)
    samples, rate_hz = soundfile.read(clip)
    soundfile.write(clip, samples[::-1], rate_hz)
    with pytest.raises(LinernotesError, match="no longer what its sidecar"):
        load_clip(clip, model, None)


def test_a_clip_of_another_model_is_refused(tmp_path: Path, clip: Path, model: StableAudio) -> None:
    other = StableAudio(write_model(tmp_path / "other", seed=1))
    with pytest.raises(LinernotesError, match="was generated by tiny, not by other"):
        load_clip(clip, other, None)
    with pytest.raises(UsageError, match="leave out --prompt"):
        load_clip(clip, model, "something else")


def test_a_truncated_clip_is_refused(tmp_path: Path, clip: Path, model: StableAudio) -> None:
    (tmp_path / "clip.flac").write_bytes(clip.read_bytes()[:-500])
    with pytest.raises(AudioError):
        load_clip(tmp_path / "clip.flac", model, "tone 1")


def test_an_attribution_of_another_version_is_refused(tmp_path: Path, done: tuple[Path, Attribution]) -> None:
    content = json.loads((done[0] / "attribution.json").read_text())
    (tmp_path / "attribution.json").write_text(json.dumps({**content, "schema_version": 0}))
    with pytest.raises(LinernotesError, match="schema version 0"):
        Attribution.load(tmp_path / "attribution.json")


def test_settings_come_from_flags_then_file_then_defaults(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('layers = "mlp"\ndraws = 4\n')
    method, settings = read_settings("abu", tmp_path / "mine.toml", {"draws": 8, "seed": None})
    assert method == "abu" and isinstance(settings, AbuSettings)
    assert (settings.layers, settings.draws, settings.seed) == ("mlp", 8, AbuSettings().seed)
    with pytest.raises(UsageError, match=r"setting draws = 0 for abu is refused"):  # the flag's mistake is not the file's
        read_settings("abu", tmp_path / "mine.toml", {"draws": 0})
    with pytest.raises(UsageError, match=r"setting drawz = 4 for abu is refused.*the settings are seed"):
        read_settings("abu", None, {"drawz": 4})
    with pytest.raises(UsageError, match="setting layers = 'tuba' for abu is refused"):
        read_settings("abu", None, {"layers": "tuba"})
    assert read_settings(None, None, {}) == (DEFAULT_METHOD, METHOD_SETTINGS[DEFAULT_METHOD]())


def test_settings_for_another_method_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "best.toml"
    write_settings(path, "trak", {"damping": 0.5, "layers": "mlp"})
    method, settings = read_settings(None, path, {})
    assert method == "trak" and settings == TrakSettings(damping=0.5, layers="mlp")
    with pytest.raises(UsageError, match=r"best.toml holds settings for 'trak', not for 'abu'.*--method trak"):
        read_settings("abu", path, {})
    with pytest.raises(UsageError, match=r"setting steps = 3 for tonal is refused"):
        read_settings("tonal", None, {"steps": 3})
    with pytest.raises(UsageError, match="there is no method 'tuba': choose one of readout, abu"):
        read_settings("tuba", None, {})
