"""Finds the tables people bring (CSV and relatives, JSON lines, JSON, Parquet) in a folder -> rows in
linernotes' own words.

A table that is not understood is an error, never a folder without a table: read as nothing, it turns decoys
into training tracks.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from linernotes.audio import require_reach
from linernotes.catalog.columns import TRACKS, Vocabulary, meanings, plain, present
from linernotes.catalog.delimited import decode_text, read_delimited
from linernotes.catalog.listing import IN_ICLOUD, Listing, is_sound
from linernotes.catalog.track import Flaw, printable
from linernotes.errors import LinernotesError

DELIMITED = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
JSON_LINES = {".jsonl", ".ndjson"}
READ_SUFFIXES = {*DELIMITED, *JSON_LINES, ".json", ".parquet"}
SHEETS = {".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers", ".arrow", ".feather", ".pkl", ".pickle"}
ANY_NAME = READ_SUFFIXES - {".txt", ".json"} | SHEETS  # such a file is a table whatever its name is
RESERVED = "rights"  # rights.csv belongs to credits


@dataclass(frozen=True)
class Row:
    """One row by our fields' names; unknown columns keep theirs. A flawed row is a reject."""

    where: str
    values: dict[str, str]
    flaw: Flaw | None = None


@dataclass(frozen=True)
class Table:
    """A table as it was read: where it lies, its rows, and its columns that linernotes has no word for."""

    name: str
    rows: list[Row]
    unknown: list[str] = field(default_factory=list)

    @property
    def folder(self) -> str:
        return _parent(self.name)


def read_tables(listing: Listing) -> tuple[list[Table], list[str]]:
    """All tables of a folder, outer ones first, and sentences on those that were passed over.

    Raises:
        LinernotesError: a table is not understood, or several lie where one is meant.
    """
    for reject in listing.rejects:
        if reject.reason == IN_ICLOUD and _is_table(listing.folder, reject.file_name):
            raise LinernotesError(f"{listing.folder / reject.file_name} is {IN_ICLOUD}: {reject.detail}")
    by_folder: dict[str, list[str]] = defaultdict(list)
    for name in [*listing.names, *sorted(listing.broken)]:
        if _is_table(listing.folder, name):
            by_folder[_parent(name)].append(name)
    recordings = {str(PurePosixPath(n).with_suffix("")) for n in listing.names if is_sound(n)}
    chosen: list[str] = []
    notes: list[str] = []
    for place in sorted(by_folder, key=lambda p: (p.count("/") + bool(p), p)):
        proper = [name for name in by_folder[place] if _is_proper(name)]
        others = [name for name in by_folder[place] if name not in proper]
        if len(proper) > 1:
            names = " and ".join(PurePosixPath(name).name for name in proper)
            raise LinernotesError(f"{listing.folder / place} has both {names}: remove one")
        governed = next((name for name in chosen if _parent(name) in ("", place, *_parents(place))), None)
        if proper or governed:
            chosen += proper
            notes += [
                f"{printable(name)} is not read, since {printable(proper[0] if proper else str(governed))} is"
                for name in others
            ]
            continue
        beside = [n for n in others if _stem(n) in recordings and not _has_files(listing, n)]
        notes += [
            f"{printable(name)} is not read: it has no column of files and stands beside a recording of its "
            "name"
            for name in beside
        ]
        others = [name for name in others if name not in beside]
        if len(others) > 1:
            names = ", ".join(PurePosixPath(name).name for name in others)
            raise LinernotesError(
                f"{listing.folder / place} has several tables ({names}): put the one that is meant into "
                "metadata.csv, with a column split for recordings that were not trained on"
            )
        if others:
            chosen += others
            notes.append(f"{printable(others[0])} is read as the table of the recordings")
    return [read_table(listing, name) for name in chosen], notes


def read_table(listing: Listing, name: str) -> Table:
    """One table of a listing.

    Raises:
        LinernotesError: it cannot be read, two of its columns mean the same, or none names files.
    """
    where = printable(str(listing.folder / name))
    if name in listing.broken:
        raise LinernotesError(f"{where} is a link to nothing: restore what it leads to, or remove it")
    columns, raw = read_raw(listing.folder / name, where, TRACKS, "metadata.csv")
    columns = _agreed(columns, raw)
    meaning = meanings(columns, where)
    shown = ", ".join(columns) or "none"
    if "file_name" not in meaning.values():
        raise LinernotesError(
            f"{where} has no column that names files (its columns: {shown}): {TRACKS.remedy}"
        )
    if not raw:
        raise LinernotesError(f"{where} has no rows: name the recordings in it, or remove it")
    rows = [
        Row(
            place,
            {
                meaning[c]: v if meaning[c] == "file_name" and present(v) else present(v)
                for c, v in values.items()
                if c in meaning
            },
            flaw,
        )
        for place, values, flaw in raw
    ]
    if not any(row.values.get("file_name") for row in rows):
        raise LinernotesError(f"{where} names no file in any row: fill in its column file_name")
    known = {*TRACKS.meanings, "extra"}
    return Table(name, rows, [c.strip() for c in columns if meaning[c] not in known and plain(c)])


Raw = list[tuple[str, dict[str, str], Flaw | None]]


def read_raw(path: Path, where: str, vocabulary: Vocabulary, example: str) -> tuple[list[str], Raw]:
    """Columns and rows of one table in any format that is read, its values as text and not yet understood.

    Args:
        where: the table's name in sentences; ``example`` is a name that it might have.

    Raises:
        LinernotesError: it is in another format, or cannot be read.
    """
    suffix = _suffix(path.name)
    if suffix not in READ_SUFFIXES:
        raise LinernotesError(f"{where} is a table in a format that is not read: save it as CSV ({example})")
    try:
        if suffix in DELIMITED:
            return _delimited(path, where, DELIMITED[suffix], vocabulary)
        return _records(path, where, suffix, vocabulary)
    except (OSError, pa.ArrowException, EOFError) as error:
        require_reach(path, error)
        raise LinernotesError(f"{where} cannot be read ({error}): save it anew, or as {example}") from None


def _delimited(path: Path, where: str, default: str, vocabulary: Vocabulary) -> tuple[list[str], Raw]:
    lines = read_delimited(path, where, default, vocabulary)
    if not lines:
        raise LinernotesError(f"{where} is empty: {vocabulary.remedy}")
    header = lines[0].fields
    named = [column for column in header if plain(column)]
    twice = next((column for i, column in enumerate(named) if column in named[:i]), None)
    if twice is not None:
        raise LinernotesError(f"{where} has the column {twice!r} twice: rename or remove one")
    rows: Raw = []
    for line in lines[1:]:
        place = f"line {line.line} of {printable(path.name)}"
        flaw: Flaw | None = None
        if len(line.fields) != len(header):
            many = len(line.fields) > len(header)
            flaw = (
                f"too {'many' if many else 'few'} fields",
                f"{place} has {len(line.fields)} fields, its header {len(header)}; "
                + (
                    "put quotes around a field that holds the separator"
                    if many
                    else "write the empty ones too"
                ),
            )
        values = {c: v for c, v in zip(header, line.fields, strict=False) if plain(c)}
        rows.append((place, values, flaw))
    return named, rows


def _records(path: Path, where: str, suffix: str, vocabulary: Vocabulary) -> tuple[list[str], Raw]:
    """Rows of JSON lines, JSON or Parquet; a column is whatever any row has."""
    records: list[tuple[str, Any]]
    name = printable(path.name)
    if suffix == ".parquet":
        table = pq.read_table(path)
        records = [
            (f"row {n} of {name}", r) for n, r in enumerate(_plain_columns(table).to_pylist(), start=1)
        ]
    else:
        data = path.read_bytes()
        text = decode_text(gzip.decompress(data) if path.suffix.lower() == ".gz" else data, where)
        if suffix == ".json":
            entries = _listed(_parsed(text, where))
            records = [(f"entry {n} of {name}", entry) for n, entry in enumerate(entries, start=1)]
        else:
            lines = enumerate(text.split("\n"), start=1)
            records = [
                (f"line {n} of {name}", _parsed(x, f"{where} line {n}")) for n, x in lines if x.strip()
            ]
    for place, record in records:
        if not isinstance(record, dict):
            raise LinernotesError(
                f"{where}: {place} is no object with named fields: write {vocabulary.example}"
            )
    columns = dict.fromkeys(
        str(column)
        for _, record in records
        for column, value in record.items()
        # sound itself, not its name
        if not (isinstance(value, dict) and TRACKS.meaning_of.get(plain(str(column))) == "file_name")
    )
    rows: Raw = [(place, flat(record), None) for place, record in records]
    return list(columns), rows


def flat(record: dict[str, object]) -> dict[str, str]:
    """Values as text: lists of words joined by commas, anything deeper as JSON, nothing as an empty text."""
    texts: dict[str, str] = {}
    for key, value in record.items():
        if value is None:
            texts[str(key)] = ""
        elif isinstance(value, str):
            texts[str(key)] = value
        elif isinstance(value, list) and value and all(isinstance(word, str) for word in value):
            texts[str(key)] = ", ".join(value)
        else:
            texts[str(key)] = json.dumps(value, ensure_ascii=False, default=str)
    return texts


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise LinernotesError(f"{where} cannot be read as JSON ({error}): correct it") from None


def _listed(value: Any) -> list[Any]:
    """The rows of a JSON document: a list, an object that holds one list, or an object of names and rows."""
    if isinstance(value, dict):
        lists = [
            inner
            for inner in value.values()
            if isinstance(inner, list) and inner and isinstance(inner[0], dict)
        ]
        if len(lists) == 1:
            return lists[0]
        if value and all(isinstance(inner, dict) and is_sound(name) for name, inner in value.items()):
            return [{"file_name": name, **inner} for name, inner in value.items()]
    return value if isinstance(value, list) else [value]


def _plain_columns(table: Any) -> Any:
    """A Parquet table without its columns of sound: bytes and arrays belong to no row of words."""
    kept = [
        f.name
        for f in table.schema
        if not (pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type) or pa.types.is_struct(f.type))
    ]
    return table.select(kept)


def _agreed(columns: Sequence[str], raw: Raw) -> list[str]:
    """The columns without those that name the same files more briefly than another does (a name beside its
    path).
    """
    naming = [c for c in columns if TRACKS.meaning_of.get(plain(c)) == "file_name"]
    ends = [
        {PurePosixPath(values.get(c, "").replace("\\", "/")).name for c in naming} for _, values, _ in raw
    ]
    if len(naming) < 2 or not raw or any(len(names) > 1 for names in ends):
        return list(columns)
    longest = max(naming, key=lambda c: sum(len(values.get(c, "")) for _, values, _ in raw))
    return [c for c in columns if c == longest or c not in naming]


def _is_table(folder: Path, name: str) -> bool:
    path = PurePosixPath(name)
    stem, suffix = _stem(name).rsplit("/", 1)[-1].casefold(), _suffix(name)
    if stem == RESERVED or path.name.startswith("~$"):
        return False
    if suffix in ANY_NAME or (stem == "metadata" and suffix in READ_SUFFIXES):
        return True
    return suffix == ".json" and _is_list_of_files(folder / name)


def _is_list_of_files(path: Path) -> bool:
    """Whether a JSON document of any name is a table: rows, of which the first has a column of files."""
    try:
        with path.open("rb") as file:
            if not file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"[", b"{")):
                return False
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        require_reach(path, error)
        return False
    rows = _listed(value)
    is_row = bool(rows) and rows != [value] and isinstance(rows[0], dict)
    return is_row and any(TRACKS.meaning_of.get(plain(str(column))) == "file_name" for column in rows[0])


def _has_files(listing: Listing, name: str) -> bool:
    try:
        return bool(read_table(listing, name))
    except LinernotesError:
        return False


def _is_proper(name: str) -> bool:
    stem, suffix = PurePosixPath(_stem(name)).name.casefold(), _suffix(name)
    return (stem == "metadata" and suffix in READ_SUFFIXES) or (stem == "data" and suffix in JSON_LINES)


def _suffix(name: str) -> str:
    path = PurePosixPath(name)
    packed = path.suffix.lower() == ".gz" and path.with_suffix("").suffix.lower() in JSON_LINES
    return (path.with_suffix("") if packed else path).suffix.lower()


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return str((path.with_suffix("") if path.suffix.lower() == ".gz" else path).with_suffix(""))


def _parent(name: str) -> str:
    parent = str(PurePosixPath(name).parent)
    return "" if parent == "." else parent


def _parents(place: str) -> list[str]:
    return [str(parent) for parent in PurePosixPath(place).parents]
