"""Walks a folder of recordings -> the names of its visible files, and what was met on the way that cannot be
entered.

Hidden and system folders hold deleted, cached and doubled recordings, which nobody means to train on: they
are passed over. Linked folders are entered, each real folder once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from linernotes.audio import SUFFIXES, require_reach
from linernotes.catalog.track import Flaw, Reject, printable
from linernotes.errors import LinernotesError

SYSTEM_NAMES = {
    "__macosx",
    "@eadir",
    "@tmp",
    "@recycle",
    "@recently-snapshot",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "recycler",
    "system volume information",
    "lost+found",
    "__pycache__",
}
HEAD_BYTES = 64
IN_ICLOUD = "in iCloud only"


def is_sound(name: str) -> bool:
    """Whether a file is a recording, by its suffix."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


@dataclass(frozen=True)
class Listing:
    """The visible files below ``folder``, sorted, with ``/``; ``broken`` are links to nothing."""

    folder: Path
    names: list[str]
    broken: set[str]
    rejects: list[Reject]


def is_hidden(name: str) -> bool:
    """Whether any part of a relative name is hidden or belongs to a system."""
    return any(part.startswith(".") or part.casefold() in SYSTEM_NAMES for part in PurePosixPath(name).parts)


def list_folder(folder: Path) -> Listing:
    """Lists ``folder`` and all below it. Of two ways to one real folder the one without a link counts, else
    the first.

    Raises:
        LinernotesError: the folder itself cannot be read.
    """
    listing = Listing(folder, [], set(), [])
    seen: dict[tuple[int, int], str] = {}
    real, linked = [""], list[str]()
    while real or linked:
        place = real.pop() if real else linked.pop(0)
        flaw = _entered(folder, place, seen)
        if flaw:
            listing.rejects.append(Reject(printable(place), *flaw))
            continue
        try:
            with os.scandir(folder / place) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            require_reach(folder / place, error)
            if not place:
                raise LinernotesError(
                    f"{folder} cannot be read ({error.strerror}): check its permissions"
                ) from None
            detail = f"the folder cannot be read ({error.strerror}); check its permissions"
            listing.rejects.append(Reject(printable(place), "unreadable folder", detail))
            continue
        for entry in entries:
            _sort_in(entry, f"{place}/{entry.name}" if place else entry.name, listing, real, linked)
    listing.names.sort()
    return listing


def head_flaw(path: Path) -> Flaw | None:
    """What is wrong with a file that is no recording at all, whatever its name says; None if it may be
    one.

    Raises:
        LinernotesError: it cannot be read now, whatever is in it.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        require_reach(path, error)
        return "unreadable", f"it cannot be opened ({error.strerror}); check its permissions"
    if not head:
        return "empty", "it has no bytes; copy it again"
    if head.startswith(b"version https://git-lfs"):
        return "Git LFS pointer", "only a pointer to the recording was copied; fetch it with 'git lfs pull'"
    if head.lstrip(b"./").startswith((b"annex/objects/", b"git/annex/objects/")):
        return (
            "git-annex pointer",
            "only a pointer to the recording was copied; fetch it with 'git annex get'",
        )
    if head.startswith((b"\x00\x05\x16\x07", b"\x00\x05\x16\x00")):
        return "AppleDouble", "it holds what macOS notes beside a file, no sound; remove it"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "web page", "it holds a web page in place of a recording; download it again"
    return None


def _entered(folder: Path, place: str, seen: dict[tuple[int, int], str]) -> Flaw | None:
    """Marks a folder as entered, or says why it is not entered again."""
    try:
        status = (folder / place).stat()
    except OSError as error:
        require_reach(folder / place, error)
        return "unreadable folder", f"the folder cannot be read ({error.strerror}); check where it leads"
    identity = status.st_dev, status.st_ino
    here = (folder / place).parent.resolve()
    if place and (folder / place).is_symlink() and (folder / place).resolve() in (here, *here.parents):
        return "loop", "this link leads to a folder that holds the link itself; remove it"
    if identity in seen:
        return (
            "linked twice",
            f"the same folder is read as {printable(seen[identity]) or printable(str(folder))}; remove one "
            "link",
        )
    seen[identity] = place
    return None


def _sort_in(
    entry: os.DirEntry[str], name: str, listing: Listing, real: list[str], linked: list[str]
) -> None:
    if entry.name.startswith(".") and entry.name.endswith(".icloud"):  # macOS moved the file itself away
        there = name.removesuffix(entry.name) + entry.name[1:].removesuffix(".icloud")
        listing.rejects.append(Reject(printable(there), IN_ICLOUD, "download it to this computer first"))
    elif is_hidden(entry.name):
        pass
    elif entry.is_symlink() and not _leads_somewhere(entry):
        listing.broken.add(name)
    elif entry.is_dir():
        (linked if entry.is_symlink() else real).append(name)
    elif entry.is_file():
        listing.names.append(name)
    else:
        listing.rejects.append(
            Reject(printable(name), "no file", "it is a pipe, socket or device; remove it")
        )


def _leads_somewhere(link: os.DirEntry[str]) -> bool:
    try:
        link.stat()
    except OSError as error:  # nothing is there, or links lead in a ring
        require_reach(link.path, error)
        return False
    return True
