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

FAMILIES = {
    "Stable Audio": "linernotes.models.stable_audio:StableAudio",
    "MusicGen": "linernotes.models.musicgen:MusicGen",
}


def open_model(folder: Path, device: torch.device | None = None) -> GenerativeModel:
    """The model in a folder: an object of the first family that says the folder ``holds`` one of its own.

    Raises:
        LinernotesError: no such folder, of no family that is known here, or damaged.
    """
    check_is_folder(folder)
    return family_of(folder)(folder, device)


def family_of(folder: Path) -> Any:
    """The class of the model in a folder; the first family if it is nobody's, which then says what is wrong
    with it.
    """
    first = None
    for family in _families():  # one after the other: importing a family takes time
        if family.holds(folder):
            return family
        first = first or family
    return first


def _families() -> Iterator[Any]:
    for place in FAMILIES.values():
        module, _, name = place.partition(":")
        yield getattr(import_module(module), name)
    for plugin in entry_points(group=PLUGINS):
        yield plugin.load()
