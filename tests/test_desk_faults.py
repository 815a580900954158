"""A desk under faults, with real processes: what is killed is taken up again with the same result, nothing is
lost and nothing is there twice; what holds or fills the disk is a sentence, and the rest goes on.
"""

from __future__ import annotations

import errno
import json
import os
import re
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from sqlalchemy.exc import OperationalError

import linernotes
from desks import PATIENCE_S, a_worker, browser, eventually, jobs_of, reading_desk, wav, worked_off
from linernotes.catalog.store import Catalogue
from linernotes.desk.database import open_database
from linernotes.desk.desk import open_desk
from linernotes.desk.folder import DeskFolder
from linernotes.desk.opened import Opened
from linernotes.desk.schema import DONE, FAILED, QUEUED, RUNNING, AttributionRow, ClipRow, ComparisonRow
from linernotes.desk.serving import bound
from linernotes.desk.supervisor import Supervisor
from linernotes.desk.worker import MEMORY_FULL
from linernotes.errors import LinernotesError

METHODS = ["readout", "latent", "activations", "random"]


class Served:
    """``linernotes desk`` in a process of its own."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "linernotes", "desk", *words, "--port", "0"]
        self.client: httpx.Client | None = None
        self.process = subprocess.Popen(  # in a group of its own, as a terminal starts it
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def answers(self) -> httpx.Client:
        """What asks it, as soon as it is there."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        assert ready
        link = re.search(r"http://127\.0\.0\.1:\d+", self.process.stdout.readline())
        assert link, self.process.stderr
        self.client = httpx.Client(base_url=link[0], timeout=PATIENCE_S)
        eventually(lambda: answered(self.client), "the desk answers")
        return self.client


def answered(client: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return client.get("/api/jobs").status_code == 200
    return False


@contextmanager
def served(*words: str) -> Iterator[Served]:
    server = Served(*words)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.terminate()
        server.process.communicate(timeout=PATIENCE_S)
        if server.client is not None:
            server.client.close()


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked after does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with suppress(OSError):
                if (path / "stat").read_text().rpartition(")")[2].split()[1] == str(pid):
                    found.append(int(path.name))
    return found


def fact(folder: Path, name: str) -> dict[str, object]:
    with sqlite3.connect(folder / "desk.sqlite", timeout=PATIENCE_S) as connection:
        found = connection.execute("SELECT value FROM fact WHERE name = ?", [name]).fetchone()
    connection.close()
    return dict(json.loads(found[0])) if found else {}


def job(folder: Path, number: int) -> sqlite3.Row:
    with sqlite3.connect(folder / "desk.sqlite", timeout=PATIENCE_S) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute("SELECT * FROM job WHERE id = ?", [number]).fetchone()
    connection.close()
    return found


def caught_in(folder: Path, number: int) -> int:
    """Waits until the worker is in a job; its process."""
    eventually(lambda: bool(job(folder, number)) and job(folder, number)["state"] == "running", "it begins")
    return int(fact(folder, "worker")["pid"])


def test_closing_a_desk_is_no_fault_of_the_job_that_is_under_way(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    """Ctrl-C goes to all that a terminal has started; the worker is the server's to end."""
    folder = tmp_path / "desk"
    words = (str(folder), "--model", str(model_path), "--catalog", str(catalogue.path))
    with served(*words) as server:
        client = server.answers()
        clip = client.post("/api/clips", files={"file": ("a.wav", wav())}).json()
        asked = client.post(f"/api/clips/{clip['clip_id']}/comparisons", json={"methods": METHODS}).json()
        worker = caught_in(folder, asked["id"])
        os.killpg(server.process.pid, signal.SIGINT)
        assert server.process.wait(PATIENCE_S) == 0
    assert not alive(worker)
    assert (job(folder, asked["id"])["state"], job(folder, asked["id"])["begun"]) == ("queued", 0)


def test_killed_workers_and_servers_lose_nothing_and_leave_nothing_twice(
    tmp_path: Path, model_path: Path, catalogue: Catalogue
) -> None:
    folder = tmp_path / "desk"
    words = (str(folder), "--model", str(model_path), "--catalog", str(catalogue.path))
    with served(*words) as server:
        client = server.answers()
        clip = client.post("/api/clips", files={"file": ("a.wav", wav())}, data={"prompt": "tone 1"}).json()
        eventually(lambda: job(folder, 1)["state"] == "done", "a clip is attributed")
        # the worker is killed in a job: it is taken up again
        compared = client.post(f"/api/clips/{clip['clip_id']}/comparisons", json={"methods": METHODS}).json()
        first = caught_in(folder, compared["id"])
        os.kill(first, signal.SIGKILL)
        eventually(lambda: fact(folder, "worker")["state"] == "restarting", "it is said")
        assert "The worker was ended by signal SIGKILL and is started again" in client.get("/clips").text
        eventually(lambda: job(folder, compared["id"])["state"] in (DONE, FAILED), "it is taken up again")
        assert (job(folder, compared["id"])["state"], job(folder, compared["id"])["begun"]) == (DONE, 2)
        # the server is killed while the worker is in a job: the worker ends, too
        shutil.rmtree(folder / "comparisons")
        for path in (folder / "attributions").iterdir():
            (path / "attribution.json").unlink()  # so that there is something to do
        again = client.post(f"/api/clips/{clip['clip_id']}/comparisons", json={"methods": METHODS}).json()
        client.post("/api/clips/generate", json={"prompt": "tone 2", "seconds": 0.4})
        assert client.get("/catalogue/tracks/0/sound", headers={"Range": "bytes=0-99"}).status_code == 206
        worker = caught_in(folder, again["id"])
        assert worker != first
        helpers = children(server.process.pid)
        assert worker in helpers
        assert len(helpers) > 1  # one of them prepares sounds
        server.process.kill()
        eventually(lambda: not any(alive(one) for one in helpers), "all end with their server")
        assert job(folder, again["id"])["state"] in ("running", "queued")
    with served(*words) as server:
        client = server.answers()
        eventually(
            lambda: {one["state"] for one in client.get("/api/jobs").json()["rows"]} == {DONE}, "all is done"
        )
        jobs = client.get("/api/jobs").json()["rows"]
        assert [one["kind"] for one in jobs] == ["attribute", "generate", "compare", "compare", "attribute"]
        assert client.get("/api/clips").json()["total"] == 2
        record = client.get(f"/api/clips/{clip['clip_id']}/attributions").json()
        assert sorted(one["method"] for one in record) == sorted(METHODS)
    opened = open_database(DeskFolder(folder))
    with opened.reading() as session:
        assert session.query(AttributionRow).count() == len(METHODS) + 1
        assert session.query(ComparisonRow).count() == 1
        assert session.query(ClipRow).count() == 2
        rows = {
            row.method: row.id for row in session.query(AttributionRow).filter_by(clip_id=clip["clip_id"])
        }
    opened.close()
    with linernotes.Workspace(model_path, catalogue.path) as work:  # uninterrupted
        for method in METHODS:
            path = folder / "clips" / clip["clip_id"] / "clip.wav"
            work.attribute(path, tmp_path / method, prompt="tone 1", method=method)
            for name in ("attribution.json", "scores.parquet"):
                own, there = folder / "attributions" / rows[method] / name, tmp_path / method / name
                assert without_places(own) == without_places(there)


def without_places(path: Path) -> object:
    if path.suffix != ".json":
        return path.read_bytes()
    return {name: value for name, value in json.loads(path.read_text()).items() if name != "sources"}


def test_a_second_desk_on_the_folder_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with reading_desk(tmp_path / "desk") as desk:
        second = Served(str(desk.folder.path), "--read-only")
        _, said = second.process.communicate(timeout=PATIENCE_S)
        assert second.process.returncode == 1
        flat = " ".join(said.split())
        assert f"{desk.folder.path} is being served by" in flat
        assert flat.endswith("close that desk, or give another folder")
        assert "Traceback" not in said
        assert browser(desk).get("/clips").status_code == 200


def test_a_port_in_use_is_a_sentence() -> None:
    with bound("127.0.0.1", 0) as there:
        port = there.getsockname()[1]
        in_use = pytest.raises(LinernotesError, match=rf"^port {port} is in use: give another one")
        with in_use, bound("127.0.0.1", port):
            pass
    with pytest.raises(LinernotesError, match=r"^nothing can answer at 192\.0\.2\.1 "), bound("192.0.2.1", 0):
        pass
    with bound("127.0.0.1", port) as there:  # and it is free again
        socket.create_connection(there.getsockname(), 5).close()


def test_workers_are_started_again_although_nobody_can_write_that_one_ended(tmp_path: Path) -> None:
    folder = DeskFolder(tmp_path / "desk")
    folder.make()
    database = open_database(folder, wait_s=0.1)
    supervisor = Supervisor(Opened(folder=folder.path, model="no/model"), database)
    other = sqlite3.connect(folder.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    supervisor.start()
    try:
        eventually(lambda: supervisor.pid is not None, "a worker is started")
        first = supervisor.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        eventually(lambda: supervisor.pid not in (None, first), "another one is")
    finally:
        other.close()
        supervisor.stop()
        database.close()
    assert supervisor.pid is None


def test_a_worker_whose_server_had_gone_before_it_began_ends(tmp_path: Path) -> None:
    folder = DeskFolder(tmp_path / "desk")
    folder.make()
    opened = Opened(folder=folder.path, model="no/model", catalogue="no/catalogue")
    words = [sys.executable, "-m", "linernotes.desk.worker", opened.model_dump_json(), "1"]
    if os.getpid() == 1:
        words[-1] = "2"
    assert subprocess.run(words, timeout=PATIENCE_S, check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1.5 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("only root can mount the small disk that this test fills")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def filled(folder: Path) -> Path:
    """Fills a disk to its last byte."""
    path = folder / "filling"
    with path.open("wb", buffering=0) as file:
        with suppress(OSError):
            while True:
                file.write(bytes(4096))
        with suppress(OSError):
            while True:
                file.write(b"x")
    return path


def test_a_full_disk_is_a_sentence_and_the_rest_goes_on(
    small_disk: Path, model_path: Path, catalogue: Catalogue, tmp_path: Path
) -> None:
    opened = Opened(
        folder=small_disk / "desk",
        model=str(model_path),
        catalogue=str(catalogue.path),
        method="latent",
        cache=tmp_path / "cache",
    )
    with open_desk(opened, working=False) as desk:
        client, worker = browser(desk), a_worker(desk)
        kept = client.post("/api/clips", files={"file": ("a.wav", wav())}).json()["clip_id"]
        filling = filled(small_disk)
        for refused in (
            client.post("/api/clips", files={"file": ("b.wav", wav(samples=90_000))}),
            client.post("/clips", files={"file": ("b.wav", wav(samples=90_000))}),
        ):
            assert refused.status_code == 507
            assert "the disk is full: free some space" in refused.text.lower()
        for path in ("/clips", f"/clips/{kept}", f"/clips/{kept}/sound", "/accounts", "/api/jobs"):
            assert client.get(path).status_code == 200
        with pytest.raises(OperationalError):
            worker.one()  # cannot even take its job, and looks again
        assert [job.state for job in jobs_of(desk)] == [QUEUED]
        filling.unlink()
        assert worker.one()
        assert [(job.state, job.sentence) for job in jobs_of(desk)] == [(DONE, "")]
        assert client.post("/api/clips", files={"file": ("b.wav", wav(440))}).status_code == 201


def no_room() -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


@pytest.mark.parametrize("take", [lambda: np.empty(10**15), lambda: torch.empty(10**15), no_room])
def test_a_job_without_memory_ends_with_a_sentence(
    tmp_path: Path,
    model_path: Path,
    catalogue: Catalogue,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    take: Callable[[], object],
) -> None:
    opened = Opened(folder=tmp_path / "desk", model=str(model_path), catalogue=str(catalogue.path))
    with open_desk(opened, working=False) as desk:
        browser(desk).post("/api/clips", files={"file": ("a.wav", wav())})
        monkeypatch.setattr("linernotes.desk.tasks.Tasks.do", lambda *_: take())
        (ended,) = worked_off(desk)
    assert (ended.state, ended.sentence) == (FAILED, MEMORY_FULL)
    assert "Traceback" not in capfd.readouterr().err


def test_a_job_that_ends_while_the_database_is_held_has_ended_when_it_is_not(
    tmp_path: Path, model_path: Path, catalogue: Catalogue, capfd: pytest.CaptureFixture[str]
) -> None:
    opened = Opened(folder=tmp_path / "desk", model=str(model_path), catalogue=str(catalogue.path))
    with open_desk(opened, working=False) as desk:
        client = browser(desk)
        clip = client.post("/api/clips", files={"file": ("a.wav", wav())}).json()["clip_id"]
        worker = a_worker(desk)
        worker.database = worker.tasks.database = open_database(desk.folder, wait_s=0.1)
        other = sqlite3.connect(desk.folder.database, isolation_level=None, check_same_thread=False)

        def hold() -> None:
            eventually(lambda: jobs_of(desk)[0].state == RUNNING, "the job is begun")
            other.execute("BEGIN IMMEDIATE")
            try:  # until the worker cannot even say how its job ended, however long that takes here
                eventually(lambda: "cannot be written now" in capfd.readouterr().err, "the end is held up")
            finally:
                other.execute("ROLLBACK")

        holding = threading.Thread(target=hold)
        holding.start()
        assert worker.one()
        holding.join()
        other.close()
        (ended,) = jobs_of(desk)
        assert (ended.state, ended.sentence) == (
            FAILED,
            "another program holds the desk's database: ask again in a moment",
        )
        client.post(f"/clips/{clip}/attribute", data={"method": desk.opened.method})
        assert worker.one()
        assert jobs_of(desk)[-1].state == DONE
        worker.database.close()
