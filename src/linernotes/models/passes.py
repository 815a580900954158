"""What one pass through a model holds in memory, and how many go through at once in what is free."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from linernotes.draws import Batch, Draws
from linernotes.models.contract import GenerativeModel
from linernotes.models.weights import with_gradients
from linernotes.models.workers import twin

SHARE = 0.5  # of free memory that passes may take: operations hold more while they run than what they return
CGROUP = Path("/sys/fs/cgroup")  # of a container: what it may take, and has


def pass_bytes(model: GenerativeModel, item: Batch, draw: Draws, gradients: bool) -> int:
    """The most bytes of tensors that a pass of one pair holds at a time, the model's own not among them; what
    a backward pass needs of a forward one is kept if ``gradients``.
    """
    worker = twin(model)
    held = _Held()
    if gradients:
        with with_gradients(list(worker.network.parameters())), held:
            worker.loss_bt(item, draw)
    else:
        with torch.inference_mode(), held:
            worker.loss_bt(item, draw)
    return held.peak


def fitting(most: int, each: int, beside: int, free: int) -> int:
    """How many passes go through at once: ``most``, halved until there is room, so that the number is seldom
    another where a little more memory is free.

    Args:
        each: bytes of a pass; ``beside``: what is held besides, however many they are.
        free: bytes of memory there are for them.
    """
    while most > 1 and most * each + beside > SHARE * free:
        most //= 2
    return most


def free_bytes(device: torch.device) -> int:
    """Memory that is free for tensors on a device; for the CPU of a container, of what that may take."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # no container, or one that says "max"
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        free = min(free, limit - used + int(stat.get("inactive_file", 0)))
    return free


class _Held(TorchDispatchMode):
    """Counts the bytes of all tensors that come to be while it is on, and their ``peak``."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._held = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        before = {storage._cdata for storage in _storages((args, kwargs))}
        made = func(*args, **(kwargs or {}))
        for storage in _storages(made):
            if storage._cdata not in before | self._known:
                self._known.add(storage._cdata)
                self._held += storage.nbytes()
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self._held)
        return made

    def _freed(self, storage: int, size: int) -> None:
        self._known.discard(storage)
        self._held -= size


def _storages(tensors: object) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tensors) if isinstance(leaf, Tensor)]
