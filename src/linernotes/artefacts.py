"""What every file linernotes writes has in common: it appears whole or not at all, one process at a time
writes it, and it says what it belongs to.

Tensors are safetensors with a header (kind, schema version, hashes of what they were made from); records are
JSON. A file whose header does not fit what it is asked to be combined with is refused.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import secrets
import shlex
import shutil
import socket
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from linernotes.errors import DamagedError, LinernotesError
from linernotes.version import SCHEMA_VERSION, __version__

if TYPE_CHECKING:
    from torch import Tensor

HASH_DIGITS = 16
LONGEST_VALUE = 60  # characters of a value that a sentence repeats
LONGEST_COMMAND = 160  # and of a command
LONGEST_NAME = 255  # bytes of a file name
LONGEST_SUFFIX = 16
TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR} | ({errno.EACCES} if os.name == "nt" else set())
ATTEMPTS = 20  # at putting a folder in a place that other processes put theirs in


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write a file to; renamed to ``path`` on success, removed on
    failure.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix if len(path.suffix) <= LONGEST_SUFFIX else ""
    temporary = _beside(path, f".{secrets.token_hex(4)}{suffix}")
    # made here and not by mkstemp, so that the umask (and no chmod, which some file systems refuse) gives the
    # mode
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
    mode = temporary.stat().st_mode
    try:
        yield temporary
        if temporary.stat().st_mode != mode:  # safetensors puts a file of its own in the place of ours
            with suppress(OSError):
                temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_folder(built: Path, path: Path) -> None:
    """Puts the finished folder ``built`` in the place of ``path``; the old one is removed only when the new
    one stands.

    Of several processes that do so at once, each finds its way and the last one's folder stays.
    """
    old = _beside(path, f".old-{secrets.token_hex(4)}")
    try:
        _put(built, path, old)
    except BaseException:
        with suppress(OSError):  # another process's folder may stand there by now
            old.replace(path)
        raise
    finally:
        _remove(old)


def _put(built: Path, path: Path, old: Path) -> None:
    """Moves ``built`` to ``path``, and what is there to ``old``."""
    for _ in range(ATTEMPTS):
        try:
            built.replace(path)
            return
        except OSError as error:
            if error.errno not in TAKEN or not built.exists():
                raise
        _remove(old)
        with suppress(FileNotFoundError):  # another process has just moved it away
            path.replace(old)
    raise LinernotesError(f"{path} is replaced by another process again and again: give another name")


def _remove(path: Path) -> None:
    """Removes a folder, a file or a link, if it is there; what cannot be removed is left."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _beside(path: Path, end: str) -> Path:
    """A hidden name beside ``path`` that ends in ``end`` and that no file system finds too long."""
    room = LONGEST_NAME - len(os.fsencode(end)) - 1
    return path.with_name(f".{os.fsencode(path.name)[:room].decode('utf-8', 'ignore')}{end}")


@contextmanager
def held(
    path: Path,
    what: str = "written",
    wait_s: float = 0.0,
    on_wait: Callable[[str], None] | None = None,
    remedy: str = "wait until it ends, or give another --out",
    named: Path | None = None,
) -> Iterator[None]:
    """Keeps other processes from writing ``path``, a file or folder (which need not exist), until the block
    ends.

    The lock is the operating system's, on a file beside ``path``: it goes with the process that holds it,
    however that ends. Within a thread it may be taken again. Where files cannot be locked, nothing is.

    Args:
        what: what is done to ``path``, for the sentence: "written", "computed".
        wait_s: how long to wait for another process (``math.inf``: for ever); 0 refuses at once.
        on_wait: called once with a sentence that says who is waited for; a line of the log if None.
        remedy: what to do, for the sentence that refuses.
        named: what that sentence names; ``path`` if None.

    Raises:
        LinernotesError: another process holds it, still after ``wait_s``.
    """
    real = Path(os.path.realpath(path))
    real.parent.mkdir(parents=True, exist_ok=True)
    lock_path, holder_path = _beside(real, ".lock"), _beside(real, ".holder")
    lock = filelock.FileLock(lock_path, is_singleton=True)
    if lock.is_locked or not _acquire(
        lock, lambda: f"{named or path} is being {what} by {_holder(holder_path)}", wait_s, on_wait, remedy
    ):
        yield
        return
    try:
        with suppress(OSError):
            holder_path.write_text(json.dumps(_self()), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):  # removed while it is held: who waits for a removed file looks for a new one
            holder_path.unlink(missing_ok=True)
            lock_path.unlink(missing_ok=True)
        lock.release()


def _acquire(
    lock: filelock.BaseFileLock,
    holder: Callable[[], str],
    wait_s: float,
    on_wait: Callable[[str], None] | None,
    remedy: str,
) -> bool:
    """Whether ``lock`` is ours now; no where files cannot be locked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # filelock warns where a file system has no locks
        try:
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                if not wait_s:
                    raise
                (on_wait or logging.getLogger("linernotes").warning)(f"{holder()}: waiting for it")
                lock.acquire(timeout=-1 if math.isinf(wait_s) else wait_s, poll_interval=0.2)
        except filelock.Timeout:
            raise LinernotesError(f"{holder()}: {remedy}") from None
        except OSError:
            return False
    return True


def _self() -> dict[str, Any]:
    """Who holds a lock: this process."""
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": f"{datetime.now():%H:%M}",
        "command": command if len(command) <= LONGEST_COMMAND else command[:LONGEST_COMMAND] + " ...",
    }


def _holder(path: Path) -> str:
    """Who holds a lock, for a sentence."""
    try:
        h = json.loads(path.read_text(encoding="utf-8"))
        return f"process {h['pid']} on {h['host']} since {h['since']} ({h['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def write_json(path: Path, content: Any) -> None:
    """Readable JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(
            json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )


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
        return json.loads(path.read_text(encoding="utf-8"), parse_float=_finite, parse_constant=_finite)
    except FileNotFoundError:
        raise LinernotesError(f"{path} is missing, so {path.parent} is not {what}: check the path") from None
    except ValueError as error:  # no JSON, no UTF-8
        raise LinernotesError(f"{path} is damaged ({error}): make {what} anew") from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number of JSON")
    return number


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], about: Mapping[str, str]) -> None:
    """A table, whole or not at all, one row a mapping; ``about`` goes into its metadata."""
    columns = dict.fromkeys(name for row in rows for name in row)
    table = pa.Table.from_pylist([{name: row.get(name) for name in columns} for row in rows])
    write_table(path, table, {"linernotes": __version__, **about})


def write_table(path: Path, table: pa.Table, about: Mapping[str, str]) -> None:
    """The same of a table that is there."""
    with replacing(path) as temporary:
        pq.write_table(table.replace_schema_metadata({"schema": str(SCHEMA_VERSION), **about}), temporary)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], kind: str, header: Mapping[str, Any]) -> None:
    """Tensors with a header saying what they are (``kind``), what they were made from and by which
    version.
    """
    from safetensors.torch import save_file  # brings torch, which takes seconds

    record = {"kind": kind, "schema": SCHEMA_VERSION, "linernotes": __version__, **header}
    contiguous = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(contiguous, temporary, metadata={"header": json.dumps(record, sort_keys=True)})
        except SafetensorError as error:
            raise OSError(
                errno.ENOSPC if "No space left" in str(error) else errno.EIO, str(error), str(path)
            ) from None


def load_tensors(
    path: Path, kind: str, expected: Mapping[str, Any] | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file written by ``save_tensors``.

    Raises:
        LinernotesError: the file is missing, damaged, of another kind or schema, or differs from
            ``expected``.
    """
    if not path.exists():
        raise LinernotesError(f"{path} is missing: check the path")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("header", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise DamagedError(f"{path} is not a readable safetensors file ({error}): make it anew") from None
    check_header(path, header, kind, expected or {})
    return tensors, header


def check_header(path: Path, header: Mapping[str, Any], kind: str, expected: Mapping[str, Any]) -> None:
    """Refuses an artefact of another kind, another schema version, or made from something else than
    ``expected``.
    """
    if header.get("kind") != kind:
        raise LinernotesError(
            f"{path} is {header.get('kind', 'not an artefact of linernotes')!r}, not {kind!r}: check the path"
        )
    if header.get("schema") != SCHEMA_VERSION:
        raise LinernotesError(
            f"{path} has schema version {header.get('schema')}, this linernotes ({__version__}) reads "
            f"{SCHEMA_VERSION}: make it anew with this version"
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
