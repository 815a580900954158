"""Files appear whole or not at all, and are refused when they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from linernotes.artefacts import load_tensors, replacing, save_tensors
from linernotes.errors import LinernotesError


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"), replacing(path) as temporary:
        temporary.write_text("half of the ne")
        raise OSError("disk full")
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]
    assert path.read_text() == "old"


def test_tensors_come_back_with_their_header(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"x": torch.arange(3.0)}, "thing", {"model": "abc"})
    tensors, header = load_tensors(path, "thing", {"model": "abc"})
    assert torch.equal(tensors["x"], torch.arange(3.0))
    assert header["model"] == "abc"


@pytest.mark.parametrize(
    ("kind", "expected", "sentence"),
    [
        ("other", {}, "is 'thing', not 'other'"),
        ("thing", {"model": "xyz"}, "was made with model 'abc', but 'xyz' is in use"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, kind: str, expected: dict[str, str], sentence: str
) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"x": torch.zeros(1)}, "thing", {"model": "abc"})
    with pytest.raises(LinernotesError, match=sentence):
        load_tensors(path, kind, expected)


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"x": torch.zeros(1)}, "thing", {"schema": 99})
    with pytest.raises(LinernotesError, match="schema version 99"):
        load_tensors(path, "thing")


def test_a_truncated_artefact_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"x": torch.zeros(100)}, "thing", {})
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(LinernotesError, match="not a readable safetensors"):
        load_tensors(path, "thing")
