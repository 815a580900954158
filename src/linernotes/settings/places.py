"""Where linernotes, and the libraries it stands on, may write of their own accord: the cache, with or without
a home folder.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from linernotes.errors import LinernotesError

CACHE = "LINERNOTES_CACHE"
OF_LIBRARIES = {
    "HF_HOME": "huggingface",
    "MPLCONFIGDIR": "matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
}


def cache_folder() -> Path:
    """Where what is computed once is kept: ``LINERNOTES_CACHE``, else the user's cache
    folder, else one in the temporary folder (no home, a home that cannot be written). It is
    there, and a file can be written into it.

    Raises:
        LinernotesError: there is no such folder; the sentence names ``LINERNOTES_CACHE``.
    """
    asked = os.environ.get(CACHE)
    if asked:
        if (problem := _problem(Path(asked))) is not None:
            raise LinernotesError(
                f"the cache {asked} cannot be written ({problem}): set {CACHE} to a folder that can"
            )
        return Path(asked)
    tried = []
    for folder in _own_folders():
        if (problem := _problem(folder)) is None:
            return folder
        tried.append(f"{folder}: {problem}")
    raise LinernotesError(
        "there is no folder for what is computed once "
        f"({'; '.join(tried) or 'no home, no temporary folder'}): set {CACHE} to one that can be written"
    )


def settle_libraries() -> None:
    """Gives torch, transformers and matplotlib a folder to keep things in
    where there is no home to keep them in.
    """
    home = Path("~").expanduser() if _has_home() else None
    if home is not None and home.is_dir() and _problem(home) is None:
        return
    try:
        folder = _temporary()
    except OSError:
        return
    for variable, name in OF_LIBRARIES.items():
        os.environ.setdefault(variable, str(folder / name))


def _own_folders() -> Iterator[Path]:
    if _has_home() or os.environ.get("XDG_CACHE_HOME"):
        yield Path(platformdirs.user_cache_dir("linernotes"))
    try:
        yield _temporary()
    except OSError:
        return


def _has_home() -> bool:
    """Whether this user has a home, which need not be there: containers
    run under numbers that no user has.
    """
    try:
        return Path("~").expanduser().is_absolute()
    except (RuntimeError, KeyError):
        return False


def _temporary() -> Path:
    """This user's folder in the temporary folder, closed to others."""
    who = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"linernotes-{who}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and folder.lstat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is another user's")
    return folder


def _problem(folder: Path) -> str | None:
    """Why a file cannot be written into ``folder``, which is made if need be; None if it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)
