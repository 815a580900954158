"""Long work in chunks that are put on disk as they are finished: a killed run goes on, and ends in the same
bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linernotes.artefacts import HASH_DIGITS, hash_json, held, load_tensors, save_tensors

if TYPE_CHECKING:
    from torch import Tensor


def in_chunks(
    path: Path,
    kind: str,
    header: Mapping[str, Any],
    count: int,
    chunk: int,
    compute: Callable[[slice], dict[str, Tensor]],
    on_done: Callable[[int], None] | None = None,
) -> dict[str, Tensor]:
    """Tensors whose first axis is ``count`` rows, computed ``chunk`` rows at a time and put together in
    ``path``.

    Finished chunks lie beside ``path`` while it is made; a finished file is read back, a killed run goes on
    at the first missing chunk and ends in the same bytes. A second process waits for the first and reads its
    file. ``on_done(rows)`` is called after each chunk.
    """
    if path.exists():
        return load_tensors(path, kind, header)[0]
    with held(path, "computed", wait_s=math.inf):
        if path.exists():  # by the process that was waited for
            return load_tensors(path, kind, header)[0]
        return _computed_in_chunks(path, kind, header, count, chunk, compute, on_done)


def _computed_in_chunks(
    path: Path,
    kind: str,
    header: Mapping[str, Any],
    count: int,
    chunk: int,
    compute: Callable[[slice], dict[str, Tensor]],
    on_done: Callable[[int], None] | None,
) -> dict[str, Tensor]:
    import torch

    stem = f"{path.stem}-{hash_json([kind, dict(header), chunk])[:HASH_DIGITS]}"
    parts: list[dict[str, Tensor]] = []
    for start in range(0, count, chunk):
        rows = slice(start, min(start + chunk, count))
        part_path = path.with_name(f"{stem}-{start:08d}.safetensors")
        if part_path.exists():
            parts.append(load_tensors(part_path, f"{kind}, chunk", header)[0])
        else:
            parts.append({name: tensor.cpu() for name, tensor in compute(rows).items()})
            save_tensors(part_path, parts[-1], f"{kind}, chunk", header)
        if on_done:
            on_done(rows.stop)
    result = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    save_tensors(path, result, kind, header)
    for part_path in path.parent.glob(f"{stem}-*.safetensors"):
        part_path.unlink(missing_ok=True)
    return result
