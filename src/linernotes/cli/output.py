"""What a person sees: progress, tables, one plain sentence when something fails. Results go to stdout, all
else to stderr.

What goes into a file or a pipe is neither cut nor wrapped, holds no control characters, and a reader that
stops early is no failure.
"""

from __future__ import annotations

import codecs
import errno
import functools
import inspect
import json
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

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
from rich.table import Table as Grid

from linernotes.errors import LinernotesError, LinernotesWarning, UsageError, memory_is_full

if TYPE_CHECKING:
    from linernotes.report.table import Table

UNCUT = 1 << 16  # columns of what is no terminal
INTERRUPTED = 130  # the exit code of what ^C has ended, as shells have it
EVERY_S = 30.0  # between two lines about the same job


class Output:
    """Where sentences and tables go; a sentence is never wrapped, so that a path in it stays whole."""

    def __init__(self, to_stderr: bool = False) -> None:
        self._to_stderr = to_stderr

    def console(self) -> Console:
        """A console as wide as the terminal, or as wide as anything if there is none."""
        stream = sys.stderr if self._to_stderr else sys.stdout
        return Console(
            stderr=self._to_stderr,
            highlight=False,
            emoji=False,
            width=None if stream.isatty() else UNCUT,
        )

    def print(self, *what: Any) -> None:
        self.console().print(*what, soft_wrap=all(isinstance(each, str) for each in what))


stdout = Output()
stderr = Output(to_stderr=True)


class Bars:
    """Progress as jobs begin and go on; call it with ``(what, done, total)``. Bars on a terminal, else a line
    now and then.
    """

    def __init__(self) -> None:
        self._shown = _TerminalBars() if sys.stderr.isatty() else _Lines()

    def __enter__(self) -> Bars:
        self._shown.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        # what follows in brackets may change from call to call
        self._shown.show(what.split(" (")[0], what, done, total)


class _TerminalBars:
    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]left[/]"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=stderr.console(), refresh_per_second=4)
        self._tasks: dict[str, TaskID] = {}

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def show(self, job: str, what: str, done: int, total: int) -> None:
        if job not in self._tasks:
            self._tasks[job] = self._progress.add_task(what, total=total)
        self._progress.update(self._tasks[job], description=what, completed=done, total=total)


class _Lines:
    """A plain line when a job begins, and one every half minute as long as it goes on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def show(self, job: str, what: str, done: int, total: int) -> None:
        now = self._clock()
        first = job not in self._begun
        if not first and now - self._last[job] < EVERY_S:
            return
        begun = self._begun.setdefault(job, now)
        self._last[job] = now
        line = f"{what}: {done} of {total}" + ("" if first else f" ({_span(now - begun)})")
        with suppress(OSError):  # nobody reads it: that is no reason to stop the work
            print(line, file=sys.stderr, flush=True)


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def settle_streams() -> None:
    """Lets text through that the terminal's encoding does not have, as escapes; a
    stream that was closed swallows all.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (stays open)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def print_table(table: Table) -> None:
    """A table under those that stand above it, and what is said of it."""
    for each in (*table.above, table):
        if each.shown:
            stdout.print(_grid(each))
    for note in table.notes:
        stdout.print(f"[dim]{escape(note)}[/]")


def _grid(table: Table) -> Grid:
    """Headings are folded before values are: those of numbers and names stay whole. Where not everything has
    room, what can be spared is left out and named.
    """
    cells = table.cells()
    widths = [max((len(row[i]) for row in cells), default=0) for i in range(len(table.shown))]
    narrow = sum(widths) + 2 * len(widths) > stdout.console().width
    left_out = {i for i, column in enumerate(table.shown) if narrow and column.spare}
    named = ", ".join(str(table.shown[i].heading) for i in sorted(left_out))
    caption = f"a wider terminal also shows: {named}" if named else None
    grid = Grid(box=None, header_style="dim", caption=caption, caption_justify="left", caption_style="dim")
    for i, column in enumerate(table.shown):
        if i in left_out:
            continue
        grid.add_column(
            escape(str(column.heading)),
            style="bold" if column.kind == "name" else None,
            justify="right" if column.kind == "number" else "left",
            min_width=None if column.kind == "text" else widths[i],
            overflow="fold",
        )
    for row in cells:
        grid.add_row(*(escape(cell) for i, cell in enumerate(row) if i not in left_out))
    return grid


def publish(table: Table, out: Path | None, as_json: bool) -> None:
    """An evaluation's table: saved where there is a folder for it, and printed, as JSON if that is wanted."""
    if out is not None:
        table.save(out)
    if as_json:
        print_json(table.json())
    else:
        print_table(table)


def print_json(content: Any) -> None:
    unicode = codecs.lookup(sys.stdout.encoding or "ascii").name.startswith("utf")
    sys.stdout.write(_json(content, unicode) + "\n")


def _json(content: Any, unicode: bool) -> str:
    try:
        return json.dumps(content, indent=2, ensure_ascii=not unicode, allow_nan=False)
    except ValueError:
        from linernotes.artefacts import without_nan  # brings pyarrow, which takes a moment

        return _json(without_nan(content), unicode)


def command(*words: object) -> str:
    """A command that can be pasted into a shell."""
    return shlex.join(str(word) for word in words)


def plainly(command: Callable[..., None]) -> Callable[..., None]:
    """Failures of a command become one sentence and an exit code: 2 for bad usage, 1 for all else. After
    ``--debug`` they stay what they are.
    """

    @functools.wraps(command)
    def run(*args: Any, context: typer.Context, **kwargs: Any) -> None:
        try:
            settle_streams()
            with _warnings_said():
                command(*args, **kwargs)
            sys.stdout.flush()  # a reader that has gone is met here and not when the interpreter ends
        except BrokenPipeError:
            _nobody_reads()
        except (Exception, KeyboardInterrupt) as error:
            if context.find_root().params["debug"]:
                raise
            sentence, code = _said_of(error)
            stderr.print(f"[bold red]error:[/] {escape(sentence)}")
            raise typer.Exit(code) from None

    own: inspect.Signature = getattr(command, "__signature__", None) or inspect.signature(
        command, eval_str=True
    )
    asked = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [*own.parameters.values(), asked]
    run.__doc__ = unwrapped(command.__doc__ or "")
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


@contextmanager
def _warnings_said() -> Iterator[None]:
    """What was left out of an answer is said in a line of its own, without the code that says it."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", LinernotesWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, LinernotesWarning):
                stderr.print(f"[bold yellow]left out:[/] {escape(str(message))}")
            else:
                others(message, category, *where, **more)

        warnings.showwarning = show
        yield


def unwrapped(text: str) -> str:
    """Help with each paragraph on one line, as wide as whoever reads it will have it."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _said_of(error: BaseException) -> tuple[str, int]:
    """One sentence of what went wrong, and the exit code."""
    if isinstance(error, LinernotesError):
        return str(error), 2 if isinstance(error, UsageError) else 1
    if isinstance(error, KeyboardInterrupt):
        return "stopped: the same command goes on from whatever was finished and kept", INTERRUPTED
    where = f" at {error.filename}" if isinstance(error, OSError) and error.filename else ""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "No space left" in str(error):
        return f"the disk is full{where}: free some space and run the same command again", 1
    if memory_is_full(error):
        return (
            "memory is full: end other programs, give a smaller --batch-size or fewer --workers where there "
            "are such, or take a machine with more"
        ), 1
    if isinstance(error, OSError):
        return f"{error.strerror or error}{where}: check that the path can be read and written", 1
    detail = str(error).splitlines()[0] if str(error) else ""
    kind = type(error).__name__
    return f"unexpected {kind}: {detail} (run with --debug before the verb for the whole story)", 1


def _nobody_reads() -> NoReturn:
    """Ends quietly: what is still unwritten goes nowhere, so that the
    interpreter does not complain of it at its end.
    """
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(1)
