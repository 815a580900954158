"""Measurements of the built-in model: how good it is, and what attribution costs on it, on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from linernotes.api.comparing import plan
from linernotes.api.workspace import Workspace
from linernotes.audio import write_sound
from linernotes.demo.bundle import render_catalogue
from linernotes.demo.opening import open_catalogue
from linernotes.demo.places import BUILTIN, SHIPPED_INDEX
from linernotes.demo.provider import load_model
from linernotes.demo.sounds import builtin_sound
from linernotes.errors import UsageError
from linernotes.evaluation.cost import bench as benches
from linernotes.evaluation.cost.planning import Plan
from linernotes.evaluation.cost.scale import measure_scale
from linernotes.evaluation.fidelity import ModelFidelity, measure_fidelity
from linernotes.methods.contract import Progress
from linernotes.models.contract import GeneratingModel, PredictingModel
from linernotes.settings.methods import DEFAULT_METHOD, METHOD_SETTINGS
from linernotes.settings.reading import checked, chosen_methods
from linernotes.settings.verbs import FidelitySettings, IndexSettings


def model_fidelity(on_progress: Progress | None = None, **settings: Any) -> ModelFidelity:
    """How good the built-in model is: what its codec keeps of decoys, and whether
    clips have the instrument prompted for.

    Args:
        settings: fields of ``FidelitySettings``: ``clips``, ``every``.
    """
    asked = checked(FidelitySettings, settings)
    model, catalogue = load_model(), open_catalogue()
    assert isinstance(model, GeneratingModel)
    return measure_fidelity(
        model=model,
        tracks=catalogue.tracks[:: asked.every],
        sound_of=lambda track: builtin_sound(track, 0.0, model.encoding),
        clips=asked.clips,
        on_progress=on_progress,
    )


def bench(
    only: Sequence[str] = benches.UNASKED,
    methods: Sequence[str] | None = None,
    on_progress: Progress | None = None,
    quick: bool = False,
    model: str | Path | None = None,
    catalogue: str | Path | None = None,
    index: str | Path | None = None,
) -> dict[str, Any]:
    """What attribution costs on this machine.

    Args:
        only: parts of sweep, query, queries, ingest, demo, methods, scale; all but query and scale if left
            out.
        methods: those that the part of that name measures, all that can run if None.
        quick: so little that its figures only show that everything still runs.
        model: of a large ``catalogue``, for the part scale; the built-in ones if None.
        index: where that catalogue's is, or is to be: built, and its building measured, if it is not there;
            and thrown away afterwards if None.

    Raises:
        UsageError: an unknown part or method, or what is said of a part that is not measured.
        LinernotesError: no room on the disk for vectors that are made up.
    """
    if "scale" not in only and any(given is not None for given in (model, catalogue, index)):
        raise UsageError("--model, --catalog and --index are for the part scale: add --only scale")
    if methods is not None and "methods" not in only:
        raise UsageError(
            f"--methods says which are measured, and --only {', '.join(only)} measures none: add --only "
            "methods"
        )
    names = list(chosen_methods(methods, {}))  # refuses unknown ones now, not after an hour
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
                builtin = load_model()
                assert isinstance(builtin, PredictingModel)
                figures |= benches.sweep_overhead(builtin, open_catalogue(), draws, extent=extent)
            elif part in ("query", "queries"):
                figures |= benches.query_costs(Path(folder), part == "queries", on_progress, extent)
            elif part == "ingest":
                _write_sounds(Path(folder, "sounds"), extent.ingest_tracks, on_progress)
                figures |= benches.ingest_speed(Path(folder, "sounds"), Path(folder, "cache"))
            elif part == "methods":

                def planned_for(method: str) -> Plan:
                    return plan([method], exhaustive=True, **benches.fewer_draws(method))[0]

                figures["methods"] = benches.method_costs(names, planned_for, on_progress)
            elif part == "scale":
                own = Workspace(model or BUILTIN, catalogue or BUILTIN, on_progress=on_progress)
                figures["scale"] = measure_scale(
                    own.prepared,
                    _index_of(own, index, quick),
                    extent.real,
                    extent.made_up,
                    IndexSettings(queries=2) if quick else IndexSettings(),
                    Path(folder),
                    extent.every_up_to,
                    on_progress,
                )
            else:
                figures |= benches.demo_cost()
    report("benches", len(only), len(only))
    return figures


def _index_of(work: Workspace, index: str | Path | None, quick: bool) -> Path | None:
    """Where the index is; the shipped one where time is short."""
    if index is None and quick and work.names == (BUILTIN, BUILTIN) and SHIPPED_INDEX.exists():
        return SHIPPED_INDEX
    return None if index is None else Path(index)


def _write_sounds(folder: Path, tracks: int | None, on_progress: Progress | None) -> None:
    """The built-in catalogue as sound files, or its first few tracks."""
    shape = load_model().encoding
    if tracks is None:
        render_catalogue(folder, shape, on_progress)
        return
    folder.mkdir()
    for track in open_catalogue().tracks[:tracks]:
        write_sound(folder / f"{track.track_id}.flac", builtin_sound(track, 0.0, shape))
