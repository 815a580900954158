"""Looks at a folder in the layout of stable-audio-tools (``model_config.json``, ``model.safetensors``): what
its model is, or why it cannot be opened, without torch.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from linernotes.artefacts import read_json
from linernotes.errors import LinernotesError
from linernotes.models.stable_audio_tools_schema import ToolsConfig

CONFIG = "model_config.json"
WEIGHTS = "model.safetensors"


def is_tools_folder(folder: Path) -> bool:
    """Whether a folder has the layout of stable-audio-tools."""
    return (folder / CONFIG).is_file()


def read_config(folder: Path) -> ToolsConfig:
    """The folder's ``model_config.json``.

    Raises:
        LinernotesError: it is damaged, or has a part that is not supported, named by its field.
    """
    path = folder / CONFIG
    raw = read_json(path, "a stable-audio-tools model")
    if not isinstance(raw, dict):
        raise LinernotesError(f"{path} does not describe a model: check the path")
    try:
        config = ToolsConfig.model_validate(raw)
    except ValidationError as error:
        raise LinernotesError(
            f"{path}: {_first(error)}, so this model cannot be opened: give another"
        ) from None
    strange = config.strange()
    if strange:
        raise LinernotesError(f"{path}: {strange}, so this model cannot be opened: give another")
    return config


def check_tools_folder(folder: Path) -> None:
    """Refuses, before weights are read, what cannot be opened.

    Raises:
        LinernotesError: see ``read_config``; no weights, or in pickle form only; no text encoder.
    """
    config = read_config(folder)
    if not (folder / WEIGHTS).is_file():
        pickles = sorted(path for pattern in ("*.ckpt", "*.pt", "*.pth") for path in folder.glob(pattern))
        if pickles:
            raise LinernotesError(
                f"{pickles[0]} is a pickle, which can run code and is never loaded: convert it with "
                f"'linernotes convert {pickles[0]} -o DIR'"
            )
        raise LinernotesError(f"{folder / WEIGHTS} is missing: copy the model anew")
    if not (folder / "text_encoder").is_dir():
        name = config.text.config.t5_model_name
        hub = name if "/" in name else f"google-t5/{name}"
        raise LinernotesError(
            f"{folder} has no text_encoder, and its prompts go through {name}, which stable-audio-tools "
            f"fetches apart: get it with 'hf download {hub} --local-dir {folder / 'text_encoder'}'"
        )


def _first(error: ValidationError) -> str:
    """The first mistake, in words."""
    mistake = error.errors()[0]
    name, value = ".".join(map(str, mistake["loc"])), mistake.get("input")
    match mistake["type"]:
        case "extra_forbidden":
            return f"{name} is a part that linernotes does not know"
        case "missing":
            return f"{name} is missing"
        case "literal_error":
            return f"{name} is {value!r}, and only {mistake['ctx']['expected']} is supported"
        case "union_tag_invalid":
            known = mistake["ctx"]["expected_tags"]
            return (
                f"{name} is a conditioner of type {mistake['ctx']['tag']!r}, and only {known} are supported"
            )
    return f"{name} = {value!r} is not supported ({mistake['msg'].lower()})"
