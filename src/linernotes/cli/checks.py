"""Refuses wrong paths and names at once, before torch, which takes seconds, is imported: a mistyped name
costs no wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from linernotes.errors import LinernotesError, UsageError
from linernotes.models.folder import check_folder, check_is_folder, may_be_a_plugins
from linernotes.settings.methods import runnable
from linernotes.settings.places import cache_folder
from linernotes.settings.reading import refuse_together, settings_where_they_fit

SHIPPED = ("builtin", "benchmark")
SOUND_SUFFIXES = (".wav", ".flac", ".ogg")


def check_clips(clips: Sequence[Path]) -> None:
    """Refuses clips that are not there, or are folders."""
    for clip in clips:
        if clip.is_dir():
            raise LinernotesError(f"{clip} is a folder: give a sound file")
        _exists(clip, f"{clip} is missing: there is no such file; check the name")


def check_model(model: str) -> None:
    """Refuses what is no model's folder; a name of the Hub is answered with what to do."""
    if model in SHIPPED:
        return
    check_is_folder(Path(model))
    if (Path(model) / "model_index.json").exists() or not may_be_a_plugins():
        check_folder(Path(model))


def check_catalogue(catalogue: str) -> None:
    """Refuses what is no folder of a catalogue."""
    path = Path(catalogue)
    if catalogue in SHIPPED:
        return
    _exists(path, f"there is no catalogue at {path}: build one with 'linernotes catalog build'")
    if not path.is_dir():
        raise LinernotesError(f"{path} is a file, not a catalogue: give the folder that holds catalogue.json")
    _exists(
        path / "catalogue.json",
        f"{path / 'catalogue.json'} is missing, so {path} is not a catalogue: check the path",
    )


def check_bank(bank: str) -> None:
    """Refuses a bank that is not there, or not finished."""
    path = Path(bank) / "bank.safetensors" if Path(bank).is_dir() else Path(bank)
    if bank not in SHIPPED:
        _exists(
            path, f"there is no finished bank at {bank}: build one with 'linernotes bank build -o {bank}'"
        )


def check_source(folder: Path) -> None:
    """Refuses a source of recordings that is no folder."""
    _exists(folder, f"there is no folder {folder}: check the path")
    if not folder.is_dir():
        raise LinernotesError(
            f"{folder} is not a folder: give the folder that holds the recordings and their metadata.csv"
        )


def check_file(path: Path, what: str) -> None:
    """Refuses a file that is not there; ``what`` says what it should be."""
    _exists(path, f"{path} is missing, and should be {what}: check the path")
    if path.is_dir():
        raise LinernotesError(f"{path} is a folder: give {what}")


def check_attribution(path: Path) -> None:
    """Refuses what is neither an ``attribution.json`` nor a folder that holds one."""
    check_file(path / "attribution.json" if path.is_dir() else path, "the attribution.json of a clip")


def check_written_clip(path: Path) -> None:
    """Refuses a name for a clip in a format that is not written."""
    if path.suffix.lower() not in SOUND_SUFFIXES:
        raise UsageError(f"{path} cannot be written: use a name that ends in .flac, .wav or .ogg")


def check_new(path: Path, empty_will_do: bool = False) -> None:
    """Refuses to write over anything."""
    if path.exists() and not (empty_will_do and path.is_dir() and not any(path.iterdir())):
        raise LinernotesError(f"{path} exists already: choose another name or remove it")


def check_out(folder: Path) -> None:
    """Refuses a file where a folder is to be written into."""
    for path in (folder, *folder.parents):
        if path.exists():
            if not path.is_dir():
                raise LinernotesError(
                    f"{path} is a file, so nothing can be written into {folder}: give another --out"
                )
            return


def check_methods(methods: Sequence[str] | None, settings: Mapping[str, Any]) -> None:
    """Refuses unknown methods, settings that fit none of them, and values out of range."""
    refuse_together(settings)
    settings_where_they_fit(
        list(methods) if methods is not None else runnable(dict(settings)), dict(settings)
    )


def check_places(model: str, catalogue: str) -> None:
    """Refuses a model or a catalogue that is none, and a cache that cannot be written."""
    check_model(model)
    check_catalogue(catalogue)
    cache_folder()


def check_truth(
    bank: str, model: str, catalogue: str, methods: Sequence[str] | None, settings: Mapping[str, Any]
) -> None:
    """Refuses what an evaluation against a bank cannot use."""
    check_bank(bank)
    check_places(model, catalogue)
    check_methods(methods, settings)


def _exists(path: Path, sentence: str) -> None:
    try:
        found = path.exists()
    except OSError as error:  # a name too long, a folder that may not be entered
        raise LinernotesError(f"{path} cannot be looked at ({error.strerror}): check the path") from None
    if not found:
        raise LinernotesError(sentence)
