"""Tables of rights: read with tolerance, refused in one sentence, never merged or dropped in silence."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linernotes.catalog.rights_table import find_rights, read_rights_table
from linernotes.catalog.track import Track
from linernotes.credits.entries import Holding
from linernotes.credits.matching import Matching
from linernotes.credits.parties import spellings
from linernotes.credits.rights import Rights, read_rights, rights_of_catalogue
from linernotes.credits.splits import read_share, read_shares, whole_splits
from linernotes.credits.versions import find_version, newest_rights, record_rights, require_version
from linernotes.errors import LinernotesError
from music import holder, rights_of

TRACKS = [
    Track("a", "sub/a.wav", "A", artist="Ann", isrc="US-SKG-19-12345", work_id="w1"),
    Track("b", "sub/b.wav", "B", artist="Bob", work_id="w1", iswc="T-034.524.680-1"),
    Track("c", "sub/c.wav", "C", artist="Cy", album="X"),
    Track("d", "sub/d.wav", "D", artist="", split="decoy"),
]


def read(path: Path) -> Rights:
    return read_rights(read_rights_table(path), TRACKS)


def parties(rights: Rights, right: str = "recording") -> dict[str, dict[str, Fraction]]:
    held = rights.holdings[right]  # type: ignore[index]
    return {owner: {h.party: h.split for h in each} for owner, each in held.items()}


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


CSV = "Track;Party;Role;Share;Right\na;Ann Müller;artist;50,0;Master\na;Lab;label;50 %;master right\n"
JSONL = [
    {
        "recording": "a",
        "rightsholder": "Ann Müller",
        "role": "artist",
        "percent": 50,
        "right_type": "recording",
    },
    {"recording": "a", "rightsholder": "Lab", "role": "label", "percent": 50.0, "right_type": "recording"},
]


def test_the_usual_ways_of_writing_a_table_say_the_same(tmp_path: Path) -> None:
    lines = [
        written(tmp_path / "rights.csv", CSV),
        written(tmp_path / "rights.jsonl", "\n".join(json.dumps(row) for row in JSONL)),
        written(tmp_path / "rights.json", json.dumps(JSONL)),
        written(
            tmp_path / "rights.tsv",
            CSV.replace(";", "\t").replace("50,0", "1/2").replace("\na\t", "\nSUB\\A.wav\t"),
        ),
        written(tmp_path / "more.csv", CSV.replace(";", ",").replace("50,0", "0.5").replace("50 %", ".5")),
    ]
    found = [read(path) for path in lines]
    assert {r.hash for r in found} == {found[0].hash}
    assert [parties(r) for r in found] == [{"a": {"Ann Müller": Fraction(1, 2), "Lab": Fraction(1, 2)}}] * 5


def test_rights_go_by_track_file_isrc_work_and_iswc(tmp_path: Path) -> None:
    rows = [
        {"isrc": "USSKG1912345", "party": "P", "right": "recording"},
        {"file_name": "c.wav", "party": "Q", "right": "recording"},
        {"iswc": "T0345246801", "party": "R", "right": "composition"},
    ]
    rights = rights_of(tmp_path, rows, TRACKS)
    assert parties(rights) == {"a": {"P": 1}, "c": {"Q": 1}}
    assert parties(rights, "composition") == {"a": {"R": 1}}  # a and b are one work, w1
    odd = [
        {"track": "remaster.wav", "isrc": "USSKG1912345", "party": "P", "right": "recording"},
        {"track": "sheet.pdf", "work": "w1", "party": "R", "right": "composition"},
        {"track": "unheard.wav", "isrc": "USSKG1900001", "party": "S", "right": "recording", "share": 50},
        {"track": "unheard.wav", "isrc": "", "party": "T", "right": "recording", "share": 50},
    ]
    rights = rights_of(tmp_path, odd, TRACKS)
    assert parties(rights) == {"a": {"P": 1}} and parties(rights, "composition") == {"a": {"R": 1}}
    by_work = rights_of(tmp_path, [{"work": "w1", "party": "R", "right": "publishing"}], TRACKS)
    assert parties(by_work, "composition") == {"a": {"R": 1}}


def test_the_order_of_rows_does_not_matter_and_what_is_kept_reads_the_same(tmp_path: Path) -> None:
    rows = [
        holder("a", "P", "1/3", ipi="52210040"),
        holder("a", "Q", "2/3", isni="0000 0001 2281 955X", label="L"),
        holder("c", "unknown", 100),
        holder("b", "R", 100, "composition", role="composer"),
    ]
    rights = rights_of(tmp_path, rows, TRACKS)
    for seed in range(5):
        again = rights_of(tmp_path, random.Random(seed).sample(rows, len(rows)), TRACKS)
        assert (again.hash, again.holdings) == (rights.hash, rights.holdings)
    kept = record_rights(rights, tmp_path / "tones", "c" * 16)
    assert kept.name == f"0001-{rights.hash}.parquet"
    assert pq.read_schema(kept).metadata[b"catalogue"] == b"c" * 16
    back = read(kept)
    assert (back.hash, back.holdings) == (rights.hash, rights.holdings)


def test_rights_are_kept_as_versions_and_none_is_overwritten(tmp_path: Path) -> None:
    catalogue = tmp_path / "tones"
    old, new = (rights_of(tmp_path, [holder("a", party)], TRACKS) for party in ("Old", "New"))
    assert newest_rights(catalogue) is None
    first = record_rights(old, catalogue, "")
    assert record_rights(old, catalogue, "") == first == newest_rights(catalogue)
    second = record_rights(new, catalogue, "")
    assert newest_rights(catalogue) == second and find_version(catalogue, old.hash) == first
    assert record_rights(old, catalogue, "").name.startswith("0003-") and first.exists() and second.exists()
    require_version(first, old)
    with pytest.raises(LinernotesError, match="was changed after it was written"):
        require_version(first, new)


def test_one_work_on_two_albums_is_one_work(tmp_path: Path) -> None:
    """Albums, labels and numbers that stand in one row only are no other parties; what is grouped otherwise
    here than there is not grouped, whichever comes first.
    """
    rows = [
        holder("a", "Ann", 60, "composition", album="First", ipi="00045620792"),
        holder("a", "Bea", 40, "composition", album="First"),
        holder("b", "Ann", 30, "composition", album="Best of"),
        holder("b", "Ann", 30, "composition", album="Best of", label="L"),
        holder("b", "Bea", 40, "composition"),
    ]
    rights = rights_of(tmp_path, rows, TRACKS)
    held = {h.party: (h.split, h.ipi, h.groups) for h in rights.holdings["composition"]["a"]}
    assert held == {
        "Ann": (Fraction(3, 5), "00045620792", ()),
        "Bea": (Fraction(2, 5), "", (("collection", "First"),)),
    }
    assert any("under different labels, artists or collections" in note for note in rights.notes)
    alike = rights_of(tmp_path, rows[:2] + [{**row, "track": "b"} for row in rows[:2]], TRACKS)
    assert not any("under different labels" in note for note in alike.notes)
    assert {h.groups for h in alike.holdings["composition"]["a"]} == {(("collection", "First"),)}
    rows[-1] = holder("b", "Cid", 40, "composition")
    with pytest.raises(LinernotesError, match="are of one composition, and their parties differ"):
        rights_of(tmp_path, rows, TRACKS)


def row(**changed: Any) -> list[dict[str, Any]]:
    return [{**holder("a", "P"), **changed}]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            row(party=""),
            "line 2 of rights.csv: the recording right has no party: name one, or write 'unknown'",
        ),
        (row(right="mechanical"), "right is 'mechanical': write recording or composition"),
        (row(share="half"), "share 'half' is no number"),
        (row(share="-1"), "share '-1' is no number"),
        (row(share=""), None),
        (row(share="99.9"), "the shares sum to 99.9 %, 0.1 % missing"),
        (
            row() + row(party="Q", share=20),
            "recording right of track 'a': the shares sum to 120 %, 20 % too much",
        ),
        (row() + row(party="Q", share=""), "1 of 2 parties have no share"),
        (row(ipi="00045620791"), "'00045620791' is no IPI name number (its check digit is wrong)"),
        (row(isrc="GBAYE6900538"), "has the ISRC USSKG1912345 in the catalogue and GBAYE6900538 here"),
        (row(track="nowhere"), "none of its 1 rows names a track or work of the catalogue"),
        (row(track=""), "it names neither a track nor a work"),
        (row(track="", work="w1"), "it gives the recording right of the work 'w1'"),
        (
            row(track="", file_name="x.wav") + row(file_name="b.wav"),
            "track 'a' and file 'b.wav' are two tracks",
        ),
        (
            row(ipi="00045620792", share=50) + row(role="x", ipi="00052210040", share=50),
            "'P' has the IPI 00052210040 here and 00045620792 in line 2 of rights.csv",
        ),
        (
            row(right="composition") + row(track="b", right="composition", party="Q"),
            "are of one composition, and their parties differ",
        ),
    ],
)
def test_a_flaw_is_one_sentence_that_names_its_row(
    tmp_path: Path, rows: list[dict[str, Any]], sentence: str | None
) -> None:
    if sentence is None:
        assert parties(rights_of(tmp_path, rows, TRACKS)) == {"a": {"P": 1}}
        return
    with pytest.raises(LinernotesError, match=re.escape(sentence)) as refusal:
        rights_of(tmp_path, rows, TRACKS)
    assert "rights.csv" in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("rights.csv", "who,what\na,b\n", "has no column that names tracks or works"),
        ("rights.csv", "track,right,share\na,recording,100\n", "has no column party"),
        ("rights.csv", "track,party,share\na,P,100\n", "has no column right"),
        ("rights.csv", "track,track_id,party,right\na,a,P,recording\n", "two columns that mean track"),
        ("rights.csv", "track,party,right\n", "has no rows"),
        ("rights.csv", "", "is empty: add a column track"),
        (
            "rights.csv",
            "track,party,right\na,P, Inc.,recording\n",
            "line 2 of rights.csv has 4 fields, its header 3",
        ),
        ("rights.csv", 'track,party,right\na,"P,recording\nb,"Q",recording\n', "line 2"),
        (
            "rights.csv",
            'track,party,right\na,"P\nb",recording\n',
            "opens a quote that swallows the rows after it",
        ),
        ("rights.xlsx", "", "in a format that is not read: save it as CSV (rights.csv)"),
        ("rights.jsonl", '{"track": "a", "party"', "cannot be read as JSON"),
    ],
)
def test_a_table_that_is_not_understood_is_refused(
    tmp_path: Path, name: str, text: str, sentence: str
) -> None:
    with pytest.raises(LinernotesError, match=re.escape(sentence)) as refusal:
        read_rights_table(written(tmp_path / name, text))
    assert str(tmp_path / name) in str(refusal.value)


def test_what_is_read_with_a_doubt_is_said(tmp_path: Path) -> None:
    rows = [holder("a", p, "33.33") for p in ("Jo Smith", "Smith, Jo", "jo  smíth")]
    rows += [holder("elsewhere", "P"), holder("c", "Prince", ipi="52210040", territory="DE")]
    rows += [holder("d", "The Artist", ipi="52210040")]
    rights = rights_of(tmp_path, rows, TRACKS)
    assert [h.split for h in rights.holdings["recording"]["a"]] == [Fraction(1, 3)] * 3
    said = "\n".join(rights.notes)
    for part in (
        "recording right of track 'a': the shares sum to 99.99 % and are taken in proportion",
        "'Jo Smith' and 'Smith, Jo' and 'jo smíth' may be one party and are counted apart",
        "'Prince' and 'The Artist' may be one party (IPI 00052210040 stands with each)",
        "not in the catalogue, so that these rows say nothing: 'elsewhere'",
        "1 of 3 training tracks have no row for the recording right, the first is 'b'",
        "3 of 3 training tracks have no row for the composition right",
        "columns that are not used: territory",
    ):
        assert part in said
    assert len(rights.notes) == 7


def test_without_a_table_the_catalogues_artists_hold_recordings_and_nobody_compositions() -> None:
    rights = rights_of_catalogue(TRACKS)
    assert parties(rights) == {"a": {"Ann": 1}, "b": {"Bob": 1}, "c": {"Cy": 1}, "d": {"": 1}}
    assert not rights.holdings["composition"]
    assert rights.holdings["recording"]["c"] == (
        Holding("Cy", "artist", Fraction(1), groups=(("artist", "Cy"), ("collection", "X"))),
    )


def test_names_that_are_one_number_or_the_same_letters_are_offered_and_others_not() -> None:
    assert spellings([("Ann", "", ""), ("Anna", "", ""), ("", "1", ""), ("", "1", "")]) == []
    assert len(spellings([("Ann", "1", ""), ("Anna", "1", ""), ("ANN", "", "")])) == 2


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=8))
def test_fractions_percents_and_ratios_are_the_same_shares(weights: list[int]) -> None:
    total = sum(weights)
    exact = [Fraction(w, total) for w in weights]
    assert read_shares([f"{w}/{total}" for w in weights]) == exact
    assert whole_splits(read_shares([f"{w}/{total}" for w in weights]), "x") == (exact, "")


@pytest.mark.parametrize(
    ("text", "share"), [("0.1 %", "1/1000"), ("0.001", "1/1000"), ("0", "0"), ("1", "1")]
)
def test_a_smallest_share_is_of_one_or_in_percent(text: str, share: str) -> None:
    assert read_share(text) == Fraction(share)


@pytest.mark.parametrize("text", ["", "2", "101 %", "-1", "nan", "1/0", "1e-3"])
def test_a_smallest_share_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(LinernotesError, match="share"):
        read_share(text)


def test_files_that_differ_in_case_alone_are_two_tracks() -> None:
    matching = Matching([Track("one", "Song.wav", "One"), Track("two", "song.wav", "Two")])
    assert [matching.find("", name, "") for name in ("Song.wav", "song.wav")] == ["one", "two"]
    with pytest.raises(LinernotesError, match=r"'SONG.wav' could be 'one' or 'two': write the track_id"):
        matching.find("", "SONG.wav", "")


def test_the_table_of_a_folder_is_found_at_its_top_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place: Callable[[list[str]], Path | None] = lambda names: find_rights(tmp_path, names)  # noqa: E731
    assert place(["a.wav", "metadata.csv", "rights.md", "copyrights.csv"]) is None
    assert place(["a.wav", "Rights.JSONL"]) == tmp_path / "Rights.JSONL"
    with pytest.raises(LinernotesError, match="several tables of rights"):
        place(["rights.csv", "rights.jsonl"])
    with pytest.raises(LinernotesError, match="lies in a subfolder"):
        place(["sub/rights.csv"])


def test_the_table_in_the_documentation_is_read_without_a_flaw(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs/credits.md").read_text()
    (text,) = re.findall(r"^```text\n(track,party.*?)^```", page, re.M | re.S)
    table = read_rights_table(written(tmp_path / "rights.csv", text))
    rights = read_rights(table, [Track("song1", "song1.wav", "Song 1")])
    assert parties(rights) == {"song1": {"Ann Example": Fraction(1, 2), "Example Records": Fraction(1, 2)}}
    assert parties(rights, "composition") == {"song1": {"Ann Example": Fraction(2, 3), "": Fraction(1, 3)}}
    assert rights.works.isrc == {"song1": "USSKG1912345"} and rights.works.iswc == {"song1": "T0345246801"}
