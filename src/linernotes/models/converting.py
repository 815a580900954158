"""A checkpoint of stable-audio-tools in pickle form -> a folder of safetensors that can be opened."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linernotes.artefacts import replace_folder
from linernotes.errors import LinernotesError
from linernotes.models.stable_audio_tools_config import CONFIG, WEIGHTS, read_config
from linernotes.settings.paths import require_file, require_new

TEXT_PARTS = ("text_encoder", "tokenizer")


@dataclass(frozen=True)
class Converted:
    """A checkpoint's weights, in a folder of their own."""

    folder: Path
    weights: int  # tensors
    averaged: bool  # whether they are the moving average that training kept
    left_out: list[str]  # what else the checkpoint held: the optimiser's state and the like


def convert(checkpoint: Path, folder: Path, config: Path | None = None) -> Converted:
    """Writes ``checkpoint`` as a new ``folder`` in the layout of stable-audio-tools, with the
    ``model_config.json`` and the text encoder that lie beside it.

    The pickle is read by torch's weights-only loader in a process of its own: no code in it is run.

    Args:
        config: the ``model_config.json``; the one beside the checkpoint if None.

    Raises:
        LinernotesError: something is missing, or the checkpoint asks for code.
    """
    require_file(checkpoint, "a checkpoint")
    described = config or checkpoint.with_name(CONFIG)
    require_file(described, f"the {CONFIG} that the checkpoint was trained with (give it as --config)")
    require_new(folder)
    work = folder.with_name(folder.name + ".partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        shutil.copyfile(described, work / CONFIG)
        read_config(work)
        said = _unpickled(checkpoint, work / WEIGHTS)
        for part in TEXT_PARTS:
            if (checkpoint.parent / part).is_dir():
                shutil.copytree(checkpoint.parent / part, work / part)
        replace_folder(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Converted(folder, said["weights"], said["averaged"], said["left_out"])


def _unpickled(checkpoint: Path, out: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "linernotes.models.unpickling", str(checkpoint.absolute()), str(out)]
    run = subprocess.run(command, capture_output=True, text=True)
    try:
        said = json.loads(run.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = run.stderr.strip().splitlines()[-1:] or [f"exit code {run.returncode}"]
        raise LinernotesError(f"{checkpoint} could not be read ({last[0]}): copy it anew") from None
    if "refused" in said:
        raise LinernotesError(
            f"{checkpoint} asks for {said['refused']} to be run, which weights do not need, so it was not "
            "loaded: export its weights where it was trained (unwrap_model.py of stable-audio-tools)"
        )
    if "damaged" in said:
        raise LinernotesError(f"{checkpoint} is no checkpoint ({said['damaged']}): copy it anew")
    return said
