"""Attributions in their folder: those that are there already are taken, others are made, and nothing that is
of something else is written over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from linernotes.artefacts import held
from linernotes.attribution.query import Clip
from linernotes.attribution.run import Attributed, attribute_clips, filed, finished, refuse_others
from linernotes.methods.contract import Prepared
from linernotes.settings.methods import MethodSettings

PAGE = "report.html"  # drawn from a record, and beside it


def attributions_in(
    folder: Path,
    clips: list[Clip],
    prepared: Prepared,
    method: str,
    settings: MethodSettings,
    command: Sequence[str] = (),
) -> list[Attributed]:
    """The attributions of clips in ``folder``: found there, or made now.

    Args:
        command: the words that ask for the same on the command line, without settings and output.

    Raises:
        LinernotesError: the folder holds others, or is being written.
    """
    with held(folder):
        if found := finished(clips, prepared, method, settings, folder):
            return found
        refuse_others(clips, prepared, method, settings, folder)
        for place, _ in filed(clips, settings, folder):
            if (place / PAGE).is_file():  # of a record that has gone, or is made anew
                (place / PAGE).unlink()
        return attribute_clips(clips, prepared, method, settings, folder, command)
