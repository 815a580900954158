"""An opened desk: its folder, its database, what it works with, and what keeps its worker alive."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from sqlalchemy.exc import OperationalError

from linernotes.artefacts import held
from linernotes.catalog.store import Catalogue
from linernotes.demo.opening import open_catalogue
from linernotes.desk import queue
from linernotes.desk.asks import Ask
from linernotes.desk.database import Database, open_database
from linernotes.desk.filing import file_tracks
from linernotes.desk.folder import DeskFolder, emptied
from linernotes.desk.opened import Opened, stamp_of
from linernotes.desk.schema import JobRow
from linernotes.desk.sounds import Sounds
from linernotes.desk.supervisor import Supervisor
from linernotes.errors import LinernotesError


@dataclass
class Desk:
    """What pages and programs ask."""

    opened: Opened
    database: Database
    sounds: Sounds
    supervisor: Supervisor | None  # None: nobody works, and everything can still be read
    token: str
    _catalogue: Catalogue | None = None
    _stamp: tuple[int, int] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def folder(self) -> DeskFolder:
        return DeskFolder(self.opened.folder)

    def catalogue(self) -> Catalogue:
        """The catalogue, opened when it is first asked for and when it was built anew, and its tracks entered
        to be searched.

        Raises:
            LinernotesError: it is not there any more.
        """
        with self._lock:
            if self._catalogue is None or stamp_of(self._catalogue.path) != self._stamp:
                opened = open_catalogue(self.opened.catalogue)
                with self.database.writing() as session:
                    file_tracks(session, opened)
                self._catalogue, self._stamp = opened, stamp_of(opened.path)
            return self._catalogue

    def catalogue_trouble(self) -> str:
        """Why the catalogue cannot be opened; empty if it can."""
        try:
            self.catalogue()
        except (LinernotesError, OperationalError) as error:
            return str(error)
        return ""

    def ask(self, ask: Ask, clip_id: str | None = None) -> JobRow:
        """Queues what is asked."""
        with self.database.writing() as session:
            return queue.ask(session, ask, clip_id)


@contextmanager
def open_desk(opened: Opened, working: bool = True) -> Iterator[Desk]:
    """A desk, which nobody else has open meanwhile.

    Args:
        working: whether a worker is started.

    Raises:
        LinernotesError: another desk is open on the folder, or its database is of a newer version.
    """
    folder = DeskFolder(opened.folder)
    if folder.path.exists() and not folder.path.is_dir():
        raise LinernotesError(f"{folder.path} is a file: give a folder for the desk")
    if folder.path.exists() and any(folder.path.iterdir()) and not folder.database.exists():
        raise LinernotesError(f"{folder.path} is no desk and not empty: give a new or an empty folder")
    folder.make()
    with ExitStack() as stack:
        stack.enter_context(
            held(
                folder.path / "desk",
                "served",
                remedy="close that desk, or give another folder",
                named=folder.path,
            )
        )
        emptied(folder.incoming)
        database = open_database(folder)
        stack.callback(database.close)
        database.fold()
        stack.callback(database.fold)
        sounds = Sounds(folder)
        stack.callback(sounds.close)
        supervisor = Supervisor(opened, database) if working else None
        desk = Desk(opened, database, sounds, supervisor, token_of(folder))
        if supervisor is not None:
            supervisor.start()
            stack.callback(supervisor.stop)
        yield desk


def token_of(folder: DeskFolder) -> str:
    """The desk's token, the same from start to start, so that cookies last; for nobody but the owner to
    read.
    """
    path = folder.path / "token"
    there = path.read_text(encoding="ascii").strip() if path.exists() else ""
    if there:
        return there
    made = secrets.token_urlsafe(24)
    unfinished = path.with_name(f".token-{secrets.token_hex(4)}")
    unfinished.touch(mode=0o600)
    unfinished.write_text(made, encoding="ascii")
    unfinished.replace(path)  # never empty: an empty token would be had by everybody
    return made
