"""A desk's database: SQLite with a write-ahead log, so that pages are read while the worker writes; brought
to the version of this package by migrations, and refused if a newer one made it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from linernotes.desk.folder import DeskFolder
from linernotes.errors import LinernotesError
from linernotes.version import __version__

# the log is folded into the database when a desk is closed and opened, and while it is open only once the log
# has grown this long (1 GiB, about a day of jobs without a pause): until then the database itself does not
# change, so that a copy of both, made while jobs run, holds all that was written before the copy was begun
FOLDED_PAGES = 1 << 18
KEPT = 64  # connections, one for every thread that answers: to make one takes as long as to draw a page
WAIT_S = 10.0  # for another process that writes
MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """An opened database. Sessions are short: they read or write, and end."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._sessions = sessionmaker(engine, expire_on_commit=False)
        self._writing = sessionmaker(engine.execution_options(writes=True), expire_on_commit=False)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that changes nothing."""
        with self._sessions() as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session of which everything is kept, or nothing if the block fails."""
        with self._writing.begin() as session:
            yield session

    def fold(self) -> None:
        """Folds the log of what was written into the database, if nobody else is reading it."""
        with suppress(OperationalError), closing(self.engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        self.engine.dispose()


def open_database(folder: DeskFolder, wait_s: float = WAIT_S) -> Database:
    """Opens the database of a desk, which is made or brought up to date if need be.

    Raises:
        LinernotesError: it is of a newer linernotes, or no database, or damaged.
    """
    path = folder.database
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": wait_s}, pool_size=KEPT)
    event.listen(engine, "connect", _settled)
    event.listen(engine, "begin", _begun)
    try:
        _migrated(path, engine)
    except OperationalError as error:
        engine.dispose()
        why = str(error.orig)
        if "locked" in why or "busy" in why:
            raise LinernotesError(f"{path} is locked by another program: close it, and start again") from None
        raise LinernotesError(
            f"{path} cannot be opened ({why}): check that it can be read and written"
        ) from None
    except DatabaseError as error:
        engine.dispose()
        raise LinernotesError(
            f"{path} is no database of a desk, or damaged ({error.orig}): restore it from a copy, or choose "
            "another folder"
        ) from None
    except BaseException:
        engine.dispose()
        raise
    return Database(engine)


def _settled(connection: Any, _record: Any) -> None:
    connection.isolation_level = (
        None  # transactions begin where SQLAlchemy says so, and not where sqlite3 thinks
    )
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute(f"PRAGMA wal_autocheckpoint = {FOLDED_PAGES}")
    cursor.close()


def _begun(connection: Any) -> None:
    # who is going to write says so at once: a reader cannot become a writer once somebody else has written
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrated(path: Path, engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    with engine.connect() as connection:
        there = MigrationContext.configure(connection).get_current_revision()
    if there is not None and there not in known:
        raise LinernotesError(
            f"{path} was written by a newer linernotes (its version {there} is unknown to {__version__}): "
            "update linernotes, or choose another folder"
        )
    if there == scripts.get_current_head():
        return
    with engine.execution_options(writes=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
