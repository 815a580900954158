"""What a person sees: progress, tables, one plain sentence when something fails. Results go to stdout, all else to stderr."""

from __future__ import annotations

import errno
import functools
import inspect
import json
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from linernotes.errors import LinernotesError, UsageError

stdout = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


class Bars:
    """Progress bars that appear as jobs begin; call it with ``(what, done, total)``."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("[dim]left[/]"), TimeRemainingColumn(),
        )  # fmt: skip
        self._progress = Progress(*columns, console=stderr, refresh_per_second=4)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        key = what.split(" (")[0]  # what follows in brackets may change from call to call
        if key not in self._tasks:
            self._tasks[key] = self._progress.add_task(what, total=total)
        self._progress.update(self._tasks[key], description=what, completed=done, total=total)


def print_json(content: Any) -> None:
    from linernotes.artefacts import without_nan  # brings torch, which takes seconds

    sys.stdout.write(json.dumps(without_nan(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def plainly(command: Callable[..., None]) -> Callable[..., None]:
    """Failures of a command become one sentence and an exit code: 2 for bad usage, 1 for all else."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except LinernotesError as error:
            _fail(str(error), 2 if isinstance(error, UsageError) else 1, error)
        except KeyboardInterrupt as error:
            _fail("stopped; what was finished is kept, and the same command goes on from there", 1, error)
        except OSError as error:
            where = f" at {error.filename}" if error.filename else ""
            if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
                _fail(f"the disk is full{where}: free some space and run the same command again", 1, error)
            _fail(f"{error.strerror or error}{where}: check that the path can be read and written", 1, error)
        except Exception as error:
            if "No space left" in str(error):
                _fail("the disk is full: free some space and run the same command again", 1, error)
            detail = str(error).splitlines()[0] if str(error) else ""
            _fail(
                f"unexpected {type(error).__name__}: {detail} (run with --debug before the verb for the whole story)",
                1,
                error,
            )

    run.__signature__ = getattr(command, "__signature__", None) or inspect.signature(command, eval_str=True)  # type: ignore[attr-defined]
    return run


def _fail(sentence: str, code: int, error: BaseException) -> None:
    if debug.on:
        raise error
    stderr.print(f"[bold red]error:[/] {escape(sentence)}", soft_wrap=True)
    raise typer.Exit(code)


class _Debug:
    on = False


debug = _Debug()
