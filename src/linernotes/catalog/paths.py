"""Finds the file that a table's row means: back-slashes, absolute paths, another case, composed or decomposed
letters.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from linernotes.catalog.listing import Listing, is_hidden
from linernotes.catalog.track import Flaw, sayable

WINDOWS_ROOT = re.compile(r"[A-Za-z]:[\\/]|\\\\")


class Places:
    """The files of a listing, to be found by whatever a table calls them."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.names = {name for name in listing.names if sayable(name)}
        self.root = os.path.abspath(listing.folder)  # noqa: PTH100  (Path.absolute keeps '..')
        self.roots = dict.fromkeys((self.root, os.path.realpath(self.root)))

    def find(self, given: str, near: str) -> str | Flaw:
        """The name of the file meant by a row of a table in the folder ``near``, or what is wrong.

        A path is taken relative to its table, then to the whole folder, then to the one that holds it.
        """
        if not given.strip():
            return "no file name", "the row names no file; fill in file_name"
        if "\0" in given:
            return "missing", "no file can have this name; correct file_name"
        paths = list(dict.fromkeys(self._paths(given, near)))
        inside = [name for path in paths if (name := self._relative(path))]
        for name in inside:
            if name in self.names:
                return name
        for index, key in ((self._by_form, _form), (self._by_case, _case)):
            for name in inside:
                found = index.get(key(name), [])
                if len(found) == 1:
                    return found[0]
                if found:
                    return (
                        "ambiguous",
                        f"file_name could be {' or '.join(found)}; write it as the file is written",
                    )
        for path in paths:
            found = self._by_real_path.get(os.path.realpath(path), [])
            if found:
                return found[0]
        return self._why_not(given, inside)

    def _why_not(self, given: str, inside: Iterable[str]) -> Flaw:
        for name in inside:
            if name in self.listing.broken:
                return "broken link", "the file is a link to nothing; restore what it leads to, or remove it"
            if is_hidden(name) and os.path.lexists(Path(self.root, name)):
                return "hidden", "the row names a hidden or system file, which is not read; move or rename it"
        if not inside or WINDOWS_ROOT.match(given.strip()):
            return (
                "outside",
                "file_name leads out of the folder; move the file inside, or write its path relative to the "
                "table",
            )
        return "missing", "the row names a file that is not there; add the file or remove the row"

    def _paths(self, given: str, near: str) -> Iterator[str]:
        stripped = given.strip()
        if stripped.startswith("file://"):
            stripped = unquote(stripped.removeprefix("file://").removeprefix("localhost"))
        for spelling in (given, stripped, stripped.replace("\\", "/")):
            for base in (Path(self.root, near), Path(self.root), Path(self.root).parent):
                yield os.path.normpath(base / spelling)

    def _relative(self, path: str) -> str | None:
        for root in self.roots:
            if path.startswith(root.rstrip("/") + "/"):
                return PurePosixPath(path).relative_to(root).as_posix()
        return None

    @cached_property
    def _by_form(self) -> dict[str, list[str]]:
        return _index(sorted(self.names), _form)

    @cached_property
    def _by_case(self) -> dict[str, list[str]]:
        return _index(sorted(self.names), _case)

    @cached_property
    def _by_real_path(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self.names):
            found[os.path.realpath(Path(self.root, name))].append(name)
        return found


def _index(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[key(name)].append(name)
    return found


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _case(name: str) -> str:
    return unicodedata.normalize("NFC", _form(name).casefold())
