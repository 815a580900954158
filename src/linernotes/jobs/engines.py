"""The one place where an engine's name becomes an executor."""

from __future__ import annotations

from linernotes.errors import LinernotesError, UsageError
from linernotes.jobs.executor import Executor
from linernotes.jobs.inline import Inline
from linernotes.jobs.processes import Processes
from linernotes.settings.engine import EngineSettings


def executor_of(settings: EngineSettings, at_once: int | None = None) -> Executor:
    """The executor that ``settings`` ask for, not yet entered.

    Args:
        at_once: workers on this machine if ``settings`` do not say; one a core if None.

    Raises:
        UsageError: what belongs to Ray is asked of another engine.
        LinernotesError: Ray is not installed.
    """
    if settings.engine != "ray" and (settings.address or settings.gpus_per_worker):
        flag = "--address" if settings.address else "--gpus-per-worker"
        raise UsageError(f"{flag} belongs to --engine ray, not to {settings.engine}: leave one of them out")
    if settings.engine == "threads":
        return Inline(settings.workers)  # each job takes all threads
    at_once = at_once or cores()
    if settings.engine == "processes":
        return local(settings.workers or at_once)
    try:
        from linernotes.jobs.cluster import Ray
    except ImportError:
        raise LinernotesError("--engine ray needs Ray, which is not installed: pip install ray") from None
    return Ray(settings.address, settings.workers, settings.gpus_per_worker, at_once)


def local(count: int) -> Executor:
    """So many processes; for a single one this process will do, with one thread as it would have."""
    return Processes(count) if count > 1 else Inline(threads=1)


def cores() -> int:
    """The cores that torch takes here: all of them, or ``OMP_NUM_THREADS``."""
    import torch  # takes seconds

    return torch.get_num_threads()
