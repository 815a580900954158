"""Reads what ACE-Step's training keeps of its clips (a ``.pt`` file each: latents, conditions, and what was
said of the clip) and writes latents and words as stable-audio-tools keeps them: ``NAME.npy`` and
``NAME.json``, from which a catalogue is built.

A ``.pt`` file is a pickle. Each is read by torch's weights-only loader, which runs no code, in a process of
its own:

    python -m linernotes.models.ace_step_tensors FOLDER OUT
"""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from linernotes.artefacts import read_json, replace_folder, write_json
from linernotes.errors import LinernotesError
from linernotes.models.ace_step_words import METAS, Words
from linernotes.settings.paths import require_new, require_there

MANIFEST = "manifest.json"
LATENTS, MASK, SAID = "target_latents", "attention_mask", "metadata"
NAMED = 5  # files that a sentence names


def convert_tensors(folder: Path, out: Path) -> int:
    """Writes all clips of ``folder`` to the new folder ``out``; how many they are.

    Raises:
        LinernotesError: a clip that the manifest names is missing, or one cannot be read; nothing is written.
    """
    paths = tensor_files(folder)
    require_new(out)
    work = out.with_name(out.name + ".partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        refused = _in_a_process(folder, work)
        if refused:
            named = "; ".join(f"{name}: {why}" for name, why in list(refused.items())[:NAMED])
            raise LinernotesError(
                f"{len(refused)} of {len(paths)} clips in {folder} cannot be read ({named}): preprocess them "
                "anew, or remove them"
            )
        replace_folder(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return len(paths)


def tensor_files(folder: Path) -> list[Path]:
    """The clips of a folder: those that its manifest names, or all that are there.

    Raises:
        LinernotesError: there are none, or named ones are missing, all of which are counted.
    """
    require_there(folder, f"there is no folder {folder}: check the path")
    there = sorted(folder.glob("*.pt"))
    if (folder / MANIFEST).is_file():
        named = read_json(folder / MANIFEST, "a folder of preprocessed clips").get("samples", [])
        names = [PurePosixPath(str(name).replace("\\", "/")).name for name in named]
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise LinernotesError(
                f"{folder / MANIFEST} names {len(names)} clips, and {len(missing)} of them are missing "
                f"({', '.join(missing[:NAMED])}): copy them there, or preprocess them anew"
            )
        there = [folder / name for name in names]
    if not there:
        raise LinernotesError(
            f"{folder} holds no preprocessed clip: give the folder with ACE-Step's .pt files"
        )
    return there


def _in_a_process(folder: Path, out: Path) -> dict[str, str]:
    """What was refused, by name, and why."""
    command = [sys.executable, "-m", "linernotes.models.ace_step_tensors", str(folder.absolute()), str(out)]
    run = subprocess.run(command, capture_output=True, text=True)
    try:
        refused: dict[str, str] = json.loads(run.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = run.stderr.strip().splitlines()[-1:] or [f"exit code {run.returncode}"]
        raise LinernotesError(f"{folder} could not be read ({last[0]}): copy it anew") from None
    return refused


def main(folder: Path, out: Path) -> dict[str, str]:
    """Writes what can be read; what was refused, by name, and why."""
    refused = {}
    for path in tensor_files(folder):
        try:
            latents_ct, said = _clip(torch.load(path, map_location="cpu", weights_only=True))
        except pickle.UnpicklingError:
            refused[path.name] = "it asks for code to be run, which tensors do not need"
        except (RuntimeError, ValueError, EOFError, KeyError, TypeError, OSError) as error:
            refused[path.name] = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        else:
            np.save(out / f"{path.stem}.npy", latents_ct, allow_pickle=False)
            write_json(out / f"{path.stem}.json", said)
    return refused


def _clip(held: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """Latents ``[C, T]`` and what is said of them."""
    if not isinstance(held, dict) or not isinstance(held.get(LATENTS), Tensor):
        raise ValueError(f"it holds no {LATENTS}")
    latents_tc, said = held[LATENTS].float(), held.get(SAID) or {}
    if latents_tc.ndim != 2 or not bool(torch.isfinite(latents_tc).all()):
        raise ValueError(f"its {LATENTS} are not frames by channels, or not finite")
    mask_t = held.get(MASK, torch.ones(len(latents_tc)))
    metas = {name: str(said[name]) for name in METAS if said.get(name)}
    sung = str(said.get("lyrics") or "")
    words = Words(str(said.get("caption") or ""), metas, str(said.get("language") or "en"), sung)
    kept = {
        "prompt": words.prompt,
        "padding_mask": [int(x) for x in mask_t.flatten().tolist()],
        "seconds_total": float(said.get("duration") or 0),
        "path": str(said.get("audio_path") or ""),
        "title": PurePosixPath(str(said.get("filename") or "")).stem,
    }
    return latents_tc.T.contiguous().numpy(), {name: value for name, value in kept.items() if value}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
