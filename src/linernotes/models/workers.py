"""Runs many small jobs on a model, one a core: on a CPU that is quicker than all cores on one job at a time.

Layers of a small model are too small to be shared out well. Each worker has a *twin* of the model: its own
module tree and parameter objects over the very same memory, so that one worker can run on other weights or
carry hooks unseen by the rest.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import nn

from linernotes.jobs.engines import cores
from linernotes.jobs.threads import Threads
from linernotes.models.contract import GenerativeModel, device_of

Job = TypeVar("Job")
Result = TypeVar("Result")
Model = TypeVar("Model", bound=GenerativeModel)


def twin(model: Model) -> Model:
    """The same model with parameter objects of its own; no weight is copied."""
    tensors = [*model.network.parameters(), *model.network.buffers()]
    same_memory = {
        id(t): nn.Parameter(t.data, t.requires_grad) if isinstance(t, nn.Parameter) else t for t in tensors
    }
    other = copy.copy(model)
    other.network = copy.deepcopy(model.network, same_memory)
    return other


@dataclass(frozen=True)
class _Twins(Generic[Model, Job, Result]):
    """The ``Task`` of doing ``work`` with twins of a model."""

    model: Model
    work: Callable[[Model, Job], Result]
    paths: Sequence[Path] = ()

    @property
    def setup(self) -> _Twins[Model, Job, Result]:
        return self

    @property
    def key(self) -> str:
        return self.model.weights_hash

    def open(self) -> Model:
        return twin(self.model)

    def do(self, worker: Model, job: Job) -> Result:
        return self.work(worker, job)


def at_once(model: GenerativeModel) -> int:
    """How many passes run at once: one a core, one on a GPU."""
    return 1 if device_of(model).type == "cuda" else cores()


def in_order(model: Model, jobs: Iterable[Job], work: Callable[[Model, Job], Result]) -> Iterator[Result]:
    """``work(model, job)`` of every job, in the jobs' order, however many cores there are.

    ``jobs`` is taken from as workers come free, in the calling thread: it may draw random numbers.
    """
    count = at_once(model)
    if count == 1:
        yield from (work(model, job) for job in jobs)
        return
    torch.set_num_threads(1)
    try:
        yield from Threads(count).run(_Twins(model, work), jobs)
    finally:
        torch.set_num_threads(count)
