"""Tables as text (CSV and its relatives) -> fields with the number of their line.

Python's own reader lets a quote that never closes swallow the rows that follow, and rows that vanish may be
decoys: here every quote that is not closed where it should be is an error that names its line.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from linernotes.audio import NAMED_SUFFIXES, SUFFIXES
from linernotes.catalog.columns import TRACKS, Vocabulary, plain
from linernotes.errors import LinernotesError

SEPARATORS = ",;\t|"
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SOUND_ENDINGS = (*SUFFIXES, *NAMED_SUFFIXES)


@dataclass(frozen=True)
class Fields:
    """One row's fields, and the line on which it begins."""

    line: int
    fields: list[str]


def decode_text(data: bytes, where: str) -> str:
    """A text file's bytes as text, its line ends all ``\\n``: UTF-8, or UTF-16 and UTF-32 that begin with
    their mark.

    Raises:
        LinernotesError: the bytes are no such text.
    """
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise LinernotesError(f"{where} line {line} is not UTF-8 text: save it as UTF-8") from None
    if "\0" in text:
        raise LinernotesError(f"{where} holds zero bytes: save it as UTF-8 text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_delimited(
    path: Path, where: str, default: str = ",", vocabulary: Vocabulary = TRACKS
) -> list[Fields]:
    """All rows of a table, the header first, blank ones left out; the separator is the one its header is made
    with.

    Raises:
        LinernotesError: the file is no text, or a quote is not closed; the sentence names the line.
    """
    text = decode_text(path.read_bytes(), where)
    first, _, rest = text.partition("\n")
    first_line = (
        first.strip().strip('"').replace(" ", "").casefold() if "\t" not in first else first.casefold()
    )
    if first_line.startswith("sep=") and len(first_line) == 5:
        return _rows(rest, first_line[4], where, 2, vocabulary)
    return _rows(text, _separator(text, default, vocabulary), where, 1, vocabulary)


def _separator(text: str, default: str, vocabulary: Vocabulary) -> str:
    """The separator under which the header has a column that rows are about, and most columns."""
    header = next((line for line in text.split("\n") if line.strip()), "")

    def merit(mark: str) -> tuple[bool, int, bool]:
        columns = [column.strip() for column in header.split(mark)]
        known = any(vocabulary.meaning_of.get(plain(c)) in vocabulary.about for c in columns)
        return known, len(columns), mark == default

    return max(SEPARATORS, key=merit)


def _rows(text: str, mark: str, where: str, line: int, vocabulary: Vocabulary) -> list[Fields]:
    rows: list[Fields] = []
    fields: list[str] = []
    at, begun = 0, line
    while at < len(text) or fields:
        quote = _quote_at(text, at, mark)
        if quote is None:
            end = _field_end(text, at, mark)
            fields.append(text[at:end])
        else:
            value, end = _quoted(text, quote, mark, where, line, vocabulary.many_lines)
            line += value.count("\n")
            fields.append(value)
        at = end + 1
        if text[end : end + 1] != mark:
            if any(field.strip() for field in fields):
                rows.append(Fields(begun, fields))
            fields, line = [], line + 1
            begun = line
    return rows


def _quote_at(text: str, at: int, mark: str) -> int | None:
    """Where the quote stands that opens the field, spaces before it allowed."""
    while text[at : at + 1] == " ":
        at += 1
    return at if text[at : at + 1] == '"' else None


def _field_end(text: str, at: int, mark: str) -> int:
    ends = [end for end in (text.find(mark, at), text.find("\n", at)) if end >= 0]
    return min(ends, default=len(text))


def _quoted(text: str, quote: int, mark: str, where: str, line: int, many_lines: bool) -> tuple[str, int]:
    """A field that opens with a quote -> its value and where it ends."""
    close = text.find('"', quote + 1)
    while close >= 0 and text[close + 1 : close + 2] == '"':
        close = text.find('"', close + 2)
    problem = "opens a quote that is never closed"
    if close >= 0:
        value = text[quote + 1 : close].replace('""', '"')
        after = close + 1
        while text[after : after + 1] == " ":
            after += 1
        if text[after : after + 1] in ("", mark, "\n"):
            if not _holds_row(value, mark) and (many_lines or "\n" not in value):
                return value, after
            problem = "opens a quote that swallows the rows after it"
        else:
            plain_end = _field_end(text, quote, mark)
            bare = text[quote:plain_end]
            if bare.count('"') % 2 == 0 and not bare.rstrip().endswith('"'):
                return bare, plain_end  # "Heroes" (live): the quotes belong to the title
            problem = "has text after a closing quote"
    shown = text[quote : text.find("\n", quote) if "\n" in text[quote:] else len(text)][:40]
    raise LinernotesError(
        f"{where} line {line} {problem} ({shown}): close it, or double the quotes in a quoted field"
    )


def _holds_row(value: str, mark: str) -> bool:
    """Whether a field of several lines has a recording's name in one of them, as only a swallowed row
    does.
    """
    if "\n" not in value:
        return False
    fields = (field for line in value.split("\n") for field in line.split(mark))
    return any(field.strip(' "').lower().endswith(SOUND_ENDINGS) for field in fields)
