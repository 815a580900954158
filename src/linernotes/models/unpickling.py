"""Reads one checkpoint in pickle form and writes its weights as safetensors. Run as a process of its own by
``models.converting``: torch's weights-only loader runs no code, and should it ever, then not here.

    python -m linernotes.models.unpickling CHECKPOINT OUT

Prints one line of JSON: what else the checkpoint held, or what in it was refused.
"""

from __future__ import annotations

import json
import pickle
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from linernotes.models.stable_audio_tools_names import unwrapped

ASKED_FOR = re.compile(r"GLOBAL ([A-Za-z_][\w.]*)")
WEIGHTS_UNDER = "state_dict"


def main(checkpoint: Path, out: Path) -> dict[str, Any]:
    """What is to be said of the checkpoint; its weights are in ``out`` unless it was ``refused``."""
    try:
        held = _load(checkpoint)
    except pickle.UnpicklingError as error:
        asked = ASKED_FOR.search(str(error))
        why = str(error).rpartition("WeightsUnpickler error:")[2].strip().splitlines()[0]
        return {"refused": asked.group(1)} if asked else {"damaged": why.lower()}
    except (RuntimeError, ValueError, EOFError, KeyError, OSError) as error:
        return {"damaged": str(error).splitlines()[0] if str(error) else type(error).__name__}
    inside = isinstance(held, dict) and isinstance(held.get(WEIGHTS_UNDER), dict)
    weights = held[WEIGHTS_UNDER] if inside else held
    if not isinstance(weights, dict):
        return {"damaged": f"it holds a {type(held).__name__} and no weights"}
    tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    if not tensors:
        return {"damaged": "it holds no weights"}
    kept = {name: tensors[place] for name, place in unwrapped(list(tensors)).items()}
    # tensors that share memory may not be in one safetensors file: each gets its own
    owners = Counter(tensor.untyped_storage().data_ptr() for tensor in kept.values())
    for name, tensor in kept.items():
        if owners[tensor.untyped_storage().data_ptr()] > 1:
            kept[name] = tensor.clone()
    save_file({n: t.detach().contiguous() for n, t in kept.items()}, out, {"format": "pt"})
    others = sorted(map(str, set(held) - {WEIGHTS_UNDER})) if inside else []
    return {"weights": len(kept), "averaged": len(kept) < len(tensors), "left_out": others}


def _load(checkpoint: Path) -> Any:
    """Mapped into memory where the file's form allows it: optimiser states are large and not needed."""
    try:
        return torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        return torch.load(checkpoint, map_location="cpu", weights_only=True)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
