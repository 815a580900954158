"""From a clip to an attribution: the files, their laws, the page, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

import linernotes
from conftest import FRAME_SAMPLES, RATE_HZ, SEGMENT_SAMPLES, tone, write_model, write_recordings
from linernotes.attribution.prepare import prepare
from linernotes.attribution.query import load_clip
from linernotes.attribution.result import KEPT_TRACKS, Attribution, Effect, rank_tracks
from linernotes.attribution.run import attribute_clips
from linernotes.attribution.tables import read_evidence, read_track_scores
from linernotes.audio import AudioError
from linernotes.catalog.gathering import stray_of
from linernotes.catalog.store import Catalogue
from linernotes.catalog.track import Track
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.search import write_settings
from linernotes.models.stable_audio import StableAudio
from linernotes.report.page import uncalibrated
from linernotes.settings.methods import DEFAULT_METHOD, METHOD_SETTINGS, AbuSettings, TrakSettings
from linernotes.settings.reading import read_settings

QUICK = {"draws": 3, "gradient_draws": 8, "step_size": 2e-5}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> Path:
    return linernotes.generate(
        "tone 1", tmp_path_factory.mktemp("clips") / "clip.flac", seed=5, model=model_path
    )


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory, clip: Path, model_path: Path, catalogue: Catalogue
) -> tuple[Path, Attribution]:
    out = tmp_path_factory.mktemp("done") / "out"
    (attribution,) = linernotes.attribute(clip, out, model_path, catalogue.path, **QUICK)
    return out, attribution


def test_the_files_are_there_and_agree(done: tuple[Path, Attribution], catalogue: Catalogue) -> None:
    out, attribution = done
    assert sorted(path.name for path in out.iterdir()) == [
        "alignment.parquet",
        "attribution.json",
        "evidence.parquet",
        "report.html",
        "scores.parquet",
    ]
    assert Attribution.load(out / "attribution.json") == attribution
    table = pq.read_table(out / "scores.parquet")
    assert table.num_rows == len(catalogue)
    assert b"higher = removing it would hurt" in table.schema.metadata[b"orientation"]
    segments = table.group_by("track_id").aggregate([("score", "list")]).to_pylist()
    by_track = {row["track_id"]: np.array(row["score_list"]) for row in segments}
    rows, count_t = catalogue.training_rows, np.bincount(catalogue.track_n)
    seen_n = len(rows) / len(np.unique(catalogue.track_n[rows])) / count_t[catalogue.track_n]
    stray = stray_of((table["score"].to_numpy() / seen_n)[rows])
    seen = dict(zip(table["track_id"].to_pylist(), seen_n, strict=True))
    assert [t.rank for t in attribution.tracks] == list(range(1, len(catalogue.tracks) + 1))
    for t in attribution.tracks:
        own = by_track[t.track_id]
        square = (own[own > 0] ** 2).sum() if (own > 0).any() else -(own.max() ** 2)
        square -= (len(own) - 1) * stray * seen[t.track_id] ** 2
        assert t.score == pytest.approx(np.sign(square) * abs(square) ** 0.5)
    assert max(map(len, by_track.values())) > 1 and attribution.gather == "norm"
    assert "with these settings, of tracks of several segments, were never calibrated" in uncalibrated(
        attribution
    )
    assert "settings and of tracks of several segments have no unit" in (out / "report.html").read_text()
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
    assert both[0].model_dump(exclude={"sources"}) == done[1].model_dump(exclude={"sources"})
    assert (tmp_path / "both" / "other" / "report.html").exists()
    assert both[1].query.seconds == 0.3


def test_the_page_needs_nothing_from_outside(done: tuple[Path, Attribution]) -> None:
    page = (done[0] / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert not re.findall(r"url\((?!#)", page)
    assert page.count("<audio controls") == 8  # the clip and the seven training tracks; decoys are not shown
    assert "tone 1" in page


def test_track_text_cannot_break_the_page(
    tmp_path: Path, clip: Path, model_path: Path, recordings: Path
) -> None:
    folder = tmp_path / "sounds"
    folder.mkdir()
    soundfile.write(folder / "a.wav", tone(300, SEGMENT_SAMPLES), RATE_HZ)
    (folder / "metadata.csv").write_text('file_name,title\na.wav,"<script>alert(1)</script>"\n')
    linernotes.build_catalogue(folder, tmp_path / "catalogue", model_path)
    linernotes.attribute(clip, tmp_path / "out", model_path, tmp_path / "catalogue", **QUICK)
    assert "<script>alert" not in (tmp_path / "out" / "report.html").read_text()


def test_a_record_from_before_norms_is_read_as_it_was_made(
    clip: Path, tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    """Its tracks have the sums of their segments, and another answer is not written over it."""
    out = tmp_path / "out"
    linernotes.attribute(clip, out, model_path, catalogue.path, **QUICK)
    table = pq.read_table(out / "scores.parquet")
    pq.write_table(table.drop_columns(["track_score"]), out / "scores.parquet")
    record = json.loads((out / "attribution.json").read_text())
    del record["gather"]
    (out / "attribution.json").write_text(json.dumps(record))
    scores_t = np.bincount(catalogue.track_n, table["score"].to_numpy())
    found, _ = read_track_scores(out, DEFAULT_METHOD)
    assert list(found.values()) == pytest.approx(scores_t.tolist())
    with pytest.raises(LinernotesError, match="holds another attribution already"):
        linernotes.attribute(clip, out, model_path, catalogue.path, **QUICK)


@pytest.mark.parametrize("drawn", ["segments", "tracks"])
def test_an_audit_gathers_the_scores_of_tracks_anew(
    clip: Path, tmp_path: Path, model_path: Path, catalogue: Catalogue, drawn: str
) -> None:
    """So a track's score cannot be changed in record and table alike."""
    out, what = tmp_path / "out", "scores are those of scores.parquet"
    (read,) = linernotes.attribute(clip, out, model_path, catalogue.path, drawn=drawn, **QUICK)

    def outcome() -> str:
        (check,) = (check for check in linernotes.audit(out) if check.what == what)
        return check.outcome + check.detail

    assert outcome().startswith("holds")
    table, first = pq.read_table(out / "scores.parquet"), read.tracks[0]
    own = np.array(table["track_id"].to_pylist()) == first.track_id
    more = pa.array(np.where(own, 1.01, 1.0) * table["track_score"].to_numpy())
    column = table.column_names.index("track_score")
    pq.write_table(table.set_column(column, "track_score", more), out / "scores.parquet")
    changed = first.model_copy(update={"score": 1.01 * first.score})
    read.model_copy(update={"tracks": [changed, *read.tracks[1:]]}).save(out / "attribution.json")
    assert f"track_score of {first.track_id}" in outcome()


def test_ranks_count_the_decoys_above() -> None:
    tracks = [
        Track(f"{i}", "", "", split=split) for i, split in enumerate(["train", "decoy", "train", "decoy"])
    ]
    scores = np.array([3.0, 2.0, 1.0, 0.0])
    ranked = rank_tracks(scores, np.arange(4), np.zeros(4), tracks, scores)
    assert [(t.track_id, t.decoys_above) for t in ranked] == [("0", 0), ("1", 0), ("2", 1), ("3", 1)]


def test_generated_latents_are_what_is_attributed(clip: Path, model: StableAudio) -> None:
    loaded = load_clip(clip, model, None)
    latents = model.sample("tone 1", model.encoding.segment_s, 5)[0]
    assert bool((loaded.query.latents_ct == latents).all())
    assert loaded.query.prompt == "tone 1"


def test_any_sound_with_a_prompt_is_a_query(tmp_path: Path, model: StableAudio) -> None:
    soundfile.write(tmp_path / "mine.wav", tone(440, 3 * FRAME_SAMPLES), RATE_HZ)
    query = load_clip(tmp_path / "mine.wav", model, "a low tone").query
    assert query.heard_t.tolist() == [True] * 3 + [False] * 5
    unprompted = load_clip(tmp_path / "mine.wav", model, None)
    assert not unprompted.prompt_known
    assert bool((unprompted.query.text_ld == model.embed_text([""])[0]).all())


def test_a_clip_below_one_frame_is_refused(tmp_path: Path, model: StableAudio) -> None:
    soundfile.write(tmp_path / "mine.wav", tone(440, FRAME_SAMPLES - 1), RATE_HZ)
    with pytest.raises(LinernotesError, match="less than one latent frame"):
        load_clip(tmp_path / "mine.wav", model, "a low tone")


@pytest.mark.parametrize("samples", [SEGMENT_SAMPLES + 1, SEGMENT_SAMPLES + FRAME_SAMPLES - 1])
def test_a_surplus_below_one_frame_is_cut(tmp_path: Path, model: StableAudio, samples: int) -> None:
    sound = tone(440, samples)
    soundfile.write(tmp_path / "longer.wav", sound, RATE_HZ)
    soundfile.write(tmp_path / "exact.wav", sound[:SEGMENT_SAMPLES], RATE_HZ)
    longer, exact = (load_clip(tmp_path / name, model, "x") for name in ("longer.wav", "exact.wav"))
    assert len(longer.windows) == 1
    assert bool((longer.query.latents_ct == exact.query.latents_ct).all())


def test_a_long_clips_score_is_the_mean_of_its_windows(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    """Cut as a track is; each window scores as it would by itself, and counts by its seconds."""
    sound = tone(440, 2 * SEGMENT_SAMPLES + SEGMENT_SAMPLES // 2)
    parts = {"long": sound, **{f"part{i}": sound[i * SEGMENT_SAMPLES :][:SEGMENT_SAMPLES] for i in range(3)}}
    for name, samples in parts.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE_HZ, subtype="FLOAT")
    where = (model_path, catalogue.path)
    (whole,) = linernotes.attribute(tmp_path / "long.wav", tmp_path / "whole", *where, **QUICK)
    clips = [tmp_path / f"part{i}.wav" for i in range(3)]
    linernotes.attribute(clips, tmp_path / "parts", *where, **QUICK)
    assert whole.query.windows == 3
    table = pq.read_table(tmp_path / "whole/scores.parquet")
    windows = np.stack([table[f"window_{i}"].to_numpy() for i in range(3)])
    alone = [pq.read_table(tmp_path / f"parts/part{i}/scores.parquet")["score"].to_numpy() for i in range(3)]
    np.testing.assert_allclose(windows, alone, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(table["score"].to_numpy(), np.array([0.4, 0.4, 0.2]) @ windows, rtol=1e-9)


def test_what_must_be_known_first_is_in_the_record_and_on_the_page(
    tmp_path: Path, done: tuple[Path, Attribution], model_path: Path, catalogue: Catalogue
) -> None:
    """Sound that the model is not known to have made, an unknown prompt, a model of unknown catalogue: each
    is said.
    """
    soundfile.write(tmp_path / "mine.wav", tone(440, SEGMENT_SAMPLES), RATE_HZ)
    (own,) = linernotes.attribute(
        tmp_path / "mine.wav", tmp_path / "out", model_path, catalogue.path, **QUICK
    )
    page = (tmp_path / "out/report.html").read_text()
    for said in ("not known to come from the model", "nobody knows the prompt", "Nobody vouches"):
        assert said in " ".join(own.cautions) and said in page
    assert [c.split(" that")[0] for c in done[1].cautions] == ["Nobody vouches"]


def test_a_model_of_another_catalogue_is_refused(
    tmp_path: Path, model_path: Path, catalogue: Catalogue, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that linernotes trained knows what it was trained on; decoys added to that are no other
    catalogue.
    """
    linernotes.train_model(catalogue.path, tmp_path / "trained", init=model_path, steps=2, batch_size=2)
    write_recordings(tmp_path / "others", [SEGMENT_SAMPLES] * 2)
    linernotes.build_catalogue(tmp_path / "others", tmp_path / "other", model_path)
    mine = linernotes.generate("tone 1", tmp_path / "mine.flac", seed=5, model=tmp_path / "trained")
    with pytest.raises(LinernotesError, match=r"trained on another catalogue than .+other"):
        linernotes.attribute(
            mine, tmp_path / "out", tmp_path / "trained", tmp_path / "other", method="random"
        )
    (own,) = linernotes.attribute(
        mine, tmp_path / "out", tmp_path / "trained", catalogue.path, method="random"
    )
    assert own.cautions == []
    # another catalogue by its hash, as with decoys added, of the same training segments; they are read a few
    # at a time
    record = json.loads((tmp_path / "trained/training.json").read_text())
    (tmp_path / "trained/training.json").write_text(json.dumps({**record, "catalogue": "another"}))
    monkeypatch.setattr("linernotes.attribution.vouching.ROWS_AT_ONCE", 2)
    assert len(catalogue.training_rows) > 4
    (same,) = linernotes.attribute(
        mine, tmp_path / "again", tmp_path / "trained", catalogue.path, method="random"
    )
    assert same.cautions == []


def test_another_attribution_is_never_written_over(
    tmp_path: Path, model_path: Path, catalogue: Catalogue, clip: Path
) -> None:
    """The same again is found again; another clip, or another method, is refused, and what is there stays."""
    where = (model_path, catalogue.path)
    (first,) = linernotes.attribute(clip, tmp_path / "out", *where, method="random")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert linernotes.attribute(clip, tmp_path / "out", *where, method="random") == [first]
    other = linernotes.generate("tone 2", tmp_path / "other.flac", seed=6, model=model_path)
    for asked, method in ((other, "random"), (clip, "latent")):
        with pytest.raises(LinernotesError, match="holds another attribution"):
            linernotes.attribute(asked, tmp_path / "out", *where, method=method)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_an_edited_clip_is_not_taken_for_the_generated_one(
    tmp_path: Path, model_path: Path, model: StableAudio
) -> None:
    clip = linernotes.generate("tone 1", tmp_path / "clip.wav", seed=1, model=model_path)
    samples, rate_hz = soundfile.read(clip)
    soundfile.write(clip, samples[::-1], rate_hz)
    with pytest.raises(LinernotesError, match="no longer what its sidecar"):
        load_clip(clip, model, None)


def test_a_clip_of_another_model_is_refused(tmp_path: Path, clip: Path, model: StableAudio) -> None:
    other = StableAudio(write_model(tmp_path / "other", seed=1))
    with pytest.raises(LinernotesError, match=r"was generated by tiny \(\w{16}\), not by other \(\w{16}\)"):
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
    with pytest.raises(LinernotesError, match="was written by an older linernotes"):
        Attribution.load(tmp_path / "attribution.json")
    newer = {**content, "schema_version": 99, "linernotes": "9.9"}
    (tmp_path / "attribution.json").write_text(json.dumps(newer))
    for reading in (Attribution.load, lambda path: read_settings(None, path, {}), linernotes.draw_page):
        with pytest.raises(LinernotesError, match=r"was written by a newer linernotes \(9.9"):
            reading(tmp_path / "attribution.json")


def test_settings_come_from_flags_then_file_then_defaults(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('layers = "mlp"\ndraws = 4\n')
    method, settings = read_settings("abu", tmp_path / "mine.toml", {"draws": 8, "seed": None})
    assert method == "abu" and isinstance(settings, AbuSettings)
    assert (settings.layers, settings.draws, settings.seed) == ("mlp", 8, AbuSettings().seed)
    # the flag's mistake is not the file's
    with pytest.raises(UsageError, match=r"setting draws = 0 for abu is refused"):
        read_settings("abu", tmp_path / "mine.toml", {"draws": 0})
    with pytest.raises(UsageError, match=r"setting drawz = 4 for abu is refused.*the settings are seed"):
        read_settings("abu", None, {"drawz": 4})
    with pytest.raises(UsageError, match="setting draws = '-1' for abu is refused"):
        read_settings("abu", None, {"draws": "-1"})
    assert read_settings(None, None, {}) == (DEFAULT_METHOD, METHOD_SETTINGS[DEFAULT_METHOD]())


def test_settings_for_another_method_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "best.toml"
    write_settings(path, "trak", {"damping": 0.5, "layers": "mlp"})
    method, settings = read_settings(None, path, {})
    assert method == "trak" and settings == TrakSettings(damping=0.5, layers="mlp")
    with pytest.raises(
        UsageError, match=r"best.toml holds settings for 'trak', not for 'abu'.*--method trak"
    ):
        read_settings("abu", path, {})
    with pytest.raises(UsageError, match=r"setting steps = 3 for tonal is refused"):
        read_settings("tonal", None, {"steps": 3})
    with pytest.raises(UsageError, match="there is no method 'tuba': choose one of readout, abu"):
        read_settings("tuba", None, {})


def test_evidence_is_the_score_frame_by_frame(
    tmp_path: Path, clip: Path, model_path: Path, model: StableAudio, catalogue: Catalogue
) -> None:
    """The mean over frames of what a segment's loss changed by is its score."""
    prepared = prepare(model, catalogue)
    settings = AbuSettings(draws=3, gradient_draws=8, fisher_draws=1, step_size=2e-5)
    (done,) = attribute_clips([load_clip(clip, model, None)], prepared, "abu", settings, tmp_path)
    table = pq.read_table(tmp_path / "scores.parquet")
    scores: dict[str, float] = {}
    for name, score in zip(table["track_id"].to_pylist(), table["score"].to_pylist(), strict=True):
        scores[name] = max(score, scores.get(name, score))
    whole = {
        name: change_t
        for name, change_t in read_evidence(done.folder).items()
        if len(change_t) == catalogue.encoding.frames
    }
    assert whole
    for name, change_t in whole.items():
        assert change_t.mean() == pytest.approx(scores[name], rel=1e-3, abs=1e-9)


def test_a_page_is_its_record(tmp_path: Path, done: tuple[Path, Attribution], clip: Path) -> None:
    """Drawn again from the files of the attribution, without a model, it is the same page byte for byte."""
    again = linernotes.draw_page(done[0], tmp_path / "again.html")
    assert again.read_bytes() == (done[0] / "report.html").read_bytes()
    assert (
        str(clip) in done[1].sources.command
        and f"--settings {done[0] / 'attribution.json'} -o again" in again.read_text()
    )


def test_a_page_without_its_sounds_says_why(
    tmp_path: Path, model_path: Path, catalogue: Catalogue, recordings: Path
) -> None:
    """Clip gone or changed, catalogue gone or another one: the page is drawn all the same."""
    clip = linernotes.generate("tone 1", tmp_path / "clip.flac", seed=5, model=model_path)
    mine = tmp_path / "mine"
    linernotes.build_catalogue(recordings, mine, model_path)
    linernotes.attribute(clip, tmp_path / "out", model_path, mine, method="random")

    def page() -> str:
        return linernotes.draw_page(tmp_path / "out").read_text()

    assert page().count("<audio") == 8
    kept = clip.read_bytes()
    soundfile.write(clip, tone(300, SEGMENT_SAMPLES), RATE_HZ)
    assert "is no longer the clip that was attributed" in page() and page().count("<audio") == 7
    clip.unlink()
    assert "The clip cannot be heard here" in page()
    clip.write_bytes(kept)
    mine.rename(tmp_path / "away")
    assert "Tracks cannot be heard here: there is no catalogue at" in page() and page().count("<audio") == 1
    write_recordings(tmp_path / "others", [SEGMENT_SAMPLES] * 2)
    linernotes.build_catalogue(tmp_path / "others", mine, model_path)
    assert "is no longer the catalogue that was attributed to" in page()


def test_a_page_that_cannot_be_drawn_costs_no_scores(
    tmp_path: Path, clip: Path, model_path: Path, catalogue: Catalogue
) -> None:
    """A folder stands where the page should be: the record is there, the sentence names the way, and the next
    run draws it.
    """
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    with linernotes.open(model_path, catalogue.path) as work:
        with pytest.raises(
            LinernotesError, match=r"stands in .*out, but not its page .* draw it with 'linernotes report "
        ):
            work.attribute(clip, tmp_path / "out", method="random")
        kept = Attribution.load(tmp_path / "out/attribution.json")
        (tmp_path / "out/report.html").rmdir()
        assert work.attribute(clip, tmp_path / "out", method="random") == [kept]
    assert (tmp_path / "out/report.html").is_file()


def test_a_page_never_outlives_its_record(
    tmp_path: Path, model_path: Path, catalogue: Catalogue, clip: Path
) -> None:
    """Whoever removes a record and attributes another clip into the folder sees that one's page."""
    other = linernotes.generate("tone 2", tmp_path / "other.flac", seed=6, model=model_path)
    with linernotes.open(model_path, catalogue.path) as work:
        work.attribute(clip, tmp_path / "out", method="random")
        (tmp_path / "out/attribution.json").unlink()
        work.attribute(other, tmp_path / "out", method="random")
    page = (tmp_path / "out/report.html").read_text()
    assert "tone 2" in page and "“other”" in page


def test_a_workspace_loads_and_hashes_once(
    tmp_path: Path, clip: Path, model_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    own = Path.open

    def counted(path: Path, *arguments: object, **named: object) -> object:
        read.append(path.name)
        return own(path, *arguments, **named)

    with linernotes.open(model_path, catalogue.path) as work:
        monkeypatch.setattr(Path, "open", counted)
        work.attribute(clip, tmp_path / "one", method="latent")
        work.attribute(clip, tmp_path / "two", method="random")
        assert not any(name.endswith("model.safetensors") for name in read)
        monkeypatch.undo()
    work.close()
    with pytest.raises(UsageError, match=r"was closed: open it again with linernotes\.open"):
        work.attribute(clip, tmp_path / "three", method="random")


def test_every_method_that_draws_says_on_which_draws(
    tmp_path: Path, clip: Path, model_path: Path, catalogue: Catalogue
) -> None:
    with linernotes.open(model_path, catalogue.path) as work:
        small = {"draws": 8, "gradient_draws": 8, "max_steps": 1, "fisher_draws": 1}
        for method, kind in METHOD_SETTINGS.items():
            if method != "clap":
                settings = {name: value for name, value in small.items() if name in kind.model_fields}
                (found,) = work.attribute(clip, tmp_path / method, method=method, **settings)
                assert bool(found.noise_hash) == ("draws" in kind.model_fields), method
                assert found.device and found.torch and found.segments == len(catalogue)


def test_a_record_does_not_grow_with_the_catalogue() -> None:
    tracks = [Track(f"{i}", "", "", split="decoy" if i % 5 == 0 else "train") for i in range(2000)]
    scores = np.arange(2000.0)
    ranked = rank_tracks(scores, np.arange(2000), np.zeros(2000), tracks, scores)
    assert sum(t.split == "train" for t in ranked) == KEPT_TRACKS and len(ranked) <= 1.3 * KEPT_TRACKS
    assert [t.rank for t in ranked] == list(range(1, len(ranked) + 1)) and ranked[0].track_id == "1999"
    named = {i: Effect(expected=1.0, low=0.5, high=2.0, named=i >= 1700) for i in range(2000) if i % 5}
    more = rank_tracks(scores, np.arange(2000), np.zeros(2000), tracks, scores, effects=named)
    assert sum(bool(t.effect and t.effect.named) for t in more) == 240  # nobody who is named is left out
    assert more[-1].track_id == "1701"
