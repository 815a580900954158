"""Indexes: planned, built, and brought up to a catalogue's state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from linernotes.api.workspace import Workspace
from linernotes.demo.places import BUILTIN
from linernotes.evaluation.cost.index_plan import IndexPlan
from linernotes.evaluation.cost.index_plan import plan_index as measure_plan
from linernotes.index.store import Index
from linernotes.jobs.engines import executor_of
from linernotes.methods.contract import Progress
from linernotes.settings.engine import EngineSettings
from linernotes.settings.reading import checked
from linernotes.settings.verbs import IndexSettings


def build_index(
    out: str | Path,
    model: str | Path = BUILTIN,
    catalogue: str | Path = BUILTIN,
    cache: str | Path | None = None,
    on_progress: Progress | None = None,
    engine: EngineSettings | None = None,
    **settings: Any,
) -> Index:
    """Makes small vectors of all segments of a catalogue, from which ``attribute`` takes a shortlist; and
    measures what such a shortlist misses. An index that is there already is brought up to the catalogue's
    state: segments that it knows keep their vectors. A stopped build goes on.

    Args:
        settings: fields of ``IndexSettings``: ``moments``, ``latents``, ``queries``, ``seed``.

    Raises:
        LinernotesError: something else is there, or an index of another model; disk or memory do not suffice.
    """
    checked(IndexSettings, settings)  # before a model is loaded
    with (
        executor_of(engine or EngineSettings()) as executor,
        Workspace(model, catalogue, cache, on_progress, executor) as work,
    ):
        return work.index(out, **settings)


def plan_index(
    model: str | Path = BUILTIN,
    catalogue: str | Path = BUILTIN,
    on_progress: Progress | None = None,
    engine: EngineSettings | None = None,
    **settings: Any,
) -> IndexPlan:
    """What ``build_index`` will take: seconds, memory, disk, before anything runs. A few segments are passed
    through the model for it; start-up is not counted.

    Args:
        settings: fields of ``IndexSettings``.
    """
    asked = checked(IndexSettings, settings)
    with Workspace(model, catalogue, on_progress=on_progress) as work:
        return measure_plan(work.prepared, asked, engine)


def open_index(index: str | Path) -> Index:
    """An index that was built.

    Raises:
        LinernotesError: there is none, or its build was stopped.
    """
    return Index(Path(index))
