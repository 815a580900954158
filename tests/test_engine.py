"""Engines against one another, with a real Ray on this machine: whatever runs a sweep, a bank or an ingest,
and whatever happens to its workers on the way, the bytes are the same.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
import torch

import linernotes
import squares as work
from conftest import draws_of, query_of
from linernotes.artefacts import load_tensors
from linernotes.attribution.indexing import build_index
from linernotes.catalog.ingest import batched, build_catalogue
from linernotes.catalog.source import read_source
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.bank.setting import BankQuery
from linernotes.evaluation.bank.store import build_bank, plan_retrains, prepare_setting
from linernotes.evaluation.cost.planning import Plan
from linernotes.index.store import SPACE
from linernotes.jobs.engines import executor_of
from linernotes.jobs.executor import Executor
from linernotes.jobs.inline import Inline
from linernotes.jobs.processes import Processes
from linernotes.losses import item_losses
from linernotes.methods.all import score
from linernotes.methods.contract import Prepared
from linernotes.methods.readout_moments import sweep_codes
from linernotes.models.stable_audio import StableAudio
from linernotes.settings.engine import EngineSettings
from linernotes.settings.methods import ReadoutSettings
from linernotes.settings.reading import settings_of
from linernotes.settings.verbs import IndexSettings
from squares import ROWS, squares

OnThread = Callable[[], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """The address of a Ray that is started here, with room for two workers and for another driver's; it finds
    ``squares``.
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


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("expected")
    found, computed, reports = squares(folder, Inline())
    assert computed == [0, 3, 6, 9, 12] and reports[-5:] == [3, 6, 9, 12, 13]
    x = load_tensors(folder / "squares.safetensors", "squares")[0]["x"]
    assert torch.equal(x[:, 0], (torch.arange(ROWS) / 2) ** 2)
    return found


def test_a_worker_killed_in_the_middle_of_a_shard(on_ray: Executor, expected: bytes, tmp_path: Path) -> None:
    found, computed, reports = squares(tmp_path, on_ray, work.die, at=6)
    assert found == expected and sorted(computed) == [0, 3, 6, 6, 9, 12]
    assert reports[-1] == ROWS and reports == sorted(set(reports))


def test_a_shard_that_ends_every_worker_ends_in_a_sentence(on_ray: Executor, tmp_path: Path) -> None:
    with pytest.raises(LinernotesError, match=r"lost its worker 3 times .*: give fewer --workers"):
        squares(tmp_path, on_ray, work.die, at=12, times=9)
    assert work.begun(tmp_path / "computed").count(12) == 3
    assert len(list(tmp_path.glob("squares-*.safetensors"))) == 4  # the others are kept


def test_a_slow_worker_holds_up_nobody(on_ray: Executor, expected: bytes, tmp_path: Path) -> None:
    """The other does all the other shards meanwhile, and the results are put into order."""
    found, computed, reports = squares(tmp_path, on_ray, work.dawdle, at=0)
    assert found == expected and sorted(computed) == [0, 3, 6, 9, 12]
    assert reports == [3, 6, 9, 10, 13]  # the slow one's three come last


@pytest.mark.parametrize("damage", ["a byte of the content", "the end"])
def test_a_corrupt_shard_is_named_and_made_anew(
    damage: str, on_ray: Executor, expected: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RuntimeError, match="stopped"):
        squares(tmp_path, Inline(), work.stop, at=9)
    shards = sorted(tmp_path.glob("squares-*.safetensors"))
    assert len(shards) == 3
    content = shards[1].read_bytes()
    shards[1].write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if "byte" in damage else content[:-1])
    found, computed, reports = squares(tmp_path, on_ray)
    assert found == expected and sorted(computed) == [0, 3, 3, 6, 9, 9, 12] and reports[0] == 6
    assert shards[1].name in caplog.text and "made anew now" in caplog.text


HANGS = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import squares
    from linernotes.jobs.engines import executor_of
    from linernotes.settings.engine import EngineSettings
    with executor_of(EngineSettings(engine="ray", address=sys.argv[1], workers=1)) as executor:
        squares.squares(Path(sys.argv[2]), executor, squares.hang, at=9)
    """
)


@contextmanager
def hanging(folder: Path, address: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A driver in a process of its own that has three shards done and hangs in the fourth."""
    words = [sys.executable, "-c", HANGS, address, str(folder)]
    with subprocess.Popen(words, env={**beside(folder), **variables}, stderr=subprocess.PIPE) as driver:
        try:
            until = time.monotonic() + 60
            while 9 not in work.begun(folder / "computed"):
                assert time.monotonic() < until and driver.poll() is None
                time.sleep(0.1)
            yield driver
        finally:
            driver.kill()
    assert len(list(folder.glob("squares-*.safetensors"))) == 3


def test_the_driver_killed_and_the_job_started_again(
    head: str, on_ray: Executor, expected: bytes, tmp_path: Path
) -> None:
    with hanging(tmp_path, head) as driver:
        driver.kill()
    found, computed, reports = squares(tmp_path, on_ray)
    assert found == expected and sorted(computed) == [0, 3, 6, 9, 9, 12] and reports[0] == 9


def test_the_head_killed_and_the_job_started_again(on_ray: Executor, expected: bytes, tmp_path: Path) -> None:
    """All of it is killed at once: the head, its node, its workers. The driver does not wait for ever."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    asked = {
        "RAY_gcs_rpc_server_reconnect_timeout_s": "3",  # for the head to come back; a minute if not said
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "ab" * 32,
    }
    words = ["start", "--head", "--block", f"--port={port}", "--num-cpus=1", "--include-dashboard=false"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    own = subprocess.Popen(
        [str(Path(sys.executable).with_name("ray")), *words], env={**beside(tmp_path), **asked}, **quiet
    )
    try:
        with hanging(tmp_path, f"127.0.0.1:{port}", **asked) as driver:
            for process in [*psutil.Process(own.pid).children(recursive=True), psutil.Process(own.pid)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            assert driver.wait(timeout=60) != 0
            assert driver.stderr and b"GCS may have been killed" in driver.stderr.read()
    finally:
        own.kill()
        own.wait()
    found, computed, reports = squares(tmp_path, on_ray)
    assert found == expected and sorted(computed) == [0, 3, 6, 9, 9, 12] and reports[0] == 9


def test_workers_of_another_version_are_refused(head: str, tmp_path: Path) -> None:
    """The other version is a real one: this package with a line more."""
    there = tmp_path / "there"
    kept = shutil.ignore_patterns("data", "__pycache__")
    shutil.copytree(Path(linernotes.__file__).parent, there / "linernotes", ignore=kept)
    with (there / "linernotes/version.py").open("a") as file:
        file.write("\n")
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        import ray
        import squares
        from linernotes.errors import LinernotesError
        from linernotes.jobs.engines import executor_of
        from linernotes.settings.engine import EngineSettings
        paths = {"env_vars": {"PYTHONPATH": sys.argv[2]}}
        ray.init(sys.argv[1], log_to_driver=False, runtime_env=paths)
        with executor_of(EngineSettings(engine="ray", workers=1)) as executor:
            try:
                squares.squares(Path(sys.argv[3]), executor)
            except LinernotesError as error:
                print("refused:", error)
        """
    )
    arguments = [sys.executable, "-c", program, head, str(there), str(tmp_path / "out")]
    done = subprocess.run(arguments, env=beside(tmp_path), capture_output=True, text=True, check=False)
    assert f"refused: a worker on {socket.gethostname()} runs linernotes" in done.stdout, done.stderr
    assert done.stdout.rstrip().endswith("install the same on every node")
    assert not work.begun(tmp_path / "out/computed")


def beside(folder: Path) -> dict[str, str]:
    """The environment of a program that finds ``squares`` and this package."""
    places = [str(Path(__file__).parent), str(Path(linernotes.__file__).parents[1])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}


def test_item_losses_are_the_same_bytes_on_every_engine(
    on_ray: Executor,
    model_path: Path,
    model: StableAudio,
    catalogue: Catalogue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("linernotes.losses.SEGMENTS_IN_CHUNK", 4)
    draws = draws_of(model, 5)
    other = {name: p.detach() * 1.01 for name, p in model.layers("output").items()}
    found: dict[str, bytes] = {}
    said: dict[str, list[tuple[int, int]]] = {}

    def sweep(name: str, executor: Executor | None) -> None:
        said[name] = []
        item_losses(
            model,
            catalogue,
            draws,
            {"base": {}, "other": other},
            tmp_path / name,
            None,
            4,
            lambda done, total: said[name].append((done, total)),
            executor,
            model_path,
        )
        found[name] = (tmp_path / name / "losses.safetensors").read_bytes()

    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        sweep("threads", None)
        with Processes(2) as processes:
            sweep("processes", processes)
    finally:
        torch.set_num_threads(threads)
    sweep("ray", on_ray)
    assert found["threads"] == found["processes"] == found["ray"]
    total = len(catalogue) * len(draws) * 2
    for reports in said.values():
        assert reports[-1] == (total, total) and reports == sorted(reports) and len(reports) >= 3


@pytest.mark.parametrize("method", ["readout", "abu", "grad-dot", "trak", "das", "activations"])
def test_scores_are_the_same_bytes_on_ray(
    method: str, on_ray: Executor, model_path: Path, model: StableAudio, catalogue: Catalogue, tmp_path: Path
) -> None:
    fewer = {"draws": 2, "gradient_draws": 4, "fisher_draws": 1, "noise_bands": 1, "batch_size": 8}
    kind = settings_of(method)
    settings = kind(**{name: value for name, value in fewer.items() if name in kind.model_fields})
    queries = [query_of(catalogue, 2)]
    here = Prepared(model, catalogue, tmp_path / "here")
    there = Prepared(model, catalogue, tmp_path / "there", model_folder=model_path, executor=on_ray)
    found, other = (score(method, p, queries, settings, p.folder / "run").scores_qn for p in (here, there))
    assert found.tobytes() == other.tobytes() and len(np.unique(found)) > 1


def test_an_index_is_the_same_bytes_on_ray(
    on_ray: Executor, model_path: Path, model: StableAudio, catalogue: Catalogue, tmp_path: Path
) -> None:
    settings = IndexSettings(queries=1)
    here = Prepared(model, catalogue, tmp_path / "here")
    there = Prepared(model, catalogue, tmp_path / "there", model_folder=model_path, executor=on_ray)
    local, far = (build_index(p, settings, p.folder / "index") for p in (here, there))
    assert local.record == far.record and len(local) == len(catalogue)
    assert (local.path / SPACE).read_bytes() == (far.path / SPACE).read_bytes()
    for one, other in zip(vars(local.vectors).values(), vars(far.vectors).values(), strict=True):
        assert one.tobytes() == other.tobytes() and one.any()


def test_a_space_that_workers_do_not_see_or_that_is_another_is_a_sentence(
    on_ray: Executor, model_path: Path, model: StableAudio, catalogue: Catalogue, tmp_path: Path
) -> None:
    prepared = Prepared(model, catalogue, tmp_path, model_folder=model_path, executor=on_ray)
    space = build_index(prepared, IndexSettings(queries=1), tmp_path / "index").space
    file, rows = tmp_path / "space.safetensors", np.arange(4)

    def sweep(name: str) -> None:
        nothing, settings = torch.zeros(0, 1, 1, 1), ReadoutSettings()
        draws = draws_of(model, settings.draws)
        sweep_codes(prepared, draws, settings, space, file, nothing, rows, tmp_path / name)

    with pytest.raises(LinernotesError, match=r"cannot reach .*space.safetensors: put it where every node"):
        sweep("missing")
    replace(space, basis_rd=-space.basis_rd).save(file, {})
    with pytest.raises(LinernotesError, match=r"space.safetensors on .* is another than here"):
        sweep("another")
    space.save(file, {})
    sweep("same")


def test_a_model_of_this_process_alone_is_a_sentence_to_others(
    model: StableAudio, catalogue: Catalogue, tmp_path: Path
) -> None:
    with Processes(2) as processes, pytest.raises(LinernotesError, match="this one was given as an object"):
        item_losses(model, catalogue, draws_of(model, 1), {"base": {}}, tmp_path, executor=processes)


def test_a_bank_is_the_same_bytes_on_every_engine(
    on_ray: Executor,
    model_path: Path,
    catalogue: Catalogue,
    tmp_path: Path,
    one_thread: OnThread,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also from a folder that no worker stands in, with paths relative to it."""
    monkeypatch.chdir(tmp_path)
    trained = Path("model")
    linernotes.train_model(catalogue, trained, model_path, steps=2, batch_size=4, seed=2)
    queries = [
        BankQuery("one", "tone 0", 0.5, 3, "caption", "reporting", True),
        BankQuery("two", "tone 1", 0.5, 4, "caption", "tuning", False),
    ]
    planned = plan_retrains(7, halves=2, again=0, full=1, seed=0)
    setting = prepare_setting(trained, catalogue.path, queries, 3, 0, Path())
    with one_thread():
        here = build_bank(setting, planned, Path("here"))
    reports: list[tuple[str, int, int]] = []
    there = build_bank(setting, planned, Path("there"), lambda *report: reports.append(report), on_ray)
    assert there.path.read_bytes() == here.path.read_bytes() and len(there.names) == 3
    assert reports == [("retraining", done, 3) for done in range(4)]


def test_a_catalogue_is_the_same_on_every_engine(
    on_ray: Executor,
    recordings: Path,
    model_path: Path,
    model: StableAudio,
    catalogue: Catalogue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("linernotes.catalog.ingest.TRACKS_IN_PIECE", 3)
    reports: list[tuple[int, int]] = []
    built = build_catalogue(
        read_source(recordings),
        tmp_path / "tones",
        model,
        on_track=lambda *report: reports.append(report),
        executor=on_ray,
        model_folder=model_path,
    )
    assert built.hash == catalogue.hash and len(built) == len(catalogue)
    assert [t.__dict__ for t in built.tracks] == [t.__dict__ for t in catalogue.tracks]
    assert reports[-1] == (10, 10) and reports == sorted(reports)
    assert [p.name for p in tmp_path.iterdir()] == ["tones"]


def test_a_corrupt_piece_is_named_and_made_anew(
    recordings: Path,
    model: StableAudio,
    catalogue: Catalogue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("linernotes.catalog.ingest.TRACKS_IN_PIECE", 3)

    source, path = read_source(recordings), tmp_path / "tones"
    sizes = [len(some) for some in batched(source.tracks, 3)]

    def stop(done: int, total: int) -> None:
        if done == sum(sizes[:2]) + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_catalogue(source, path, model, on_track=stop)
    files = (tmp_path / "tones.partial").glob("*.arrow")
    first, second = sorted(files, key=lambda file: file.stat().st_mtime_ns)
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 1
    second.write_bytes(content)
    reports: list[int] = []
    built = build_catalogue(source, path, model, on_track=lambda done, _: reports.append(done))
    assert built.hash == catalogue.hash and reports[0] == sizes[0] + 1
    assert second.name in caplog.text and first.name not in caplog.text


def test_ray_that_is_not_installed_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as Python marks what cannot be imported
    monkeypatch.delitem(sys.modules, "linernotes.jobs.cluster", raising=False)
    with pytest.raises(LinernotesError, match=r"not installed: pip install ray"):
        executor_of(EngineSettings(engine="ray"))


def test_no_cluster_at_the_address_is_a_sentence() -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        program = (
            "import sys; from linernotes.jobs.engines import executor_of;"
            "from linernotes.settings.engine import EngineSettings;"
            "executor_of(EngineSettings(engine='ray', address=sys.argv[1])).__enter__()"
        )
        arguments = [sys.executable, "-c", program, address]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
    assert f"there is no Ray cluster at {address} that can be used" in done.stderr
    assert "start one with 'ray start --head', give the address" in done.stderr


def test_what_is_no_address_is_refused(head: str) -> None:
    """Also where this process is connected already."""
    executor = executor_of(EngineSettings(engine="ray", address="ray://head"))
    with pytest.raises(UsageError, match=r"is no HOST:PORT"):
        executor.__enter__()


def test_a_plan_counts_the_workers_and_asks_for_their_number(model_path: Path, catalogue: Catalogue) -> None:
    def planned(engine: EngineSettings | None) -> Plan:
        (found,) = linernotes.plan(["activations"], model_path, catalogue.path, engine=engine)
        return found

    here, there = planned(None), planned(EngineSettings(engine="ray", workers=1000))
    assert here.workers == torch.get_num_threads() and there.workers == 1000
    assert there.queries_s < here.queries_s / 20  # a thousandth but for the noise of the clock
    assert there.query_forwards > here.query_forwards / 20  # the work is the same
    with pytest.raises(UsageError, match="say how many with --workers"):
        planned(EngineSettings(engine="ray"))
