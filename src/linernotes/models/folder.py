"""What a folder must hold to be loaded as a model, looked at without torch, so that a wrong path is refused
at once.
"""

from __future__ import annotations

import json
import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from linernotes.artefacts import read_json
from linernotes.errors import LinernotesError
from linernotes.models.stable_audio_tools_config import check_tools_folder, is_tools_folder
from linernotes.settings.training import Drawn

INDEX = "model_index.json"
TRAINING = "training.json"  # what linernotes' own training leaves with a model
ADAPTER_BASE = "base.json"  # beside an adapter: where its base model is
PIPELINE = "StableAudioPipeline"
MUSICGEN = "MusicGen"
TOKENIZERS = ("tokenizer.json", "spiece.model")  # of MusicGen; either will do
PLUGINS = "linernotes.models"  # entry points of other packages, each naming a class such as StableAudio
STABLE_AUDIO_3, ACE_STEP = "StableAudio3Pipeline", "AceStepPipeline"
# of each of diffusers' pipelines that is known, the folders that hold weights
PIPELINES = {
    PIPELINE: ("vae", "text_encoder", "transformer", "projection_model"),
    STABLE_AUDIO_3: ("vae", "text_encoder", "transformer", "duration_embedder"),
    ACE_STEP: ("vae", "text_encoder", "transformer", "condition_encoder"),
}
PARTS = (*dict.fromkeys(part for parts in PIPELINES.values() for part in parts), "tokenizer", "scheduler")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
HUB_NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
POINTER = b"version https://git-lfs"


def check_is_folder(folder: Path) -> None:
    """Refuses what is no folder at all, whatever the family.

    Raises:
        LinernotesError: a file, a name of the Hub, or nothing.
    """
    if folder.is_file():
        if any(folder.match(pattern) for pattern in PICKLES):
            raise LinernotesError(
                f"{folder} is a pickle, which can run code and is never loaded: convert it with 'linernotes "
                f"convert {folder} -o DIR'"
            )
        raise LinernotesError(f"{folder} is a file, not a model: give the folder that holds model_index.json")
    if not folder.exists():
        if HUB_NAME.fullmatch(str(folder)):
            raise LinernotesError(
                f"{folder} is no folder: models are folders; check the path, or get one with "
                f"'hf download {folder} --local-dir DIR'"
            )
        raise LinernotesError(f"there is no model at {folder}: check the path")


def check_model(folder: Path) -> None:
    """Refuses what no family that is known here can open.

    Raises:
        LinernotesError: no folder, or, unless it may be another package's, none of the pipelines of diffusers
            that are known, no Stable Audio in the layout of stable-audio-tools, and no MusicGen.
    """
    check_is_folder(folder)
    if (folder / ADAPTER_BASE).exists():
        return
    if (folder / INDEX).exists():
        check_folder(folder)
    elif is_tools_folder(folder):
        check_tools_folder(folder)
    elif musicgen_kind(folder) is not None:
        check_musicgen(folder)
    elif not may_be_a_plugins():
        check_folder(folder)


def training_record(folder: Path | None) -> dict[str, Any]:
    """What linernotes' own training left with the model in ``folder``; nothing where it was trained
    elsewhere.
    """
    path = folder / TRAINING if folder else None
    return read_json(path, "a model that linernotes trained") if path and path.exists() else {}


def drawn_in_training(folder: Path | None) -> Drawn:
    """What the training of the model in ``folder`` drew evenly. Those of others (stable-audio-tools,
    audiocraft) draw files, and a random place in each.
    """
    record = training_record(folder)
    if not record:
        return "tracks"
    settings = record.get("settings")  # a hash alone in the first ones
    return settings.get("drawn", "segments") if isinstance(settings, dict) else "segments"


def may_be_a_plugins() -> bool:
    """Whether other packages bring families of models, which may have layouts of their own."""
    return bool(entry_points(group=PLUGINS))


def kind_of(folder: Path) -> str | None:
    """Which diffusers pipeline a folder holds; None if it holds none."""
    if not (folder / INDEX).is_file():
        return None
    try:
        return _index(folder).get("_class_name")
    except LinernotesError:
        return None


def check_folder(folder: Path) -> None:
    """Refuses, before anything is read, what is not one of ``PIPELINES`` in safetensors.

    Raises:
        LinernotesError: no such folder, another pipeline, a part is missing, is there only in pickle form, or
            is the text that Git LFS leaves in a file's place.
    """
    check_is_folder(folder)
    refuse_pointers(folder)
    kind = _index(folder).get("_class_name")
    if kind not in PIPELINES:
        raise LinernotesError(
            f"{folder} holds a {kind}, and only {', '.join(PIPELINES)} are supported: give another model"
        )
    for name in PIPELINES[kind]:
        _check_weights(folder / name)


def refuse_pointers(folder: Path) -> None:
    """Refuses a model some of whose files are Git LFS pointers: it was cloned without git-lfs.

    Raises:
        LinernotesError: names the first of them.
    """
    for path in sorted(
        [*folder.glob("*.json"), *(path for part in PARTS for path in (folder / part).glob("*"))]
    ):
        if is_pointer(path):
            what = "the weights" if path.suffix == ".safetensors" else "the file itself"
            raise LinernotesError(f"{path} is a Git LFS pointer, not {what}: run 'git lfs pull' in {folder}")


def is_pointer(path: Path) -> bool:
    """Whether a file is the few lines that Git LFS keeps in the place of a large one."""
    if not path.is_file() or path.stat().st_size > 1024:
        return False
    with path.open("rb") as file:
        return file.read(len(POINTER)) == POINTER


def variant_of(part: Path) -> str | None:
    """The variant whose weights are loaded: None for the plain ones, ``"fp16"`` if only those are there."""
    names = [path.name for path in part.glob("*.safetensors")]
    halves = [
        name
        for name in names
        if re.search(r"\.fp16(-\d+-of-\d+)?\.safetensors$|-\d+-of-\d+\.fp16\.safetensors$", name)
    ]
    return "fp16" if names and len(halves) == len(names) else None


def musicgen_kind(folder: Path) -> str | None:
    """Which MusicGen a folder holds, by its config's ``model_type``; None if it holds none."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kind = config.get("model_type") if isinstance(config, dict) else None
    return kind if isinstance(kind, str) and kind.startswith("musicgen") else None


def check_musicgen(folder: Path) -> None:
    """Refuses, before anything is read, what is no MusicGen model in safetensors.

    Raises:
        LinernotesError: another kind of MusicGen, weights or tokenizer are missing or are Git LFS pointers.
    """
    check_is_folder(folder)
    kind = musicgen_kind(folder)
    if kind == "musicgen_melody":
        raise LinernotesError(
            f"{folder} holds a {MUSICGEN} Melody, whose clips also follow a melody that no catalogue knows: "
            f"give a {MUSICGEN} that is led by text alone"
        )
    if kind != "musicgen":
        raise LinernotesError(f"{folder} holds a {kind}, not a whole {MUSICGEN} model: give another model")
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        if is_pointer(path):
            raise LinernotesError(f"{path} is a Git LFS pointer: run 'git lfs pull' in {folder}")
    _check_weights(folder)
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise LinernotesError(f"{folder} holds no tokenizer ({' or '.join(TOKENIZERS)}): copy the model anew")


def _check_weights(part: Path) -> None:
    if any(part.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in PICKLES for path in part.glob(pattern))
    if pickles:
        raise LinernotesError(
            f"{part / pickles[0]} is a pickle, which can run code and is never loaded: convert it to "
            "safetensors"
        )
    raise LinernotesError(f"{part} holds no safetensors weights: copy the model anew")


def _index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LinernotesError(
            f"{path} is missing, so {folder} is not a diffusers pipeline: check the path"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise LinernotesError(f"{path} is damaged ({error}): copy the model anew") from None
    if not isinstance(index, dict):
        raise LinernotesError(f"{path} does not describe a diffusers pipeline: check the path")
    return index
