"""Threads of their own for what takes seconds (decoding a recording), so that pages never wait for one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

P = ParamSpec("P")
T = TypeVar("T")
AT_ONCE = 20  # further ones wait their turn, outside of any thread
_limiter: RunVar[CapacityLimiter] = RunVar("linernotes_slow")


async def slowly(do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function that takes long."""
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = CapacityLimiter(AT_ONCE)
        _limiter.set(limiter)
    return await to_thread.run_sync(partial(do, *args, **kwargs), limiter=limiter)
