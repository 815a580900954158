"""What passes through a model hold in memory, and how many go through at once in what a device has."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from linernotes.models.contract import GenerativeModel
from linernotes.models.weights import with_gradients
from linernotes.models.workers import twin

SHARE = 0.5  # of memory that passes may take: operations hold more while they run than what they return
# what a container may take and has, by the two generations of control groups
CGROUPS = [
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
]


class Memory(NamedTuple):
    """Bytes of a device: all that it has, and what is free of it."""

    total: int
    free: int


def bytes_held(
    model: GenerativeModel, work: Callable[[GenerativeModel], object], trained: Collection[str] = ()
) -> int:
    """The most bytes of tensors that ``work`` holds at a time, the model's own not among them.

    Args:
        work: is given a twin of the model.
        trained: parameters that take gradients meanwhile, by their names: what a backward pass to them needs
            of a forward one is kept.
    """
    worker, held = twin(model), _Held()
    parameters = [p for name, p in worker.network.named_parameters() if name in trained]
    with with_gradients(parameters) if parameters else torch.inference_mode(), held:
        work(worker)
    return held.peak


def fitting(most: int, each: int, beside: int, room: int) -> int:
    """How many passes go through at once: ``most``, halved until there is room.

    Args:
        each: bytes of a pass; ``beside``: what is held besides, however many they are.
        room: bytes of memory that there are for them, of which they take ``SHARE``.
    """
    while most > 1 and most * each + beside > SHARE * room:
        most //= 2
    return most


def memory_of(device: torch.device) -> Memory:
    """What a device has; for the CPU of a container, what that may take."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return Memory(total, free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    here = psutil.virtual_memory()
    total, free = int(here.total), int(here.available)
    for folder, *names in CGROUPS:
        with suppress(OSError, ValueError, KeyError):  # no container, or one that says "max"
            limit, used = (int(Path(folder, name).read_text()) for name in names[:2])
            stat = dict(line.split() for line in Path(folder, "memory.stat").read_text().splitlines())
            total, free = min(total, limit), min(free, limit - used + int(stat[names[2]]))
    return Memory(total, free)


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
