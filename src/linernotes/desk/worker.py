"""The worker of a desk: a process that takes jobs from the queue, one after the other, and ends with its
server. ``python -m linernotes.desk.worker OPENED SERVER``, where OPENED is JSON and SERVER a process id.
"""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from sqlalchemy.exc import OperationalError

from linernotes.artefacts import held
from linernotes.desk import queue
from linernotes.desk.asks import UnknownKindError, read_ask
from linernotes.desk.database import Database, open_database
from linernotes.desk.folder import DeskFolder, emptied
from linernotes.desk.opened import Opened
from linernotes.desk.schema import DONE, FAILED, STOPPED, JobRow
from linernotes.errors import LinernotesError, memory_is_full

if TYPE_CHECKING:
    from linernotes.desk.tasks import Tasks

EVERY_S = 0.3  # between two looks at the queue
NOTED_S = 0.5  # between two notes of how far a job is
WAIT_S = 30.0  # for a worker before this one to end
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MEMORY_FULL = "there is too little memory for this: close other programs, and ask again"
NICENESS = 10  # pages go first


class Stopped(BaseException):
    """Somebody does not want this job any more. No error, so that nothing on the way takes it for one."""


class Worker:
    """Takes jobs and does them."""

    def __init__(self, opened: Opened, database: Database, server: int) -> None:
        self.opened, self.database, self.server = opened, database, server
        self.folder = DeskFolder(opened.folder)
        self._job: int | None = None
        self._noted = 0.0
        self.tasks: Tasks | None = None

    def run(self) -> None:
        """Works until the server that started it has gone."""
        if os.getppid() != self.server:
            return
        with held(self.folder.path / "worker", "worked off", wait_s=WAIT_S):
            with self.database.writing() as session:
                queue.take_back(session, queue.KILLED)
            emptied(self.folder.making)
            self.open()
            while os.getppid() == self.server:
                try:
                    if not self.one():
                        time.sleep(EVERY_S)
                except OperationalError as error:  # somebody else holds the database: that passes
                    _say_held(error)
                    time.sleep(EVERY_S)

    def _note(self, state: str, sentence: str = "", **more: object) -> None:
        with self.database.writing() as session:
            queue.note(session, "worker", {"state": state, "sentence": sentence, "pid": os.getpid(), **more})

    def open(self) -> None:
        """Opens model and catalogue, and measures how long jobs will take."""
        self._note("opening")
        from linernotes.desk.tasks import Tasks  # brings torch

        self.tasks = Tasks(self.opened, self.database, self.progress)
        try:
            work = self.tasks.open()
            self._note(
                "ready",
                model=work.model.name,
                model_hash=work.model.weights_hash,
                catalogue_hash=work.catalogue.hash,
            )
            (plan,) = work.plan([self.opened.method])
            with self.database.writing() as session:
                queue.note(session, "plan", {"attribute": plan.once_s + plan.queries_s})
        except (LinernotesError, OSError) as error:
            self._note("cannot open", str(error))
        except OperationalError:
            raise
        except Exception as error:  # nothing can be made, but all can be read: no reason to end
            traceback.print_exc()
            self._note("cannot open", _unexpected(error))

    def one(self) -> bool:
        """Does the next job; whether there was one."""
        with self.database.writing() as session:
            job = queue.take(session)
        if job is None:
            return False
        self._job, self._noted = job.id, 0.0
        try:
            made = self._done(job)
            self._end(DONE, "", made)
        except Stopped:
            self._end(STOPPED, "")
        except LinernotesError as error:
            self._end(FAILED, str(error))
        except OSError as error:
            self._end(FAILED, said_of(error))
        except OperationalError as error:
            self._end(FAILED, sentence_of(error))
        except (ValidationError, UnknownKindError):
            self._end(FAILED, "this job was asked for by another version of linernotes: ask for it again")
        except Exception as error:
            if not memory_is_full(error):
                traceback.print_exc()
            self._end(FAILED, _unexpected(error))
        finally:
            self._job = None
        return True

    def _done(self, job: JobRow) -> dict[str, object]:
        assert self.tasks is not None
        return self.tasks.do(read_ask(job.kind, job.asked))

    def _end(self, state: str, sentence: str, made: dict[str, object] | None = None) -> None:
        """Says how the job ended, as soon as that can be written: until then nobody knows."""
        assert self._job is not None
        while True:
            try:
                with self.database.writing() as session:
                    job = session.get(JobRow, self._job)
                    if job is not None:
                        queue.end(job, state, sentence, made)
                return
            except OperationalError as error:
                _say_held(error)
            if os.getppid() != self.server:
                raise SystemExit(0)  # it is taken up again
            time.sleep(NOTED_S)

    def progress(self, what: str, done: int, total: int) -> None:
        """Notes how far the job is.

        Raises:
            Stopped: nobody wants it any more, or the server has gone.
        """
        if self._job is None or time.monotonic() - self._noted < NOTED_S:
            return
        self._noted = time.monotonic()
        if os.getppid() != self.server:
            raise SystemExit(0)
        with suppress(OperationalError), self.database.writing() as session:
            if not queue.progressed(session, self._job, what, done, total):
                raise Stopped


def sentence_of(error: OperationalError) -> str:
    """One sentence about a database that could not be written or read."""
    why = str(error.orig)
    if "full" in why:
        return "the disk is full: free some space, and ask again"
    if "locked" in why or "busy" in why:
        return "another program holds the desk's database: ask again in a moment"
    return f"the desk's database cannot be used ({why}): check that its folder can be read and written"


def _say_held(error: OperationalError) -> None:
    print(f"the database cannot be written now ({error.orig})", file=sys.stderr, flush=True)


def _unexpected(error: Exception) -> str:
    if memory_is_full(error):
        return MEMORY_FULL
    return f"unexpected {type(error).__name__}: {error} (the desk's log has the whole story)"


def said_of(error: OSError) -> str:
    """One sentence about a file that could not be written or read."""
    if error.errno in FULL:
        return "the disk is full: free some space, and ask again"
    if memory_is_full(error):
        return MEMORY_FULL
    return f"{error.strerror or error}: check that the desk's folder can be read and written"


def main(words: list[str]) -> None:
    """Runs a worker."""
    opened = Opened.model_validate_json(words[0])
    os.nice(NICENESS)
    database = open_database(DeskFolder(Path(opened.folder)))
    try:
        Worker(opened, database, int(words[1])).run()
    except LinernotesError as error:
        print(str(error), file=sys.stderr)
        sys.exit(1)
    finally:
        database.close()


if __name__ == "__main__":
    main(sys.argv[1:])
