"""What the columns and values of other people's tables mean: any case, spaces and the usual synonyms -> our
own words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from linernotes.catalog.track import Split
from linernotes.errors import LinernotesError

MEANINGS = {
    "file_name": "file_name filename file path filepath file_path audio audio_path audio_file audio_filepath "
    "audio_file_path audio_filename audio_file_name wav wav_path wav_file track_path track_file song_path "
    "song_file relative_path fname",
    "track_id": "track_id trackid",
    "title": "title song_title track_title song_name track_name",
    "artist": "artist artists artist_name artist_names performer performers",
    "album": "album album_title album_name",
    "isrc": "isrc isrc_code",
    "iswc": "iswc iswc_code",
    "licence": "licence license licence_name license_name",
    "source": "source source_url",
    "work_id": "work_id workid",
    "caption": "caption captions prompt text description",
    "split": "split splits dataset_split data_split partition",
    "year": "year release_year",
}
WEAK = {"title": "name song track", "artist": "band album_artist", "source": "url", "split": "set subset"}


@dataclass(frozen=True)
class Vocabulary:
    """What the columns of one kind of table mean, and which of them say what a row is about."""

    meanings: dict[str, str]  # our word -> theirs, with spaces between
    weak: dict[str, str]  # words that give way where a better one stands
    about: frozenset[str]  # our words for what a row is about: one of them must be there
    example: str  # a row, for sentences
    remedy: str  # for a table without such a column
    many_lines: bool = True  # whether a field may go on over several lines

    @cached_property
    def meaning_of(self) -> dict[str, str]:
        return {name: meaning for meaning, names in self.meanings.items() for name in names.split()}

    @cached_property
    def weak_meaning_of(self) -> dict[str, str]:
        return {name: meaning for meaning, names in self.weak.items() for name in names.split()}


TRACKS = Vocabulary(
    MEANINGS,
    WEAK,
    frozenset({"file_name"}),
    '{"file_name": ...}',
    "add a column file_name, with paths relative to the table",
)
MISSING = {
    "",
    "NaN",
    "nan",
    "NAN",
    "-nan",
    "null",
    "NULL",
    "Null",
    "None",
    "none",
    "NONE",
    "N/A",
    "n/a",
    "#N/A",
    "NA",
    "<NA>",
}
TRAIN_WORDS = {"train", "training", "trained"}
DECOY_WORDS = {"decoy", "decoys"}
HELD_OUT_WORDS = {
    "test",
    "tests",
    "testing",
    "validation",
    "valid",
    "val",
    "dev",
    "development",
    "eval",
    "evaluation",
    "heldout",
    "holdout",
}


def plain(column: str) -> str:
    """A column's name as it is compared: ``' "File Name" '`` is ``file_name``."""
    words = unicodedata.normalize("NFKC", column).strip(" \t\"'\ufeff").casefold()
    return re.sub(r"[\s_.\-]+", "_", words)


def meanings(columns: Sequence[str], where: str, vocabulary: Vocabulary = TRACKS) -> dict[str, str]:
    """Column -> the field it fills, or its own name if it is unknown. A word such as ``name`` gives way to
    ``title``.

    Raises:
        LinernotesError: two columns mean the same.
    """
    found = {column: vocabulary.meaning_of.get(plain(column), "") for column in columns}
    strong = set(found.values())
    for column in columns:
        weak = vocabulary.weak_meaning_of.get(plain(column), "")
        if weak and weak not in strong:
            found[column] = weak
    first: dict[str, str] = {}
    for column in columns:
        meaning = found[column] or column.strip(" \t\"'\ufeff")
        found[column] = meaning
        if meaning in first:
            raise LinernotesError(
                f"{where} has two columns that mean {meaning}, {first[meaning]!r} and {column!r}: rename or "
                "remove one"
            )
        first[meaning] = column
    return found


def present(value: str) -> str:
    """A value without the spaces around it; empty if it only says that there is none (``NaN``, ``null``,
    ``N/A``).
    """
    value = value.strip()
    return "" if value in MISSING else value


def split_of(word: str) -> Split | None:
    """``train`` or ``decoy`` for a word of any case (``Test``, ``held-out``), None if it is neither."""
    word = re.sub(r"[\s_\-]+", "", word.casefold())
    if word in TRAIN_WORDS:
        return "train"
    return "decoy" if word in DECOY_WORDS | HELD_OUT_WORDS else None
