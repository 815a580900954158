"""Long work over rows, cut into shards that are put on disk as they are finished: a killed run goes on, and
ends in the same bytes, whatever ran it.

The cut depends on nothing but the work. A shard is one file, named by what it was made from and written
whole or not at all; it is done when it is there and its content has the hash that it says. Whoever asked for
the work puts the shards together, in one file.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from linernotes.artefacts import HASH_DIGITS, hash_arrays, hash_json, held, load_tensors, save_tensors
from linernotes.errors import LinernotesError
from linernotes.jobs.executor import Executor, Setup
from linernotes.jobs.inline import Inline

if TYPE_CHECKING:
    from torch import Tensor

SEEN_WITHIN_S = (
    90.0  # a file that another node has written, on a disk that is shared (NFS caches for up to 60 s)
)

WorkerIn = TypeVar("WorkerIn", contravariant=True)


class Rows(Protocol[WorkerIn]):
    """Work over rows: a ``Task`` whose jobs are slices of them."""

    @property
    def setup(self) -> Setup[Any]:
        """See ``Task``."""

    @property
    def paths(self) -> Sequence[Path]:
        """See ``Task``."""

    def compute(self, worker: WorkerIn, rows: slice) -> dict[str, Tensor]:
        """Tensors of these rows, which are their first axis."""


def in_shards(
    path: Path,
    kind: str,
    header: Mapping[str, Any],
    count: int,
    size: int,
    work: Rows[Any],
    executor: Executor | None = None,
    on_done: Callable[[int], None] | None = None,
) -> dict[str, Tensor]:
    """Tensors whose first axis is ``count`` rows, computed ``size`` rows at a time and put together in
    ``path``.

    Finished shards lie beside ``path`` while it is made; a finished file is read back, a killed run goes on
    with the missing shards. A second process waits for the first and reads its file.

    Args:
        executor: what runs the shards; this process, one by one, if None.
        on_done: called with the rows that are done, after each shard.

    Raises:
        LinernotesError: ``path`` was made from something else; what ``work`` raised.
    """
    path = path.absolute()  # a worker may stand elsewhere
    stem = f"{path.stem}-{hash_json([kind, dict(header), size])[:HASH_DIGITS]}"
    shards = [
        _Shard(path.with_name(f"{stem}-{start:08d}.safetensors"), start, min(start + size, count))
        for start in range(0, count, size)
    ]
    if not path.exists():
        with held(path, "computed", wait_s=math.inf):
            if not path.exists():  # or it was made by the process that was waited for
                _make(shards, f"{kind}, chunk", header, work, executor or Inline(), on_done)
                return _commit(path, kind, header, shards)
    tensors = load_tensors(path, kind, header)[0]
    for left in path.parent.glob(f"{stem}-*.safetensors"):  # by a run that was killed as it cleared up
        left.unlink(missing_ok=True)
    return tensors


@dataclass(frozen=True)
class _Shard:
    """Rows from ``start`` to ``stop``, and their file."""

    path: Path
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def header(self, header: Mapping[str, Any]) -> dict[str, Any]:
        """What its file says besides the hash of its content."""
        return {**header, "shard": [self.start, self.stop]}


@dataclass(frozen=True)
class _Filed:
    """The ``Task`` of writing shards."""

    work: Rows[Any]
    paths: Sequence[Path]
    kind: str
    header: Mapping[str, Any]

    @property
    def setup(self) -> Setup[Any]:
        return self.work.setup

    def do(self, worker: Any, shard: _Shard) -> int:
        tensors = {
            name: tensor.cpu()
            for name, tensor in self.work.compute(worker, slice(shard.start, shard.stop)).items()
        }
        header = {**shard.header(self.header), "content": _hash(tensors)}
        save_tensors(shard.path, tensors, self.kind, header)
        return len(shard)


def _make(
    shards: Sequence[_Shard],
    kind: str,
    header: Mapping[str, Any],
    work: Rows[Any],
    executor: Executor,
    on_done: Callable[[int], None] | None,
) -> None:
    """Sees to it that every shard is on disk, and whole."""
    todo = [shard for shard in shards if not _whole(shard, kind, header)]
    rows = sum(map(len, shards)) - sum(map(len, todo))
    if rows and on_done:
        on_done(rows)

    def done(shard: _Shard) -> None:
        nonlocal rows
        rows += len(shard)
        if on_done:
            on_done(rows)

    # the lock on the work is ours, so a sign that is there is one of a run that was killed
    with reachable(shards[0].path.with_name(f".{shards[0].path.stem}.reached")) as sign:
        for _ in executor.run(_Filed(work, (*work.paths, sign), kind, header), todo, done) if todo else ():
            pass
    for shard in todo:
        wait_to_see(shard.path)


def _commit(path: Path, kind: str, header: Mapping[str, Any], shards: Sequence[_Shard]) -> dict[str, Tensor]:
    """All shards as one file; a run that is killed here does it again."""
    import torch

    parts = [_read(shard, f"{kind}, chunk", header) for shard in shards]
    result = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    save_tensors(path, result, kind, header)
    for shard in shards:
        shard.path.unlink(missing_ok=True)
    return result


def _whole(shard: _Shard, kind: str, header: Mapping[str, Any]) -> bool:
    """Whether a shard is done; one that is damaged is removed, and said to be."""
    if not shard.path.exists():
        return False
    try:
        _read(shard, kind, header)
    except LinernotesError as error:
        logging.getLogger("linernotes").warning(f"{error}; it is made anew now")
        shard.path.unlink(missing_ok=True)
        return False
    return True


def _read(shard: _Shard, kind: str, header: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors, read = load_tensors(shard.path, kind, shard.header(header))
    if read.get("content") != _hash(tensors):
        raise LinernotesError(
            f"{shard.path} is damaged (its content is not what its hash says): remove it, and run the same "
            "command again"
        )
    return tensors


def _hash(tensors: Mapping[str, Tensor]) -> str:
    return hash_arrays({name: tensor.detach().numpy() for name, tensor in tensors.items()})


@contextmanager
def reachable(sign: Path) -> Iterator[Path]:
    """A file as long as the block lasts: whoever sees it sees this very folder, and not one of the same name
    on a disk of its own.
    """
    sign = sign.absolute()
    sign.parent.mkdir(parents=True, exist_ok=True)
    sign.touch()
    try:
        yield sign
    finally:
        sign.unlink(missing_ok=True)


def wait_to_see(path: Path) -> None:
    """Waits for a file that a worker has written to appear here.

    Raises:
        LinernotesError: it does not.
    """
    until = time.monotonic() + SEEN_WITHIN_S
    while not path.exists():
        if time.monotonic() > until:
            raise LinernotesError(
                f"a worker has written {path}, and it is not to be seen here: put it on a disk that all "
                "nodes share"
            )
        time.sleep(0.2)
        any(path.parent.iterdir())  # makes a network's client look again
