"""What an audit finds, and the checks that records of every kind have in common: seal, identifiers, files and
records at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from linernotes.catalog.identifiers import identifier
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError
from linernotes.records.seal import changes, sha256_of

Outcome = Literal["holds", "fails", "not checked"]
IDENTIFIERS = ("isrc", "iswc", "ipi", "isni")
NAMED = 5  # places that a sentence names


@dataclass(frozen=True)
class Check:
    """One check of an audit: what was looked at, what came out, and where or why."""

    what: str
    outcome: Outcome
    detail: str = ""


def checked(what: str, places: Iterable[str], holds: str = "") -> Check:
    """A check that fails at ``places``, and holds if there are none."""
    listed = list(places)
    if not listed:
        return Check(what, "holds", holds)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return Check(what, "fails", f"{', '.join(listed[:NAMED])}{more}")


def attempted(what: str, check: Callable[[], str]) -> Check:
    """A check that raises when it fails, and otherwise says what holds."""
    try:
        return Check(what, "holds", check())
    except LinernotesError as error:
        return Check(what, "fails", str(error))


def check_seal(content: Mapping[str, Any]) -> Check:
    """Whether every part and line is as it was written."""
    return checked("unchanged since it was written", changes(content))


def check_files(path: Path, content: Mapping[str, Any]) -> Iterator[Check]:
    """Whether the tables beside a record are those that were written with it."""
    files = content.get("files")
    if not isinstance(files, dict):
        yield Check("tables beside it", "fails", "files: it does not say which tables were written with it")
        return
    for name, digest in files.items():
        place = path.parent / name
        if not place.exists():
            yield Check(f"{name} beside it", "not checked", "it is not there")
        else:
            same = sha256_of(place) == digest
            yield checked(f"{name} beside it", [] if same else [f"{place} was changed"])


def check_identifiers(lines: Iterable[tuple[str, Mapping[str, str]]]) -> Check:
    """Whether identifiers have their form and check digit; ``lines`` are places with identifiers by kind."""
    return checked("identifiers", _malformed(lines))


def identified(lines: Iterable[Any]) -> list[tuple[str, dict[str, str]]]:
    """The identifiers of lines, with their places."""
    return [(f"lines[{i}]", {k: getattr(line, k) for k in IDENTIFIERS}) for i, line in enumerate(lines)]


def check_catalogue(place: str, expected: str) -> Iterator[Check]:
    """Whether the catalogue at ``place`` is the one with the hash ``expected``."""
    what = "the catalogue at hand"
    if not Path(place).exists():
        yield Check(what, "not checked", f"{place} is not there")
        return
    try:
        found = Catalogue(Path(place)).hash
    except LinernotesError as error:
        yield Check(what, "fails", str(error))
        return
    other = f"{place} is another one ({found}, not {expected})"
    yield checked(what, [] if found == expected else [other], place)


def at_hand(recorded: str, beside: Path, digest: str) -> Path | None:
    """A file that a record names: where it says; or, if nothing is there, beside the record under the same
    name with this SHA-256.
    """
    place, moved = beside.parent / recorded, beside.parent / Path(recorded).name
    if place.exists():
        return place
    return moved if moved.exists() and sha256_of(moved) == digest else None


def _malformed(lines: Iterable[tuple[str, Mapping[str, str]]]) -> Iterator[str]:
    for place, values in lines:
        for kind, value in values.items():
            try:
                identifier(kind, value)
            except LinernotesError as error:
                yield f"{place}.{kind}: {str(error).split(': ')[0]}"
