"""A desk's database: made and migrated by the package, refused with a sentence where it cannot be used, and
whole in a copy of the folder, whether the desk is open or closed.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from desks import a_clip, browser, counted, jobs_of, reading_desk, wav
from linernotes.desk import queue
from linernotes.desk.database import open_database
from linernotes.desk.desk import Desk
from linernotes.desk.folder import DATABASE, DeskFolder
from linernotes.desk.schema import Base, ClipRow, JobRow
from linernotes.errors import LinernotesError


def test_migrations_make_exactly_what_the_schema_says(tmp_path: Path) -> None:
    opened = open_database(DeskFolder(tmp_path))
    with opened.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        own = {table.name for table in Base.metadata.sorted_tables}
        found = [
            change
            for change in compare_metadata(context, Base.metadata)
            if not (change[0] == "remove_table" and change[1].name.startswith("track_words"))  # full text
        ]
        assert found == []
        names = {row[0] for row in connection.exec_driver_sql("SELECT name FROM sqlite_master")}
        assert own | {"track_words", "job_under_way"} <= names
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    opened.close()
    open_database(DeskFolder(tmp_path)).close()  # and a second time there is nothing to do


def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    folder = DeskFolder(tmp_path)
    open_database(folder).close()
    with sqlite3.connect(folder.database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = folder.database.read_bytes()
    with pytest.raises(LinernotesError, match=r"written by a newer linernotes \(its version 9999 .*update"):
        open_database(folder)
    assert folder.database.read_bytes() == before


@pytest.mark.parametrize("content", [b"title,artist\n" * 500, b"SQLite format 3\x00" + b"\xff" * 8000])
def test_what_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    folder = DeskFolder(tmp_path)
    folder.database.write_bytes(content)
    with pytest.raises(LinernotesError, match=r"no database of a desk, or damaged .*restore it from a copy"):
        open_database(folder)
    assert folder.database.read_bytes() == content


def test_a_database_damaged_in_its_middle_is_a_sentence(tmp_path: Path) -> None:
    folder = DeskFolder(tmp_path / "desk")
    with reading_desk(folder.path) as desk, desk.database.writing() as session:
        session.add_all(a_clip(f"{i:016x}", prompt="x" * 400) for i in range(400))
    content = bytearray(folder.database.read_bytes())
    for at in range(0, len(content), 4096):
        if b"xxxx" in content[at : at + 4096]:
            content[at : at + 200] = b"\xee" * 200
    folder.database.write_bytes(content)
    with reading_desk(folder.path) as desk:
        for path in ("/api/clips", "/clips"):
            answer = browser(desk).get(path)
            assert answer.status_code == 503
            assert "restore its folder from a copy" in answer.text
        assert browser(desk).get("/api/jobs").status_code == 200  # the rest goes on


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(LinernotesError, match="is no desk and not empty"), reading_desk(tmp_path):
        pass
    with pytest.raises(LinernotesError, match="is a file"), reading_desk(tmp_path / "thesis.tex"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.tex"]


@contextmanager
def held_by_another(path: Path) -> Iterator[None]:
    """Somebody's own SQLite, in the middle of writing."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


def test_a_database_that_another_program_holds_can_be_read_and_says_so(tmp_path: Path) -> None:
    with reading_desk(tmp_path / "desk") as desk:
        desk.database = open_database(desk.folder, wait_s=0.2)
        client = browser(desk)
        with held_by_another(desk.folder.database):
            assert client.get("/clips").status_code == 200
            for refused in (
                client.post("/clips/generate", data={"prompt": "a jig"}),
                client.post("/api/clips/generate", json={"prompt": "a jig"}),
                client.post("/api/clips", files={"file": ("a.wav", wav())}),
            ):
                assert refused.status_code == 503
                assert "nother program holds the desk's database: ask again in a moment" in refused.text
        assert jobs_of(desk) == []
        assert client.post("/api/clips", files={"file": ("a.wav", wav())}).status_code == 201
        desk.database.close()


def test_a_locked_database_is_not_opened(tmp_path: Path) -> None:
    folder = DeskFolder(tmp_path)
    open_database(folder).close()
    other = sqlite3.connect(folder.database, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LinernotesError, match="is locked by another program: close it, and start again"):
        open_database(folder, wait_s=0.1)
    other.close()


def test_a_copy_of_a_closed_desks_folder_is_a_backup(tmp_path: Path) -> None:
    with reading_desk(tmp_path / "desk") as desk:
        for i in range(3):
            answer = browser(desk).post("/api/clips", files={"file": (f"{i}.wav", wav(200 + i, 2000))})
            assert answer.status_code == 201
    here = [path.name for path in (tmp_path / "desk").iterdir() if path.name.startswith(DATABASE)]
    assert here == [DATABASE]  # all of it in one file
    shutil.copytree(tmp_path / "desk", tmp_path / "elsewhere" / "copy")
    shutil.rmtree(tmp_path / "desk")
    with reading_desk(tmp_path / "elsewhere" / "copy") as copy:
        assert counted(copy, ClipRow, JobRow) == [3, 3]
        for clip in browser(copy).get("/api/clips").json()["rows"]:
            assert browser(copy).get(f"/clips/{clip['id']}/sound").status_code == 200


@pytest.mark.parametrize("first", [DATABASE, f"{DATABASE}-wal"])
def test_a_copy_of_an_open_desks_folder_is_a_backup(tmp_path: Path, first: str) -> None:
    """Whichever file is copied first, and however much is written until the second one is: what was there
    when the copy was begun is in it.
    """

    def write(desk: Desk, clips: range) -> None:
        for i in clips:
            with desk.database.writing() as session:
                session.add(a_clip(f"{i:016x}", prompt="x" * 9000))
                queue.note(session, "worker", {"state": "ready", "n": i})

    def take(name: str) -> None:
        shutil.copy(tmp_path / "desk" / name, copy.path / name)

    copy = DeskFolder(tmp_path / "copy")
    copy.path.mkdir()
    with reading_desk(tmp_path / "desk") as desk:
        write(desk, range(100))
    with reading_desk(tmp_path / "desk") as desk:
        write(desk, range(100, 200))
        take(first)
        write(desk, range(200, 700))  # at a thousand pages SQLite by itself would fold the log in
        take(({DATABASE, f"{DATABASE}-wal"} - {first}).pop())
        take(f"{DATABASE}-shm")
    opened = open_database(copy)
    with opened.reading() as session:
        assert session.query(ClipRow).count() >= 200
        assert queue.fact(session, "worker")["n"] == session.query(ClipRow).count() - 1
    with opened.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    opened.close()
