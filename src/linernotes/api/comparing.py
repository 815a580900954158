"""Methods rather than clips: which there are, what they cost, how far they agree, how to set them, whether
they are right.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from linernotes.api.banking import open_bank
from linernotes.api.workspace import Workspace
from linernotes.artefacts import write_json
from linernotes.attribution.result import Attribution
from linernotes.attribution.tables import read_track_scores
from linernotes.audio import write_sound
from linernotes.demo.bundle import builtin_sound, render_catalogue
from linernotes.demo.opening import open_catalogue
from linernotes.demo.places import BENCHMARK, BUILTIN
from linernotes.demo.provider import load_model, track_sound
from linernotes.errors import UsageError
from linernotes.evaluation.agreement import Agreement, measure_agreement
from linernotes.evaluation.cost import bench as benches
from linernotes.evaluation.cost.planning import Plan
from linernotes.evaluation.cost.planning import plan as plan_method
from linernotes.evaluation.fidelity import ModelFidelity, measure_fidelity
from linernotes.evaluation.search import METRICS, Search, lds_metric, read_grid, self_influence_metric
from linernotes.evaluation.search import search as search_settings
from linernotes.evaluation.self_influence import SelfRank, segment_query
from linernotes.evaluation.self_influence import self_influence as measure_self_influence
from linernotes.methods.all import require_layers, require_runs_on, runs_on
from linernotes.methods.contract import Progress
from linernotes.models.contract import GeneratingModel, PredictingModel
from linernotes.report.comparison import ComparedClip, write_comparison
from linernotes.report.search import write_search
from linernotes.settings.methods import (
    DEFAULT_METHOD,
    METHOD_SETTINGS,
    MethodInfo,
    describe_methods,
    runnable,
)
from linernotes.settings.reading import (
    as_flags,
    checked,
    refuse_together,
    settings_of,
    settings_where_they_fit,
)

SIDE_BY_SIDE = 5  # first tracks of each method on a comparison's page


def list_methods() -> list[MethodInfo]:
    """All attribution methods."""
    return describe_methods()


@dataclass(frozen=True)
class Comparison:
    """What ``compare`` finds and leaves behind."""

    agreement: Agreement
    attributions: dict[str, list[Attribution]]  # by method, in the order of the clips
    page: Path


def compare(
    clips: Sequence[str | Path],
    out: str | Path,
    methods: Sequence[str] | None = None,
    model: str | Path = BUILTIN,
    catalogue: str | Path = BUILTIN,
    prompt: str | None = None,
    cache: str | Path | None = None,
    on_progress: Progress | None = None,
    **settings: Any,
) -> Comparison:
    """Attributes clips by several methods, measures how far these agree, and writes ``compare.html`` and
    ``agreement.json``; each method's attributions are in ``out/METHOD``. A killed comparison goes on at the
    first method that is missing.

    Args:
        methods: all that can run if None (clap needs ``clap=FOLDER``).
        settings: given to every method that has such a setting.
    """
    names = list(methods) if methods is not None else runnable(settings)
    if len(set(names)) < 2:
        raise UsageError(
            "a comparison needs at least two methods: name them with --methods, or leave that out for all"
        )
    refuse_together(settings)
    chosen = settings_where_they_fit(names, settings)
    work = Workspace(model, catalogue, cache, on_progress)
    prepared = work.prepared
    if methods is None:
        names = [name for name in names if runs_on(name, prepared.model)]
    for name in names:
        require_runs_on(name, prepared.model)
        require_layers(prepared.model, chosen[name])
    loaded = work.load_clips(list(clips), prompt)
    done: dict[str, list[Attribution]] = {}
    tracks = prepared.catalogue.tracks
    scores = {method: np.zeros((len(loaded), len(tracks))) for method in names}
    for i, method in enumerate(names):
        if on_progress:
            on_progress(f"methods ({method})", i, len(names))
        words = ["linernotes", "attribute", *map(str, clips)]
        attributed = work.attributions(loaded, method, chosen[method], Path(out) / method, words, prompt)
        done[method] = [item.attribution for item in attributed]
        for q, item in enumerate(attributed):
            found, _ = read_track_scores(item.folder, method)
            scores[method][q] = [found[track.track_id] for track in tracks]
    if on_progress:
        on_progress("methods", len(names), len(names))
    place = {track.track_id: i for i, track in enumerate(tracks)}
    decoys = np.array([track.split == "decoy" for track in tracks])
    agreement = measure_agreement(scores, [clip.query.name for clip in loaded], decoys)
    write_json(Path(out) / "agreement.json", agreement.record())
    shown = [
        ComparedClip(
            c.query.name,
            c.query.prompt,
            c.sound,
            {m: done[m][q].first_trained(SIDE_BY_SIDE) for m in names},
            done[names[0]][q].cautions,
        )
        for q, c in enumerate(loaded)
    ]
    named = {
        t.track_id: t.best_segment_start_s for clip in shown for first in clip.first.values() for t in first
    }
    sounds = {n: track_sound(prepared.catalogue, tracks[place[n]], start_s) for n, start_s in named.items()}
    words = ["linernotes", "compare", *map(str, clips), "--methods", ",".join(names), "--model", str(model)]
    words += ["--catalog", str(catalogue), *(["--prompt", prompt] if prompt else [])]
    words += as_flags(settings)
    page = Path(out) / "compare.html"
    write_comparison(page, agreement, shown, sounds, shlex.join([*words, "-o", str(out)]))
    return Comparison(agreement, done, page)


def plan(
    methods: Sequence[str] | None = None,
    queries: int = 1,
    model: str | Path = BUILTIN,
    catalogue: str | Path = BUILTIN,
    on_progress: Progress | None = None,
    **settings: Any,
) -> list[Plan]:
    """What methods will cost on a model and a catalogue: forward-equivalents, seconds, memory, disk, before
    anything runs.

    A few seconds of each unit of work are measured, on segments of the catalogue. Start-up is not counted.
    """
    names = list(methods) if methods is not None else runnable(settings)
    chosen = settings_where_they_fit(names, settings)
    prepared = Workspace(model, catalogue, None, None).prepared
    query = segment_query(prepared.catalogue, int(prepared.catalogue.training_rows[0]))
    plans = []
    for i, name in enumerate(names):
        if on_progress:
            on_progress(f"measuring ({name})", i, len(names))
        plans.append(plan_method(name, prepared, chosen[name], queries, query))
    if on_progress:
        on_progress("measuring", len(names), len(names))
    return plans


def search(
    out: str | Path,
    grid: Sequence[str],
    method: str = DEFAULT_METHOD,
    metric: str = "self-influence",
    sampler: str = "grid",
    trials: int | None = None,
    segments: int = 40,
    candidates: int = 200,
    bank: str | Path = BENCHMARK,
    model: str | Path | None = None,
    catalogue: str | Path | None = None,
    cache: str | Path | None = None,
    on_progress: Progress | None = None,
    **settings: Any,
) -> Search:
    """Searches a method's settings by a metric; a killed search goes on. Writes ``trials.db`` (Optuna),
    ``trials.parquet``, ``search.svg`` and ``best.toml``, which ``attribute --settings`` takes.

    Args:
        grid: for each setting a line such as ``"layers=mlp,all"``.
        metric: ``self-influence``: the mean rank of ``segments`` training segments' own among ``candidates``;
            ``lds``: how well scores of a bank's tuning clips predict retraining.
        model: ``builtin`` for self-influence, ``benchmark`` for lds if None.
        catalogue: the same.
        sampler: ``grid`` for all choices (or ``trials`` of them), ``tpe`` to look where it is promising.
        settings: those that stay the same.
    """
    values = read_grid(method, grid)
    checked(settings_of(method), settings, f" for {method}")
    refuse_together(settings)
    if metric not in METRICS:
        raise UsageError(f"there is no metric {metric!r}: choose {' or '.join(METRICS)}")
    usual = BENCHMARK if metric == "lds" else BUILTIN
    if metric == "lds":
        opened = open_bank(bank, model or usual, catalogue or usual)
        measured = lds_metric(opened.prepared, opened.bank, opened.clips)
    else:
        prepared = Workspace(model or usual, catalogue or usual, cache, None).prepared
        measured = self_influence_metric(prepared, segments, candidates, int(settings.get("seed", 0)))
    found = search_settings(
        method, values, settings, metric, measured, sampler, trials, Path(out), on_progress
    )
    write_search(Path(out) / "search.svg", found)
    return found


def self_influence(
    model: str | Path = BUILTIN,
    catalogue: str | Path = BUILTIN,
    segments: int = 20,
    method: str = DEFAULT_METHOD,
    cache: str | Path | None = None,
    on_progress: Progress | None = None,
    **settings: Any,
) -> list[SelfRank]:
    """Takes training segments as queries; each one's own track should come first (rank 1)."""
    chosen = checked(settings_of(method), settings, f" for {method}")
    refuse_together(settings)
    prepared = Workspace(model, catalogue, cache, on_progress).prepared
    with tempfile.TemporaryDirectory() as folder:
        return measure_self_influence(prepared, method, chosen, segments, Path(folder))


def model_fidelity(clips: int = 96, on_progress: Progress | None = None, every: int = 1) -> ModelFidelity:
    """How good the built-in model is: what its codec keeps of decoys, and whether clips have the instrument
    prompted for.

    Args:
        every: hear every n-th track only, to see that the measurement still runs.
    """
    model, catalogue = load_model(), open_catalogue()
    assert isinstance(model, GeneratingModel)
    tracks = catalogue.tracks[::every]
    return measure_fidelity(
        model, tracks, lambda track: builtin_sound(track, 0.0, model.encoding), clips, on_progress
    )


def bench(
    only: Sequence[str] = benches.BENCHES[1:],
    methods: Sequence[str] | None = None,
    on_progress: Progress | None = None,
    quick: bool = False,
) -> dict[str, Any]:
    """What attribution costs on this machine: ``only`` names parts of sweep, query, queries, ingest, demo,
    methods; ``methods`` those that the last of them measures, all that can run if None; ``quick`` measures so
    little that its figures only show that everything still runs.

    Raises:
        UsageError: an unknown part or method, or methods where they are not measured.
    """
    if methods is not None and "methods" not in only:
        raise UsageError(
            f"--methods says which are measured, and --only {', '.join(only)} measures none: add --only "
            "methods"
        )
    names = list(methods) if methods is not None else runnable({})
    settings_where_they_fit(names, {})  # refuses unknown ones now, not after an hour
    if unknown := set(only) - set(benches.BENCHES):
        raise UsageError(
            f"there is no bench {sorted(unknown)[0]!r}: choose from {', '.join(benches.BENCHES)}"
        )
    report = on_progress or (lambda what, done, total: None)
    extent = benches.QUICK if quick else benches.FULL
    figures: dict[str, Any] = {}
    for i, part in enumerate(only):
        report("benches", i, len(only))
        with tempfile.TemporaryDirectory() as folder:
            if part == "sweep":
                draws = METHOD_SETTINGS[DEFAULT_METHOD]().model_dump()["draws"]
                model = load_model()
                assert isinstance(model, PredictingModel)
                figures |= benches.sweep_overhead(model, open_catalogue(), draws, extent=extent)
            elif part in ("query", "queries"):
                figures |= benches.query_costs(Path(folder), part == "queries", on_progress, extent)
            elif part == "ingest":
                _write_sounds(Path(folder, "sounds"), extent.ingest_tracks, on_progress)
                figures |= benches.ingest_speed(Path(folder, "sounds"), Path(folder, "cache"))
            elif part == "methods":

                def planned_for(method: str) -> Plan:
                    return plan([method], **benches.fewer_draws(method))[0]

                figures["methods"] = benches.method_costs(names, planned_for, on_progress)
            else:
                figures |= benches.demo_cost()
    report("benches", len(only), len(only))
    return figures


def _write_sounds(folder: Path, tracks: int | None, on_progress: Progress | None) -> None:
    """The built-in catalogue as sound files, or its first few tracks."""
    shape = load_model().encoding
    if tracks is None:
        render_catalogue(folder, shape, on_progress)
        return
    folder.mkdir()
    for track in open_catalogue().tracks[:tracks]:
        write_sound(folder / f"{track.track_id}.flac", builtin_sound(track, 0.0, shape))
