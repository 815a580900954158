"""Opens whatever model a folder holds."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linernotes.models.adapter_folder import is_adapter, read_base
from linernotes.models.folder import PLUGINS, check_is_folder

if TYPE_CHECKING:
    import torch

    from linernotes.models.contract import GenerativeModel

FAMILIES = {
    "Stable Audio": "linernotes.models.stable_audio:StableAudio",
    "Stable Audio 3": "linernotes.models.stable_audio_3:StableAudio3",
    "ACE-Step 1.5": "linernotes.models.ace_step:AceStep",
    "MusicGen": "linernotes.models.musicgen:MusicGen",
}


def open_model(folder: Path, device: torch.device | None = None) -> GenerativeModel:
    """The model in a folder: an object of the first family that says the folder ``holds`` one of its own. A
    folder with an adapter opens as its base model with that adapter.

    Raises:
        LinernotesError: no such folder, of no family that is known here, or damaged; an adapter whose base
            model is not there, or is another one.
    """
    check_is_folder(folder)
    if is_adapter(folder):
        from linernotes.models.adapted import adapt

        base = read_base(folder)
        return adapt(open_model(Path(base.folder), device), folder, base)
    return family_of(folder)(folder, device)


def family_of(folder: Path) -> Any:
    """The class of the model in a folder; the first family if it is nobody's, which then says what is wrong
    with it.
    """
    first = next(_families())  # one after the other: each family brings libraries of its own
    return next((family for family in _families() if family.holds(folder)), first)


def _families() -> Iterator[Any]:
    for place in FAMILIES.values():
        module, _, name = place.partition(":")
        yield getattr(import_module(module), name)
    for plugin in entry_points(group=PLUGINS):
        yield plugin.load()
