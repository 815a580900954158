"""Attributions in their folder: those that are there already are taken, others are made, and nothing that is
of something else is written over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from linernotes.artefacts import held
from linernotes.attribution.query import Clip
from linernotes.attribution.result import PAGE
from linernotes.attribution.run import (
    Attributed,
    attribute_clips,
    filed,
    finished,
    judged_anew,
    refuse_others,
)
from linernotes.attribution.verdict import Judge
from linernotes.methods.contract import Prepared
from linernotes.settings.methods import MethodSettings


def attributions_in(
    folder: Path,
    clips: list[Clip],
    prepared: Prepared,
    method: str,
    settings: MethodSettings,
    command: Sequence[str] = (),
    judge: Judge | None = None,
) -> list[Attributed]:
    """The attributions of clips in ``folder``: found there, or made now.

    Args:
        command: the words that ask for the same on the command line, without settings and output.
        judge: what the scores are worth; attributions found there that another calibration judged are judged
            anew.

    Raises:
        LinernotesError: the folder holds others, or is being written.
    """
    with held(folder):
        if found := finished(clips, prepared, method, settings, folder):
            return [_judged(item, clip, prepared, judge) for item, clip in zip(found, clips, strict=False)]
        refuse_others(clips, prepared, method, settings, folder)
        for place, _ in filed(clips, settings, folder):
            if (place / PAGE).is_file():  # of a record that has gone, or is made anew
                (place / PAGE).unlink()
        return attribute_clips(
            clips=clips,
            prepared=prepared,
            method=method,
            settings=settings,
            out=folder,
            command=command,
            judge=judge,
        )


def _judged(item: Attributed, clip: Clip, prepared: Prepared, judge: Judge | None) -> Attributed:
    before = item.attribution.verdict
    if (before.calibration_hash if before else None) == (judge.calibration.hash if judge else None):
        return item
    (item.folder / PAGE).unlink(missing_ok=True)
    return judged_anew(item, clip, prepared, judge)
