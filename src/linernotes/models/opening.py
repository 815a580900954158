"""Opens whatever model a folder holds."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch

from linernotes.models.contract import GenerativeModel
from linernotes.models.folder import PLUGINS, check_is_folder

FAMILIES = {"Stable Audio": "linernotes.models.stable_audio:StableAudio"}


def open_model(folder: Path, device: torch.device | None = None) -> GenerativeModel:
    """The model in a folder: an object of the first family that says the folder ``holds`` one of its own.

    Raises:
        LinernotesError: no such folder, of no family that is known here, or damaged.
    """
    check_is_folder(folder)
    for family in _families():
        if family.holds(folder):
            return family(folder, device)
    from linernotes.models.stable_audio import StableAudio

    return StableAudio(folder, device)  # says what is wrong with it


def trainable_family(folder: Path) -> Any:
    """The class whose ``write_untrained`` and constructor a training of the model in ``folder`` needs."""
    return next(family for family in _families() if family.holds(folder))


def _families() -> Iterator[Any]:
    for place in FAMILIES.values():
        module, _, name = place.partition(":")
        yield getattr(import_module(module), name)
    for plugin in entry_points(group=PLUGINS):
        yield plugin.load()
