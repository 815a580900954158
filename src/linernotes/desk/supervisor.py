"""Keeps a desk's worker alive: starts it, starts it again when it ends, and says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from linernotes.desk import queue
from linernotes.desk.database import Database
from linernotes.desk.folder import DeskFolder
from linernotes.desk.opened import Opened
from linernotes.desk.schema import RUNNING, JobRow

PAUSE_S = (0.5, 1.0, 2.0, 5.0, 15.0)  # before it is started again, longer from time to time
STEADY_S = 60.0  # a worker that lived so long is not taken for one that cannot start
LOOK_S = 1.0
PATIENCE_S = 8.0  # for a worker that is to stop a job and is in the middle of something
LOG = "desk.log"


class Supervisor:
    """A thread that watches the worker."""

    def __init__(self, opened: Opened, database: Database) -> None:
        self._opened, self._database = opened, database
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._unwanted: int | None = None  # the job that nobody wants, and since when that is known
        self._since = 0.0
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the worker; the job it is in is taken up again next time."""
        self._ending.set()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._thread.join(5)
        with suppress(OperationalError), self._database.writing() as session:
            queue.take_back(session, None)

    @property
    def pid(self) -> int | None:
        """The worker's process, while there is one."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def _watch(self) -> None:
        failures = 0
        while not self._ending.is_set():
            began = time.monotonic()
            try:
                how = self._run()
            except OSError as error:  # no memory for a process, no disk for its log: that passes
                how = f"before it began ({error.strerror or error})"
            if self._ending.is_set():
                return
            failures = 0 if time.monotonic() - began > STEADY_S else failures + 1
            # a worker takes its job up again by itself: that nobody reads of it now is no reason to give up
            with suppress(OperationalError), self._database.writing() as session:
                sentence = f"The worker was ended {how} and is started again, with its job."
                queue.take_back(session, queue.KILLED)
                queue.note(session, "worker", {"state": "restarting", "sentence": sentence})
            self._ending.wait(PAUSE_S[min(failures, len(PAUSE_S)) - 1] if failures else PAUSE_S[0])

    def _run(self) -> str:
        """Runs one worker to its end, and says how it ended."""
        words = [sys.executable, "-m", "linernotes.desk.worker", self._opened.model_dump_json()]
        words.append(str(os.getpid()))
        with (DeskFolder(self._opened.folder).path / LOG).open("ab") as log:
            # a session of its own: Ctrl-C at the terminal is the server's, which ends its worker in order
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        if self._ending.is_set():
            self._process.terminate()
        while (code := self._code()) is None:
            self._end_unwanted()
        return f"by signal {signal.Signals(-code).name}" if code < 0 else f"with code {code}"

    def _code(self) -> int | None:
        """The worker's exit code, if it ends soon."""
        assert self._process is not None
        try:
            return self._process.wait(LOOK_S)
        except subprocess.TimeoutExpired:
            return None

    def _end_unwanted(self) -> None:
        """Ends the worker if nobody wants its job any more and it does not listen."""
        try:
            with self._database.reading() as session:
                unwanted = session.scalar(select(JobRow.id).where(JobRow.state == RUNNING, JobRow.stop))
        except OperationalError:
            return  # held by somebody else
        if unwanted is None or unwanted != self._unwanted:
            self._unwanted, self._since = unwanted, time.monotonic()
        elif time.monotonic() - self._since > PATIENCE_S:
            assert self._process is not None
            self._process.kill()
