"""Hashes of weights are computed once, and again for any file that may have changed."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

import linernotes
from linernotes.artefacts import hash_files
from linernotes.attribution.prepare import code_files
from linernotes.models import hashing


class Hashed:
    """Hashes a file through what is kept, and counts how often it had to be read."""

    def __init__(self, path: Path) -> None:
        self.path, self.read = path, 0

    def __call__(self) -> str:
        def compute() -> dict[str, str]:
            self.read += 1
            return {"hash": hash_files([self.path], self.path.parent)}

        return hashing.kept_hashes([self.path], "weights", compute)["hash"]


@pytest.fixture
def hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hashed:
    monkeypatch.setenv("LINERNOTES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashing, "LARGE_BYTES", 4)
    monkeypatch.setattr(hashing, "SETTLED_S", -1.0)
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    return Hashed(path)


def test_a_file_is_read_once(hashed: Hashed) -> None:
    assert hashed() == hashed() == hash_files([hashed.path], hashed.path.parent)
    assert hashed.read == 1


def test_a_change_is_seen_though_size_and_time_are_set_back(hashed: Hashed) -> None:
    before, stat = hashed(), hashed.path.stat()
    with hashed.path.open("r+b") as file:
        file.write(b"WEIGHTS")
    os.utime(hashed.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert hashed.path.stat().st_size == stat.st_size
    assert hashed() != before
    assert hashed() == hash_files([hashed.path], hashed.path.parent)
    assert hashed.read == 2


def test_another_file_in_its_place_is_seen(hashed: Hashed) -> None:
    before, stat = hashed(), hashed.path.stat()
    other = hashed.path.with_name("other")
    other.write_bytes(b"another")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(hashed.path)
    assert hashed() != before


def test_a_file_that_was_just_written_is_not_trusted_to_stay(
    hashed: Hashed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "SETTLED_S", 60.0)
    assert hashed() == hashed()
    assert hashed.read == 2


def test_small_files_and_damaged_notes_are_read_anew(
    hashed: Hashed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hashed()
    (note,) = (tmp_path / "cache" / "hashes").iterdir()
    note.write_text("{")
    assert hashed() == first
    monkeypatch.setattr(hashing, "LARGE_BYTES", 1 << 20)
    assert hashed() == first
    assert hashed.read == 3


# rooms that compute nothing which the cache keeps: what they read or write carries hashes of its own
NOT_KEPT = {"artefacts", "catalog", "errors", "index", "jobs", "settings", "version"}


def test_all_code_that_fills_the_cache_names_it() -> None:
    """What a hashed module takes from another one is hashed as well, so that an edit there is never answered
    by what was computed before it.
    """
    package = Path(linernotes.__file__).parent
    hashed = {path.relative_to(package).as_posix() for path in code_files()}
    taken = set()
    for name in hashed:
        for node in ast.walk(ast.parse((package / name).read_text())):
            module = node.module if isinstance(node, ast.ImportFrom) and not node.level else None
            if module and module.startswith("linernotes."):
                taken.add(module.removeprefix("linernotes.").replace(".", "/"))
    files = {f"{name}.py" for name in taken} | {f"{name}/__init__.py" for name in taken}
    there = {name for name in files if (package / name).exists()}
    assert {name for name in there if name.split("/")[0].removesuffix(".py") not in NOT_KEPT} <= hashed
