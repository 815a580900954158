"""Engines against one another, with a real Ray on this machine: whatever runs a sweep or a bank, and whatever
happens to its workers on the way, the bytes are the same.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import draws_of

import linernotes
from linernotes.artefacts import load_tensors
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError, UsageError
from linernotes.jobs.engines import executor_of
from linernotes.jobs.executor import Executor
from linernotes.jobs.inline import Inline
from linernotes.jobs.processes import Processes
from linernotes.jobs.shards import in_shards
from linernotes.settings.engine import EngineSettings

ray = pytest.importorskip("ray")

ROWS, SIZE = 13, 3


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """The address of a Ray that is started here, with room for two workers and for another driver's; it finds this
    file.
    """
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        with executor_of(EngineSettings(engine="ray", workers=3)):
            yield str(ray.get_runtime_context().gcs_address)
    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def on_ray(head: str) -> Iterator[Executor]:
    with executor_of(EngineSettings(engine="ray", workers=2)) as executor:
        yield executor


@dataclass(frozen=True)
class Squares:
    """Squares of the rows' numbers; in the middle of a shard that begins at ``at`` something happens, once: what
    ``mark`` names is there afterwards.
    """

    happens: Callable[[], None]
    at: int
    mark: Path
    computed: Path
    key: str = "squares"
    paths: Sequence[Path] = ()

    @property
    def setup(self) -> Squares:
        return self

    def open(self) -> float:
        return 0.5

    def compute(self, worker: float, rows: slice) -> dict[str, torch.Tensor]:
        with self.computed.open("a") as file:
            file.write(f"{rows.start}\n")
        if rows.start == self.at and not self.mark.exists():
            self.mark.touch()
            self.happens()
        numbers = torch.arange(rows.start, rows.stop).float()
        return {"x": (numbers * worker)[:, None] ** 2, "y": numbers}


def nothing() -> None:
    pass


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dawdle() -> None:
    time.sleep(2)


def squares(
    folder: Path, executor: Executor, happens: Callable[[], None] = nothing, at: int = -1
) -> tuple[bytes, list[int], list[int]]:
    """The bytes that are made in ``folder``, which shards were computed, and what progress said."""
    folder.mkdir(parents=True, exist_ok=True)
    work = Squares(happens, at, folder / "mark", folder / "computed")
    reports: list[int] = []
    path = folder / "squares.safetensors"
    in_shards(path, "squares", {"of": "numbers"}, ROWS, SIZE, work, executor, reports.append)
    assert {p.name for p in folder.iterdir()} <= {"squares.safetensors", "mark", "computed"}
    return path.read_bytes(), [int(line) for line in (folder / "computed").read_text().split()], reports


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("expected")
    found, computed, reports = squares(folder, Inline())
    assert computed == [0, 3, 6, 9, 12] and reports == [3, 6, 9, 12, 13]
    x = load_tensors(folder / "squares.safetensors", "squares")[0]["x"]
    assert torch.equal(x[:, 0], (torch.arange(ROWS) / 2) ** 2)
    return found


def test_a_worker_killed_in_the_middle_of_a_shard(on_ray: Executor, expected: bytes, tmp_path: Path) -> None:
    found, computed, reports = squares(tmp_path, on_ray, die, at=6)
    assert found == expected and sorted(computed) == [0, 3, 6, 6, 9, 12]
    assert reports[-1] == ROWS and reports == sorted(set(reports))


def test_a_shard_that_kills_every_worker_ends_in_a_sentence(on_ray: Executor, tmp_path: Path) -> None:
    work = Squares(die, 0, tmp_path / "there is no such folder" / "mark", tmp_path / "computed")
    object.__setattr__(work, "mark", Never())
    with pytest.raises(LinernotesError, match="lost its worker 3 times .*: give fewer --workers"):
        in_shards(tmp_path / "x.safetensors", "squares", {}, 2, 2, work, on_ray)


class Never:
    """A mark that is never there."""

    def exists(self) -> bool:
        return False

    def touch(self) -> None:
        pass


def test_a_slow_worker_holds_up_nobody(on_ray: Executor, expected: bytes, tmp_path: Path) -> None:
    """The other does all the other shards meanwhile, and the results are put into order."""
    found, computed, reports = squares(tmp_path, on_ray, dawdle, at=0)
    assert found == expected and sorted(computed) == [0, 3, 6, 9, 12]
    assert reports == [3, 6, 9, 10, 13] or reports == [3, 6, 7, 10, 13]  # the slow one's three come last


@pytest.mark.parametrize("damage", ["a byte of the content", "the end"])
def test_a_corrupt_shard_is_named_and_made_anew(
    damage: str, on_ray: Executor, expected: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RuntimeError, match="stopped"):
        squares(tmp_path, Inline(), stop, at=9)
    shards = sorted(tmp_path.glob("squares-*.safetensors"))
    assert len(shards) == 3
    content = shards[1].read_bytes()
    shards[1].write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if "byte" in damage else content[:-1])
    found, computed, _ = squares(tmp_path, on_ray)
    assert found == expected and sorted(computed) == [0, 3, 3, 6, 9, 9, 12]
    assert shards[1].name in caplog.text and "made anew now" in caplog.text


def stop() -> None:
    raise RuntimeError("stopped")


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import test_engine as t
from linernotes.jobs.engines import executor_of
from linernotes.settings.engine import EngineSettings
with executor_of(EngineSettings(engine="ray", address=sys.argv[1], workers=1)) as executor:
    t.squares(Path(sys.argv[2]), executor, t.hang, at=9)
"""


def hang() -> None:
    time.sleep(600)


def test_the_driver_killed_and_the_job_started_again(
    head: str, on_ray: Executor, expected: bytes, tmp_path: Path
) -> None:
    here = str(Path(__file__).parent)
    driver = subprocess.Popen([sys.executable, "-c", textwrap.dedent(DRIVER), head, str(tmp_path), here])
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "mark").exists():  # its worker has three shards done, and hangs in the fourth
            assert time.monotonic() < until and driver.poll() is None
            time.sleep(0.1)
    finally:
        driver.kill()
        driver.wait()
    assert len(list(tmp_path.glob("squares-*.safetensors"))) == 3
    found, computed, reports = squares(tmp_path, on_ray)
    assert found == expected and sorted(computed) == [0, 3, 6, 9, 9, 12] and reports[0] == 9


def test_workers_of_another_version_are_refused(head: str, tmp_path: Path) -> None:
    """The other version is a real one: this package with one line more."""
    other = tmp_path / "linernotes"
    shutil.copytree(
        Path(linernotes.__file__).parent, other, ignore=shutil.ignore_patterns("data", "__pycache__")
    )
    with (other / "version.py").open("a") as file:
        file.write("\n")
    program = textwrap.dedent(
        """
        import os, sys, ray
        from linernotes.errors import LinernotesError
        from linernotes.jobs.engines import executor_of
        from linernotes.jobs.executor import Executor
        from linernotes.settings.engine import EngineSettings
        sys.path.insert(0, sys.argv[3])
        import test_engine as t
        from pathlib import Path
        ray.init(sys.argv[1], log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": sys.argv[2]}})
        with executor_of(EngineSettings(engine="ray", workers=1)) as executor:
            try:
                t.squares(Path(sys.argv[2]) / "squares", executor)
            except LinernotesError as error:
                print("refused:", error)
        """
    )
    arguments = [head, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert "refused: a worker on" in done.stdout and "install the same on every node" in done.stdout, (
        done.stderr
    )
