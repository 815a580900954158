"""Methods rather than clips: which there are, what they cost, how far they agree, how to set them, whether
they find what was unlearned.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from linernotes.api.workspace import Comparison, Workspace, several
from linernotes.demo.places import BENCHMARK, BUILTIN
from linernotes.evaluation.cost.planning import Plan
from linernotes.evaluation.search import Search, read_grid
from linernotes.evaluation.self_influence import SelfRank
from linernotes.methods.contract import Progress
from linernotes.settings.describing import MethodInfo, describe_methods
from linernotes.settings.engine import EngineSettings
from linernotes.settings.methods import DEFAULT_METHOD
from linernotes.settings.reading import chosen_method, chosen_methods, parted
from linernotes.settings.verbs import PlanSettings, SearchSettings, SelfInfluenceSettings


def list_methods() -> list[MethodInfo]:
    """All attribution methods."""
    return describe_methods()


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
    several(methods, settings)  # before a model is loaded
    with Workspace(model, catalogue, cache, on_progress) as work:
        return work.compare(clips, out, methods, prompt, **settings)


def plan(
    methods: Sequence[str] | None = None,
    model: str | Path = BUILTIN,
    catalogue: str | Path = BUILTIN,
    on_progress: Progress | None = None,
    engine: EngineSettings | None = None,
    index: str | Path | None = None,
    exhaustive: bool = False,
    shortlist: int | None = None,
    audit: int | None = None,
    **settings: Any,
) -> list[Plan]:
    """What methods will cost on a model and a catalogue: forward-equivalents,
    seconds, memory, disk, before anything runs.

    A few seconds of each unit of work are measured, on segments of the catalogue. Start-up is not counted.

    Args:
        engine: what would pass over the catalogue; with more workers than this machine has cores, passes are
            counted as so much shorter.
        index: as of ``attribute``: methods that take shortlists are taken to score no more than these.
        exhaustive: the built-in catalogue, too.
        shortlist: as of ``attribute``.
        audit: as of ``attribute``.
        settings: the field of ``PlanSettings``, ``queries``, and methods' settings.
    """
    chosen_methods(methods, parted(PlanSettings, settings)[1])  # before a model is loaded
    with Workspace(
        model,
        catalogue,
        on_progress=on_progress,
        index=index,
        exhaustive=exhaustive,
        shortlist=shortlist,
        audit=audit,
    ) as work:
        return work.plan(methods, engine, **settings)


def search(
    out: str | Path,
    grid: Sequence[str],
    method: str = DEFAULT_METHOD,
    bank: str | Path = BENCHMARK,
    model: str | Path | None = None,
    catalogue: str | Path | None = None,
    cache: str | Path | None = None,
    on_progress: Progress | None = None,
    **settings: Any,
) -> Search:
    """Searches a method's settings by a metric; a killed search goes on. Writes ``trials.db`` (Optuna),
    ``trials.parquet``, ``search.svg`` and ``best.toml``, which ``attribute --settings`` takes.

    With the metric ``self-influence``, the mean rank of ``segments`` training segments'
    own among ``candidates`` is made small; with ``lds``, how well scores of a bank's
    tuning clips predict retraining is made large.

    Args:
        grid: for each setting a line such as ``"layers=mlp,all"``.
        model: ``builtin`` for self-influence, ``benchmark`` for lds if None.
        catalogue: the same.
        settings: fields of ``SearchSettings`` (``metric``, ``sampler``, ``trials``, ...), and those of the
            method that stay the same.
    """
    asked, fixed = parted(SearchSettings, settings)
    read_grid(method, grid, fixed)
    chosen_method(method, fixed)  # all of it before a model is loaded
    usual = BENCHMARK if asked.metric == "lds" else BUILTIN
    with Workspace(model or usual, catalogue or usual, cache, on_progress) as work:
        return work.search(out, grid, method, bank, **settings)


def self_influence(
    model: str | Path = BUILTIN,
    catalogue: str | Path = BUILTIN,
    method: str = DEFAULT_METHOD,
    cache: str | Path | None = None,
    on_progress: Progress | None = None,
    **settings: Any,
) -> list[SelfRank]:
    """Takes training segments as queries; each one's own track should come first (rank 1).

    Args:
        settings: the field of ``SelfInfluenceSettings``, ``segments``, and the method's settings.
    """
    chosen_method(method, parted(SelfInfluenceSettings, settings)[1])  # before a model is loaded
    with Workspace(model, catalogue, cache, on_progress) as work:
        return work.self_influence(method, **settings)
