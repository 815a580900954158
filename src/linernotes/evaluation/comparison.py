"""Several methods on the same clips: each one's attributions in a folder of its own, and their agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from linernotes.artefacts import write_json
from linernotes.attribution.filing import attributions_in
from linernotes.attribution.query import Clip
from linernotes.attribution.result import Attribution
from linernotes.attribution.tables import read_track_scores
from linernotes.attribution.verdict import Judge
from linernotes.evaluation.agreement import Agreement, measure_agreement
from linernotes.methods.contract import Prepared
from linernotes.settings.methods import MethodSettings


@dataclass(frozen=True)
class Compared:
    """What several methods say of the same clips."""

    agreement: Agreement
    attributions: dict[str, list[Attribution]]  # by method, in the order of the clips


def compare_methods(
    clips: list[Clip],
    prepared: Prepared,
    chosen: Mapping[str, MethodSettings],
    folder: Path,
    commands: Mapping[str, Sequence[str]] | None = None,
    judges: Mapping[str, Judge | None] | None = None,
) -> Compared:
    """Attributes clips by every method into ``folder/METHOD``, and writes ``folder/agreement.json``. A killed
    comparison goes on at the first method that is missing.

    Args:
        commands: by method, the words that attribute these clips on the command line, without method and
            output.
        judges: by method, what its scores are worth, where that is known.

    Raises:
        LinernotesError: a method's folder holds other attributions.
    """
    report = prepared.on_progress
    done: dict[str, list[Attribution]] = {}
    folders: dict[str, list[Path]] = {}
    for i, (method, settings) in enumerate(chosen.items()):
        if report:
            report(f"methods ({method})", i, len(chosen))
        attributed = attributions_in(
            folder=folder / method,
            clips=clips,
            prepared=prepared,
            method=method,
            settings=settings,
            command=(commands or {}).get(method, ()),
            judge=(judges or {}).get(method),
        )
        done[method] = [item.attribution for item in attributed]
        folders[method] = [item.folder for item in attributed]
    if report:
        report("methods", len(chosen), len(chosen))
    agreement = agreement_of(folders, [clip.query.name for clip in clips])
    write_json(folder / "agreement.json", agreement.record())
    return Compared(agreement, done)


def agreement_of(folders: Mapping[str, Sequence[Path]], names: list[str]) -> Agreement:
    """How far attributions agree, from the scores beside their records.

    Args:
        folders: by method, one for each clip; all of the same catalogue.
        names: of the clips.
    """
    scores: dict[str, np.ndarray] = {}
    decoy_n = np.zeros(0, dtype=bool)
    for method, places in folders.items():
        rows = []
        for place in places:
            found, splits = read_track_scores(place, method)
            rows.append(list(found.values()))  # in the catalogue's order, whatever the method
            decoy_n = np.array([split == "decoy" for split in splits.values()])
        scores[method] = np.array(rows)
    return measure_agreement(scores, names, decoy_n)
