"""What every file linernotes writes has in common: it appears whole or not at all, and it says what it belongs to.

Tensors are safetensors with a header (kind, schema version, hashes of what they were made from); records are JSON. A
file whose header does not fit what it is asked to be combined with is refused.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from linernotes.errors import LinernotesError
from linernotes.version import SCHEMA_VERSION, __version__

HASH_DIGITS = 16
LONGEST_VALUE = 60  # characters of a value that a sentence repeats


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write a file to; renamed to ``path`` on success, removed on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_folder(built: Path, path: Path) -> None:
    """Puts the finished folder ``built`` in the place of ``path``; the old one is removed only when the new one stands."""
    if path.exists():
        old = path.with_name(f".{path.name}.old-{os.getpid()}")
        path.replace(old)
        built.replace(path)
        shutil.rmtree(old)
    else:
        built.replace(path)


def write_json(path: Path, content: Any) -> None:
    """Readable JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def without_nan(content: Any) -> Any:
    """The same with None for numbers that JSON does not know."""
    if isinstance(content, dict):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def read_json(path: Path, what: str) -> Any:
    """The JSON at ``path``; ``what`` names it in the sentence a user reads when it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LinernotesError(f"{path} is missing, so {path.parent} is not {what}: check the path") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise LinernotesError(f"{path} is damaged ({error}): make {what} anew") from None


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], about: Mapping[str, str]) -> None:
    """A table, whole or not at all, one row a mapping; ``about`` goes into its metadata."""
    columns = dict.fromkeys(name for row in rows for name in row)
    table = pa.Table.from_pylist([{name: row.get(name) for name in columns} for row in rows])
    with replacing(path) as temporary:
        pq.write_table(
            table.replace_schema_metadata({"schema": str(SCHEMA_VERSION), "linernotes": __version__, **about}), temporary
        )


def save_tensors(path: Path, tensors: Mapping[str, Tensor], kind: str, header: Mapping[str, Any]) -> None:
    """Tensors with a header saying what they are (``kind``), what they were made from and by which version."""
    record = {"kind": kind, "schema": SCHEMA_VERSION, "linernotes": __version__, **header}
    contiguous = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(contiguous, temporary, metadata={"header": json.dumps(record, sort_keys=True)})
        except SafetensorError as error:
            raise OSError(errno.ENOSPC if "No space left" in str(error) else errno.EIO, str(error), str(path)) from None


def load_tensors(path: Path, kind: str, expected: Mapping[str, Any] | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file written by ``save_tensors``.

    Raises:
        LinernotesError: the file is missing, damaged, of another kind or schema, or differs from ``expected``.
    """
    if not path.exists():
        raise LinernotesError(f"{path} is missing: check the path")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("header", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise LinernotesError(f"{path} is not a readable safetensors file ({error}): make it anew") from None
    check_header(path, header, kind, expected or {})
    return tensors, header


def in_chunks(
    path: Path,
    kind: str,
    header: Mapping[str, Any],
    count: int,
    chunk: int,
    compute: Callable[[slice], dict[str, Tensor]],
    on_done: Callable[[int], None] | None = None,
) -> dict[str, Tensor]:
    """Tensors whose first axis is ``count`` rows, computed ``chunk`` rows at a time and put together in ``path``.

    Finished chunks lie beside ``path`` while it is made; a finished file is read back, a killed run goes on at the first
    missing chunk and ends in the same bytes. ``on_done(rows)`` is called after each chunk.
    """
    if path.exists():
        return load_tensors(path, kind, header)[0]
    stem = f"{path.stem}-{hash_json([kind, dict(header), chunk])[:HASH_DIGITS]}"
    parts: list[dict[str, Tensor]] = []
    for start in range(0, count, chunk):
        rows = slice(start, min(start + chunk, count))
        part_path = path.with_name(f"{stem}-{start:08d}.safetensors")
        if part_path.exists():
            parts.append(load_tensors(part_path, f"{kind}, chunk", header)[0])
        else:
            parts.append({name: tensor.cpu() for name, tensor in compute(rows).items()})
            save_tensors(part_path, parts[-1], f"{kind}, chunk", header)
        if on_done:
            on_done(rows.stop)
    result = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    save_tensors(path, result, kind, header)
    for part_path in path.parent.glob(f"{stem}-*.safetensors"):
        part_path.unlink(missing_ok=True)
    return result


def check_header(path: Path, header: Mapping[str, Any], kind: str, expected: Mapping[str, Any]) -> None:
    """Refuses an artefact of another kind, another schema version, or made from something else than ``expected``."""
    if header.get("kind") != kind:
        raise LinernotesError(
            f"{path} is {header.get('kind', 'not an artefact of linernotes')!r}, not {kind!r}: check the path"
        )
    if header.get("schema") != SCHEMA_VERSION:
        raise LinernotesError(
            f"{path} has schema version {header.get('schema')}, this linernotes ({__version__}) reads {SCHEMA_VERSION}: "
            "make it anew with this version"
        )
    for name, value in expected.items():
        if header.get(name) != value:
            raise LinernotesError(
                f"{path} was made with {name} {_briefly(header.get(name))}, but {_briefly(value)} is in use: "
                "make it anew, or use what it was made with"
            )


def _briefly(value: Any) -> str:
    """A value in a sentence: itself if that is short, else its hash."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else hash_json(value)


def hash_bytes(chunks: Iterable[bytes]) -> str:
    """The first 16 digits of the SHA-256 of some bytes."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()[:HASH_DIGITS]


def hash_json(content: Any) -> str:
    """Hash of anything JSON can say; the order of keys does not matter."""
    return hash_bytes([json.dumps(content, sort_keys=True, ensure_ascii=False).encode()])


def hash_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """Hash of named arrays: names, types, shapes and bytes."""
    return hash_bytes(
        part
        for name in sorted(arrays)
        for part in (
            f"{name}:{arrays[name].dtype}:{arrays[name].shape}".encode(),
            np.ascontiguousarray(arrays[name]).tobytes(),
        )
    )


def hash_files(paths: Iterable[Path], root: Path) -> str:
    """Hash of files: their paths relative to ``root``, and their bytes."""

    def chunks() -> Iterator[bytes]:
        for path in sorted(paths):
            yield str(path.relative_to(root)).encode()
            with path.open("rb") as file:
                while block := file.read(1 << 22):
                    yield block

    return hash_bytes(chunks())
