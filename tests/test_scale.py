"""How the cost of an index grows, and the vectors that are made up to see it."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import linernotes
from conftest import SEGMENT_SAMPLES, write_recordings
from linernotes.attribution.index_room import require_room, room_for
from linernotes.attribution.indexing import build_index
from linernotes.attribution.prepare import prepare
from linernotes.attribution.query import heard_rows
from linernotes.audio import read_sound, write_sound
from linernotes.catalog.ingest import build_catalogue
from linernotes.catalog.source import read_source
from linernotes.catalog.store import Catalogue
from linernotes.cli.app import app
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.cost.index_plan import IndexPlan
from linernotes.evaluation.cost.likeness import NOISE, Likeness, make_up
from linernotes.evaluation.cost.scale import first_of, measure_scale, part_of, searched
from linernotes.index.store import Index
from linernotes.index.vectors import directions, resemblance
from linernotes.methods.contract import Progress
from linernotes.models.stable_audio import StableAudio
from linernotes.report.scale import scale_table
from linernotes.settings.engine import EngineSettings
from linernotes.settings.verbs import IndexSettings


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, model: StableAudio) -> Catalogue:
    folder = tmp_path_factory.mktemp("whole")
    write_recordings(folder / "sounds", [SEGMENT_SAMPLES * (1 + i % 3) for i in range(40)], decoys=4)
    return build_catalogue(read_source(folder / "sounds"), folder / "whole", model)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, model_path: Path, whole: Catalogue) -> Index:
    out = tmp_path_factory.mktemp("index") / "whole.index"
    return linernotes.build_index(out, model_path, whole.path, queries=1)


def test_a_part_is_whole_tracks(whole: Catalogue, tmp_path: Path) -> None:
    part = part_of(whole, 30, tmp_path / "part")
    size_t = np.bincount(whole.track_n)
    assert 30 <= len(part) < 30 + size_t.max()
    place = {track.track_id: t for t, track in enumerate(whole.tracks)}
    assert [size_t[place[track.track_id]] for track in part.tracks] == np.bincount(part.track_n).tolist()
    rows = np.flatnonzero(whole.track_n == place[part.tracks[3].track_id])
    assert (part.latents(np.flatnonzero(part.track_n == 3)) == whole.latents(rows)).all()


def test_made_up_vectors_are_like_real_ones(index: Index) -> None:
    """Each lies beside a real one at the angle that noise makes, and lengths are real ones'."""
    made = Likeness(index).drawn(400)
    assert np.isin(made.length_n, index.vectors.length_n).all()
    for part, real in (
        (made.moments_nr, index.vectors.moments_nr),
        (made.latents_np, index.vectors.latents_np),
    ):
        nearest_n = (directions(part) @ directions(real).T).max(axis=1)
        assert np.median(nearest_n) == pytest.approx(math.sqrt(1 - NOISE**2), abs=0.07)
    assert len(np.unique(made.moments_nr, axis=0)) > 390  # and none is another's copy
    other = Likeness(index, seed=1).drawn(400)
    assert (other.moments_nr != made.moments_nr).any()
    assert (Likeness(index).drawn(400).moments_nr == made.moments_nr).all()


def test_a_made_up_index_is_searched_both_ways(index: Index, tmp_path: Path) -> None:
    large = make_up(index, 3000, tmp_path / "large")
    asked = Likeness(index, seed=1).drawn(2)
    assert len(large) == 3000 and large.codes
    growth = searched(large, asked)
    assert growth.segments == 3000 and not growth.real and growth.bytes_each == index.bytes_each
    assert growth.codes_s and growth.product_s > 0 and growth.build_s is growth.clip_s is None
    assert growth.found and 0.9 < growth.found <= 1
    product_n = resemblance(asked[:1], large.vectors)[0]
    assert set(first_of(product_n, 7)) == set(np.argsort(-product_n)[:7])
    on_disk = sum(f.stat().st_size for f in large.path.rglob("*") if f.is_file())
    assert growth.disk_mib == pytest.approx(on_disk / 2**20)


def test_every_size_is_measured(
    model: StableAudio, model_path: Path, whole: Catalogue, tmp_path: Path
) -> None:
    prepared = prepare(model, whole, tmp_path / "cache", model_folder=model_path)
    reports: list[tuple[str, int, int]] = []
    found = measure_scale(
        prepared,
        None,
        (9_999, 30),
        (2_000,),
        IndexSettings(queries=1),
        tmp_path,
        10**9,
        lambda *report: reports.append(report),
    )
    assert [(g.real, g.build_s is not None, g.codes_s is not None) for g in found] == [
        (True, True, False),
        (True, True, False),
        (False, False, True),
    ]
    assert 30 <= found[0].segments < found[1].segments == len(whole) < found[2].segments
    assert all(g.scored and 0 < g.scored <= g.segments and g.clip_s and g.every_s for g in found[:2])
    assert all(g.held and g.listed and 0 < g.listed <= 1 for g in found[:2]) and found[2].held is None
    assert [r for r in reports if r[0] == "sizes"] == [("sizes", i, 3) for i in range(4)]
    table = scale_table(found)
    assert len(table.markdown().splitlines()) == 7 and "made-up vectors" in table.markdown()
    assert table.picture.startswith("<svg") and "building the index" in table.picture
    each = table.records()[1]
    assert each["build_ms_each"] == pytest.approx(1000 * found[1].build_s / len(whole))


def test_an_index_is_measured_where_it_is_built_in_one_go(
    model: StableAudio, model_path: Path, whole: Catalogue, tmp_path: Path
) -> None:
    """It stays where it was asked for; one that is there is used, and one that was stopped goes on."""

    def measured(place: Path, name: str, on_progress: Progress | None = None) -> float | None:
        prepared = prepare(model, whole, tmp_path / "cache", on_progress, model_path)
        (growth,) = measure_scale(
            prepared, place, (), (), IndexSettings(queries=1), tmp_path / name, 0, on_progress
        )
        assert growth.segments == len(whole) and growth.scored and growth.clip_s and not growth.every_s
        return growth.build_s

    place = tmp_path / "kept"
    took = measured(place, "first")
    assert took and len(Index(place)) == len(whole)
    written = (place / "index.json").stat().st_mtime_ns
    assert measured(place, "second") == took and (place / "index.json").stat().st_mtime_ns == written

    def stop(what: str, done: int, total: int) -> None:
        if what.startswith("vectors"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "stopped", "third", stop)
    assert measured(tmp_path / "stopped", "fourth") is None and len(Index(tmp_path / "stopped"))


def test_vectors_that_the_disk_has_no_room_for_are_not_made_up(index: Index, tmp_path: Path) -> None:
    with pytest.raises(
        LinernotesError, match=r"1000000000000 vectors take .* GB free: set TMPDIR to a folder"
    ):
        make_up(index, 10**12, tmp_path / "large")


def test_a_catalogue_is_for_the_part_that_measures_it() -> None:
    with pytest.raises(UsageError, match="are for the part scale: add --only scale"):
        linernotes.bench(only=["sweep"], catalogue="large")


def room_of(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


@pytest.mark.parametrize("moments", [1024, 0])
def test_a_plan_says_how_much_disk_an_index_takes(
    model_path: Path, whole: Catalogue, tmp_path: Path, moments: int
) -> None:
    """At the most while it is built, and for good; a small index has small change besides: Lance's and
    safetensors' own records."""
    change = 200_000
    planned = linernotes.plan_index(model_path, whole.path, queries=1, moments=moments)
    out, seen = tmp_path / "index", [0]
    cache = tmp_path / "cache"
    linernotes.build_index(
        out,
        model_path,
        whole.path,
        cache=cache,
        on_progress=lambda *_: seen.append(room_of(out.with_name("index.partial"))),
        queries=1,
        moments=moments,
    )
    kept = room_of(out)
    assert planned.index_mib * 2**20 == pytest.approx(kept, rel=0.3, abs=change)
    assert max([kept, *seen]) < planned.disk_mib * 2**20 + change
    if moments:
        assert planned.disk_mib * 2**20 < 4 * max(seen) + change
    assert planned.pass_s > 0 and planned.memory_mib > 100 and planned.segments == len(whole)


def test_what_is_measured_on_is_a_segment_with_sound_in_it(
    model: StableAudio, model_path: Path, tmp_path: Path
) -> None:
    """A recording may begin with silence; that is no clip that anything can be asked about."""
    sounds = tmp_path / "sounds"
    write_recordings(sounds, [SEGMENT_SAMPLES * 2, SEGMENT_SAMPLES])
    first = sounds / "tone0.wav"
    sound = read_sound(first)
    sound.samples[:, :SEGMENT_SAMPLES] = 0
    write_sound(first, sound)
    opened = build_catalogue(read_source(sounds), tmp_path / "catalogue", model)
    assert heard_rows(opened, 9).tolist() == [1, 2] and heard_rows(opened, 1).tolist() == [1]
    assert heard_rows(opened, 1, np.array([2, 1])).tolist() == [2]
    assert linernotes.plan(["readout"], model_path, opened.path)[0].segments == 3
    assert linernotes.plan_index(model_path, opened.path, queries=1).segments == 3
    with pytest.raises(LinernotesError, match="no training segment with sound in it"):
        heard_rows(opened, 1, np.array([0]))


def test_workers_share_the_pass_and_nothing_else(model_path: Path, whole: Catalogue) -> None:
    def planned(engine: EngineSettings | None) -> IndexPlan:
        return linernotes.plan_index(model_path, whole.path, queries=1, engine=engine)

    here, there = planned(None), planned(EngineSettings(engine="ray", workers=1000))
    assert there.workers == 1000 and there.pass_s < here.pass_s / 20
    assert there.once_s > here.once_s / 5 and there.disk_mib == here.disk_mib
    written = CliRunner().invoke(
        app, ["index", "plan", "--model", str(model_path), "--catalog", str(whole.path)]
    )
    assert written.exit_code == 0 and "the pass" in written.output


def test_what_disk_or_memory_do_not_hold_is_not_begun(
    model: StableAudio, whole: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, out = prepare(model, whole, tmp_path / "cache"), tmp_path / "index"
    need = room_for(prepared, IndexSettings())
    free = shutil.disk_usage(tmp_path).free
    require_room(prepared, IndexSettings(), out)
    with pytest.raises(LinernotesError, match=r"GB of disk .* GB are free: free some, or give another --out"):
        require_room(prepared, IndexSettings(), out, there=need.disk - free - 2**30)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=0, available=need.memory - 1))
    with pytest.raises(LinernotesError, match=r"GB of memory, and .* GB are free: end other programs, or"):
        build_index(prepared, IndexSettings(), out)
    assert not out.exists() and not out.with_name("index.partial").exists()
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=0, available=need.memory))
    require_room(prepared, IndexSettings(), out)
