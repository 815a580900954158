"""A folder goes in whole or is named: what people's tables, sidecars, tags and folders mean, and what is
refused.
"""

from __future__ import annotations

import gzip
import json
import os
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from mutagen.flac import FLAC
from mutagen.id3 import TIT2, TPE1, TSRC
from mutagen.wave import WAVE

from linernotes.audio import NAMED_SUFFIXES, SUFFIXES
from linernotes.catalog.delimited import read_delimited
from linernotes.catalog.source import Source, read_source
from linernotes.catalog.track import Track
from linernotes.errors import LinernotesError

RATE_HZ = 8000
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\r\0\ufeff"), max_size=12)


def sounds(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(
            folder / name, np.zeros(64), RATE_HZ, format="FLAC" if name.endswith("flac") else "WAV"
        )
    return folder


def table(folder: Path, text: str | bytes, name: str = "metadata.csv", files: str = "a.wav b.wav") -> Source:
    sounds(folder, *files.split())
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_source(folder)


def splits(source: Source) -> dict[str, str]:
    return {track.file_name: track.split for track in source.tracks}


def reasons(source: Source) -> dict[str, str]:
    return {reject.file_name: reject.reason for reject in source.rejects}


def of(source: Source, name: str = "a.wav") -> Track:
    return next(track for track in source.tracks if track.file_name == name)


# ------------------------------------------------------------------------------------------------------------
# ------ tables


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("first", [False, True])
def test_a_table_reads_the_same_however_it_was_saved(
    tmp_path: Path, mark: str, end: str, encoding: str, first: bool
) -> None:
    rows = [
        ("file_name", "title", "split"),
        ("a.wav", "Für Elise", "train"),
        ("b.wav", '"x\ty;z,|"', "decoy"),
    ]
    text = f"sep={mark}{end}" * first + "".join(mark.join(row) + end for row in rows)
    source = table(tmp_path, text.encode(encoding))
    assert [(t.file_name, t.title, t.split) for t in source.tracks] == [
        ("a.wav", "Für Elise", "train"),
        ("b.wav", "x\ty;z,|", "decoy"),
    ]
    assert not source.rejects


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=5), st.sampled_from(",;\t|"))
def test_what_is_quoted_comes_out(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], mark: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "quoted.csv"
    quoted = [
        "file_name" + mark + "title",
        *(mark.join('"' + w.replace('"', '""') + '"' for w in row) for row in rows),
    ]
    path.write_bytes("\n".join(quoted).encode())
    read = [tuple(row.fields) for row in read_delimited(path, "quoted.csv")[1:]]
    assert read == [row for row in rows if any(word.strip() for word in row)]


@pytest.mark.parametrize(
    "column", ["file_name", "File Name", "FILENAME", " Path ", '"file-path"', "audio_filepath", "File"]
)
@pytest.mark.parametrize("split", ["split", "Split", " SPLIT ", "subset", "Set"])
def test_columns_in_any_case_and_by_their_usual_names(tmp_path: Path, column: str, split: str) -> None:
    head = f"{column},Song Title,Performer,ISRC,License,Prompt,Year,Mood,{split}"
    source = table(
        tmp_path, f"{head}\na.wav,T,P,DEA123456789,CC0,a reel,1999,low,train\nb.wav,U,,,,,,,Decoy\n"
    )
    track = of(source)
    assert (track.title, track.artist, track.isrc, track.licence, track.caption) == (
        "T",
        "P",
        "DEA123456789",
        "CC0",
        "a reel",
    )
    assert track.extra == {"Mood": "low", "year": "1999"} and splits(source)["b.wav"] == "decoy"
    assert [note for note in source.notes if "Mood" in note] == [
        "metadata.csv: columns kept without being used: Mood"
    ]


@pytest.mark.parametrize(
    "head", ["file_name,title,Song Title", "file_name,title,title", "file_name,path,title"]
)
def test_two_columns_of_one_meaning_are_refused(tmp_path: Path, head: str) -> None:
    with pytest.raises(LinernotesError, match="rename or remove one"):
        table(tmp_path, f"{head}\na.wav,x.wav,B\n")


def test_missing_values_are_no_words(tmp_path: Path) -> None:
    source = table(
        tmp_path, "file_name,title,artist,album,isrc\na.wav,NaN,nan,null,#N/A\nb.wav,None,N/A,NULL,Nan\n"
    )
    assert (of(source).title, of(source).artist, of(source).album, of(source).isrc) == ("a", "", "", "")
    assert (of(source, "b.wav").artist, of(source, "b.wav").isrc) == (
        "",
        "Nan",
    )  # Nan is a person's name, too
    jsonl = table(
        tmp_path / "j", '{"file_name": "a.wav", "artist": NaN, "title": null}', "metadata.jsonl", "a.wav"
    )
    assert (of(jsonl).artist, of(jsonl).title, of(jsonl).extra) == ("", "a", {})


def test_rows_of_another_length_are_named_by_line(tmp_path: Path) -> None:
    source = table(
        tmp_path,
        "file_name,title,isrc\na.wav,Hello, Goodbye,X\nb.wav,Help!\n\nc.wav,Yes,\n",
        files="a.wav b.wav c.wav",
    )
    assert splits(source) == {"c.wav": "train"}
    assert reasons(source) == {"a.wav": "too many fields", "b.wav": "too few fields"}
    assert ["line 2" in source.rejects[0].detail, "line 3" in source.rejects[1].detail] == [True, True]


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ('a.wav,"12 mix,train\nb.wav,Held,decoy\n', 2),  # never closed
        ('a.wav,"12 mix,train\nb.wav,7" single,decoy\n', 2),  # closed by the next row's mark
        ('a.wav,Fine,train\nb.wav,"Hello" you", again,decoy\n', 3),
        ('a.wav,",train\nb.wav,",decoy\n', 2),  # well-formed, but a row is swallowed
    ],
)
def test_a_quote_that_swallows_rows_is_named_by_line(tmp_path: Path, row: str, line: int) -> None:
    with pytest.raises(LinernotesError, match=rf"metadata\.csv line {line} .*quote"):
        table(tmp_path, "file_name,title,split\n" + row)


def test_inch_marks_and_quoted_words_are_letters(tmp_path: Path) -> None:
    source = table(tmp_path, 'file_name,title,split\na.wav,12" mix,train\nb.wav,"Heroes" (live),decoy\n')
    assert [t.title for t in source.tracks] == ['12" mix', '"Heroes" (live)']
    assert splits(source) == {"a.wav": "train", "b.wav": "decoy"}


def test_a_caption_may_have_several_lines(tmp_path: Path) -> None:
    source = table(tmp_path, 'file_name,caption,title\na.wav,"one,\ntwo",A\nb.wav,x,B,C\n')
    assert of(source).caption == "one,\ntwo" and "line 4" in source.rejects[0].detail


@pytest.mark.parametrize(
    "given",
    [
        "sub\\a.wav",
        ".\\sub\\a.wav",
        "./sub/a.wav",
        "sub//a.wav",
        "SUB/A.WAV",
        "{root}/sub/a.wav",
        "file://{root}/sub/a.wav",
        "{name}/sub/a.wav",
        "{link}/sub/a.wav",
    ],
)
def test_a_file_is_found_however_its_path_is_written(tmp_path: Path, given: str) -> None:
    folder = tmp_path / "music"
    (tmp_path / "link").symlink_to(folder)
    given = given.format(root=folder, name=folder.name, link=tmp_path / "link")
    source = table(folder, json.dumps({"file_name": given}), "metadata.jsonl", "sub/a.wav")
    assert splits(source) == {"sub/a.wav": "train"} and not source.rejects


def test_rows_that_mean_no_file_say_why(tmp_path: Path) -> None:
    folder = sounds(tmp_path / "music", "A.wav", "a.WAV", ".hidden/x.wav", "b.wav")
    (folder / "gone.wav").symlink_to("nowhere.wav")
    sounds(tmp_path, "outside.wav")
    rows = [
        "b.wav",
        "a.wav",
        ".hidden/x.wav",
        "gone.wav",
        "../outside.wav",
        "C:\\music\\x.wav",
        "/else/x.wav",
        "nan",
        "c.wav",
    ]
    source = table(folder, "file_name,title\n" + "".join(f"{row},T\n" for row in rows), files="b.wav")
    assert reasons(source) == {
        "a.wav": "ambiguous",
        ".hidden/x.wav": "hidden",
        "gone.wav": "broken link",
        "../outside.wav": "outside",
        "C:\\music\\x.wav": "outside",
        "/else/x.wav": "outside",
        "(row 8)": "no file name",
        "c.wav": "missing",
        "A.wav": "no row",
        "a.WAV": "no row",
    }


@pytest.mark.parametrize("word", ["train", "Training", " TRAIN "])
def test_words_for_train(tmp_path: Path, word: str) -> None:
    assert splits(table(tmp_path, f"file_name,split\na.wav,{word}\n", files="a.wav")) == {"a.wav": "train"}


@pytest.mark.parametrize(
    "word", ["decoy", "Decoy ", "test", "Validation", "valid", "VAL", "dev", "eval", "held-out", "Held Out"]
)
def test_words_for_decoy(tmp_path: Path, word: str) -> None:
    source = table(tmp_path, f"file_name,split\na.wav,{word}\nb.wav,{word}\n")
    assert set(splits(source).values()) == {"decoy"}
    assert len([note for note in source.notes if "decoys" in note]) == ("decoy" not in word.lower())


def test_other_words_for_a_split_are_rejected(tmp_path: Path) -> None:
    assert reasons(table(tmp_path, "file_name,split\na.wav,fold 3\nb.wav,train\n")) == {
        "a.wav": "unknown split"
    }


@pytest.mark.parametrize(
    "name", ["metadata.csv", "Metadata.CSV", "METADATA.TSV", "metadata.txt", "tracks.csv", "Liste.tsv"]
)
def test_a_table_by_another_name_is_a_table(tmp_path: Path, name: str) -> None:
    assert splits(table(tmp_path, "file_name\tsplit\na.wav\ttrain\nb.wav\tdecoy\n", name)) == {
        "a.wav": "train",
        "b.wav": "decoy",
    }


@pytest.mark.parametrize(
    "name", ["metadata.csv", "tracks.csv", "sub/list.tsv", "metadata.jsonl", "x.jsonl", "metadata.json"]
)
def test_a_table_without_files_is_an_error_that_names_its_columns(tmp_path: Path, name: str) -> None:
    text = "Song,Who\nx,y\n" if name.endswith("sv") else '{"Song": "x", "Who": "y"}'
    with pytest.raises(LinernotesError, match=r"no column that names files .*Song, Who"):
        table(tmp_path, text, name)


@pytest.mark.parametrize(
    "name", ["metadata.xlsx", "songs.XLS", "songs.ods", "sub/songs.xlsx", "a.xlsx.csv.xlsx"]
)
def test_a_spreadsheet_is_an_error_not_no_table(tmp_path: Path, name: str) -> None:
    with pytest.raises(LinernotesError, match="save it as CSV"):
        table(tmp_path, b"PK\x03\x04", name)


def test_which_table_is_meant_must_be_plain(tmp_path: Path) -> None:
    sounds(tmp_path, "a.wav")
    (tmp_path / "one.csv").write_text("file_name\na.wav\n")
    with pytest.raises(LinernotesError, match=r"several tables \(one\.csv, two\.csv\)"):
        table(tmp_path, "file_name\na.wav\n", "two.csv")
    source = table(tmp_path, "file_name\na.wav\n", "metadata.csv", "a.wav")
    assert len(source.tracks) == 1 and any("two.csv is not read" in note for note in source.notes)
    with pytest.raises(LinernotesError, match="has both"):
        table(tmp_path, '{"file_name": "a.wav"}', "metadata.jsonl")


def test_tables_of_credits_and_of_one_recording_are_none(tmp_path: Path) -> None:
    (tmp_path / "rights.csv").write_text("party,share\nx,1\n")
    source = table(tmp_path, "beat,second\n1,0.5\n", "a.csv")
    assert len(source.tracks) == 2 and source.notes == [
        "a.csv is not read: it has no column of files and stands beside a recording of its name"
    ]


def test_inner_tables_add_to_outer_ones(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,title\nb.wav,B\nsub/a.wav,Outer\n")
    source = table(
        tmp_path,
        "file_name,title,split\na.wav,Inner,decoy\nc.wav,C,decoy\n",
        "sub/metadata.csv",
        "b.wav sub/a.wav sub/c.wav",
    )
    assert {t.file_name: t.title for t in source.tracks} == {
        "b.wav": "B",
        "sub/a.wav": "Outer",
        "sub/c.wav": "C",
    }
    assert reasons(source) == {"sub/a.wav": "duplicate row"}


def test_broken_json_lines_name_the_line(tmp_path: Path) -> None:
    with pytest.raises(LinernotesError, match=r"metadata\.jsonl line 2 cannot be read"):
        table(tmp_path, '{"file_name": "a.wav"}\n{"file_name": "b.w\n', "metadata.jsonl")
    with pytest.raises(LinernotesError, match=r"metadata\.csv line 2 is not UTF-8"):
        table(tmp_path / "l", "file_name,title\na.wav,Für\n".encode("latin-1"))


def test_json_tables(tmp_path: Path) -> None:
    """Rows in a list, in the one list of an object, or by the file's name; other JSON is no table."""
    (tmp_path / "dataset_info.json").parent.mkdir(exist_ok=True)
    (tmp_path / "dataset_info.json").write_text('{"features": {"audio": {}}, "splits": {"train": {}}}')
    rows = [
        {"file": "a.wav", "filename": "a.wav", "audio": {"bytes": "x"}},
        {"file": "b.wav", "filename": "b.wav", "split": "val"},
    ]
    for name, value in (
        ("list.json", rows),
        ("metadata.json", {"name": "x", "samples": rows}),
        ("metadata.json", {"a.wav": {"title": "A"}, "b.wav": {"split": "val"}}),
    ):
        source = table(tmp_path, json.dumps(value), name)
        assert splits(source) == {"a.wav": "train", "b.wav": "decoy"} and not source.rejects
        (tmp_path / name).unlink()


def test_audiocraft_s_manifests_in_split_folders(tmp_path: Path) -> None:
    sounds(tmp_path, "audio/a.wav", "audio/b.wav")
    for split, name in (("train", "a"), ("valid", "b")):
        (tmp_path / "egs" / split).mkdir(parents=True)
        (tmp_path / "egs" / split / "data.jsonl").write_text(json.dumps({"path": f"audio/{name}.wav"}))
    assert splits(read_source(tmp_path)) == {"audio/a.wav": "train", "audio/b.wav": "decoy"}


# ------------------------------------------------------------------------------------------------------------
# - conventions


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_audiofolder_with_split_folders(tmp_path: Path, kind: str) -> None:
    sounds(tmp_path, "train/a.wav", "test/b.wav", "Validation/c.wav")
    rows = [{"file_name": n, "text": n[:5]} for n in ("train/a.wav", "test/b.wav", "Validation/c.wav")]
    path = tmp_path / f"metadata.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        path.write_text("file_name,text\n" + "".join(f"{r['file_name']},{r['text']}\n" for r in rows))
    source = read_source(tmp_path)
    assert splits(source) == {"train/a.wav": "train", "test/b.wav": "decoy", "Validation/c.wav": "decoy"}
    assert of(source, "test/b.wav").caption == "test/" and len(source.notes) == 1
    path.unlink()
    assert splits(read_source(tmp_path)) == splits(source)  # without a table, too
    # nothing beside it says otherwise
    assert set(splits(read_source(tmp_path / "test")).values()) == {"train"}


def test_a_row_s_own_split_beats_its_folder(tmp_path: Path) -> None:
    source = table(
        tmp_path, "file_name,split\ntrain/a.wav,decoy\ntest/b.wav,train\n", files="train/a.wav test/b.wav"
    )
    assert splits(source) == {"train/a.wav": "decoy", "test/b.wav": "train"}


def test_stable_audio_tools(tmp_path: Path) -> None:
    sounds(tmp_path, "a.wav", "b.wav", "sub/c.flac")
    (tmp_path / "a.txt").write_text("a slow reel\n")
    (tmp_path / "README.txt").write_text("read me")
    (tmp_path / "b.json").write_text(
        '{"prompt": "drums", "Title": "B", "bpm": 120, "moods": ["low", "slow"], "split": "test"}'
    )
    (tmp_path / "sub/c.json").write_text("{broken")
    source = read_source(tmp_path)
    assert of(source).caption == "a slow reel"
    track = of(source, "b.wav")
    assert (track.caption, track.title, track.split) == ("drums", "B", "decoy")
    assert track.extra == {"bpm": "120", "moods": "low, slow"}
    assert reasons(source) == {"sub/c.flac": "unreadable sidecar"}


@pytest.mark.parametrize("packed", [False, True])
def test_audiocraft(tmp_path: Path, packed: bool) -> None:
    sounds(tmp_path, "audio/a.wav")
    (tmp_path / "audio/a.json").write_text(
        json.dumps(
            {
                "title": "Enracinement",
                "artist": "Voyager I",
                "description": "A cool song.",
                "name": "electro_1",
                "bpm": "",
            }
        )
    )
    text = json.dumps({"path": str(tmp_path / "audio/a.wav"), "duration": 15.0, "weight": None}).encode()
    source = table(
        tmp_path, gzip.compress(text) if packed else text, f"data.jsonl{'.gz' * packed}", "audio/a.wav"
    )
    track = of(source, "audio/a.wav")
    assert (track.title, track.artist, track.caption) == ("Enracinement", "Voyager I", "A cool song.")
    assert track.extra == {"duration": "15.0", "name": "electro_1"}


def test_ace_step(tmp_path: Path) -> None:
    (tmp_path / "b_prompt.txt").parent.mkdir(exist_ok=True)
    (tmp_path / "b_lyrics.txt").write_text("[verse]\nla la")
    (tmp_path / "a.txt").write_text("[Verse 1]\nlo lo")
    source = table(
        tmp_path, "File,BPM,Key,Caption\na.wav,120,C minor,dark\nb.wav,90,,bright\n", "key_bpm.csv"
    )
    assert (of(source).caption, of(source).extra) == (
        "dark",
        {"BPM": "120", "Key": "C minor", "lyrics": "[Verse 1]\nlo lo"},
    )
    assert of(source, "b.wav").extra == {"BPM": "90", "lyrics": "[verse]\nla la"}
    (tmp_path / "key_bpm.csv").unlink()
    (tmp_path / "b_prompt.txt").write_text("funk, 90 bpm")
    assert of(read_source(tmp_path), "b.wav").caption == "funk, 90 bpm"


def test_recordings_without_a_table_are_described_by_their_tags(tmp_path: Path) -> None:
    sounds(tmp_path, "a.flac", "b.wav", "c.wav", "d.flac")
    tags = FLAC(tmp_path / "a.flac")
    tags.update(
        {"title": "A", "artist": ["X", "Y"], "album": "L", "isrc": "DEA123456789", "date": "1999-05-01"}
    )
    tags.save()
    wave = WAVE(tmp_path / "b.wav")
    wave.add_tags()
    for frame in (TIT2(text="B"), TPE1(text="Z"), TSRC(text="DEA123456780")):
        wave.tags.add(frame)
    wave.save()
    info = b"INFOINAM" + struct.pack("<I", 2) + b"C\0" + b"ISRC" + struct.pack("<I", 4) + b"CD\0\0"
    with (tmp_path / "c.wav").open("ab") as file:
        file.write(b"LIST" + struct.pack("<I", len(info)) + info)
    (tmp_path / "d.flac").write_bytes((tmp_path / "a.flac").read_bytes()[:60] + b"\xff" * 40)
    source = read_source(tmp_path)
    a = of(source, "a.flac")
    assert (a.title, a.artist, a.album, a.isrc, a.extra) == (
        "A",
        "X; Y",
        "L",
        "DEA123456789",
        {"year": "1999"},
    )
    assert (of(source, "b.wav").title, of(source, "b.wav").artist, of(source, "b.wav").isrc) == (
        "B",
        "Z",
        "DEA123456780",
    )
    assert (of(source, "c.wav").title, of(source, "c.wav").isrc) == (
        "C",
        "",
    )  # INFO's ISRC is the source, no ISRC
    assert of(source, "d.flac").title == "d"


# ------------------------------------------------------------------------------------------------------------
# ------- files


@pytest.mark.parametrize(
    "place",
    [
        ".Trash-1/x",
        ".git/annex",
        "@eaDir",
        "__MACOSX",
        "#recycle",
        "$RECYCLE.BIN",
        "lost+found",
        "System Volume Information",
        ".ipynb_checkpoints",
        "sub/.cache",
    ],
)
def test_hidden_and_system_folders_are_passed_over(tmp_path: Path, place: str) -> None:
    sounds(tmp_path, "a.wav", f"{place}/x.wav")
    (tmp_path / "._a.wav").write_bytes(b"\0\5\x16\7")
    (tmp_path / place / "metadata.csv").write_text("nothing\n")
    (tmp_path / "linked.wav").symlink_to(f"{place}/x.wav")
    source = read_source(tmp_path)
    assert list(splits(source)) == ["a.wav", "linked.wav"] and not source.rejects


def test_a_real_folder_is_read_once(tmp_path: Path) -> None:
    sounds(tmp_path, "in/b/one.wav", "else/two.wav")
    folder = tmp_path / "in"
    for name, target in (
        ("a", "b"),
        ("b/up", ".."),
        ("x", "../else"),
        ("y", "../else"),
        ("self", "."),
        ("gone", "nowhere"),
        ("ring", "ring"),
    ):
        (folder / name).symlink_to(target)
    source = read_source(folder)
    assert list(splits(source)) == ["b/one.wav", "x/two.wav"]
    assert reasons(source) == {
        "a": "linked twice",
        "b/up": "loop",
        "y": "linked twice",
        "self": "loop",
        "gone": "broken link",
        "ring": "broken link",
    }


def test_what_is_no_recording_is_named_for_what_it_is(tmp_path: Path) -> None:
    sounds(tmp_path, "a.wav")
    for name, content in {
        "lfs.wav": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "none.mp3": b"",
        "annex.flac": b"/annex/objects/SHA256E-s1--0.flac\n",
        "apple.wav": b"\0\5\x16\7" + bytes(60),
        "page.mp3": b"<!DOCTYPE html><html>",
        ".cloud.wav.icloud": b"bplist00",
    }.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "gone.wav").symlink_to("nowhere.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / os.fsdecode(b"caf\xe9.wav")).write_bytes(b"x")
    expected = {
        "lfs.wav": "Git LFS pointer",
        "none.mp3": "empty",
        "annex.flac": "git-annex pointer",
        "apple.wav": "AppleDouble",
        "page.mp3": "web page",
        "cloud.wav": "in iCloud only",
        "gone.wav": "broken link",
        "pipe.wav": "no file",
        "caf\\udce9.wav": "unreadable name",
    }
    assert reasons(read_source(tmp_path)) == expected
    listed = [n for n in expected if n not in ("cloud.wav", "pipe.wav", "caf\\udce9.wav")]
    named = reasons(table(tmp_path, "file_name\n" + "\n".join(["a.wav", *listed]), files="a.wav"))
    assert named == expected  # a row changes nothing about it


def test_every_known_suffix_is_a_track_or_named(tmp_path: Path) -> None:
    for suffix in (*SUFFIXES, *NAMED_SUFFIXES):
        (tmp_path / f"x{suffix.upper()}").write_bytes(b"sound")
    (tmp_path / "notes.pdf").write_bytes(b"words")
    source = read_source(tmp_path)
    assert {Path(t.file_name).suffix.lower() for t in source.tracks} == set(SUFFIXES)
    assert {Path(name).suffix.lower() for name in reasons(source)} == set(NAMED_SUFFIXES)
    assert len({track.track_id for track in source.tracks}) == len(SUFFIXES)


def test_two_files_of_one_stem_are_two_tracks(tmp_path: Path) -> None:
    sounds(tmp_path, "take.flac", "take.wav")
    assert [t.track_id for t in read_source(tmp_path).tracks] == ["take", "take.wav"]
    source = table(tmp_path, "file_name,track_id\ntake.flac,\ntake.wav,take\n", files="take.wav")
    assert [t.track_id for t in source.tracks] == ["take.flac", "take"]  # one that was given is kept
    assert reasons(table(tmp_path, "file_name,track_id\ntake.flac,x\ntake.wav,x\n", files="take.wav")) == {
        "take.wav": "duplicate id"
    }


def test_an_empty_split_leaves_the_word_to_the_sidecar_and_the_folder(tmp_path: Path) -> None:
    """What nobody says of a held-out recording must not make it one that is paid for."""
    sounds(tmp_path, "train/a.wav", "test/b.wav", "train/c.wav", "train/d.wav")
    (tmp_path / "train" / "c.json").write_text('{"split": "test"}')
    rows = "train/a.wav,\ntest/b.wav,\ntrain/c.wav,\ntrain/d.wav,test\n"
    (tmp_path / "metadata.csv").write_text("file_name,split\n" + rows)
    source = read_source(tmp_path)
    assert splits(source) == {
        "train/a.wav": "train",
        "test/b.wav": "decoy",
        "train/c.wav": "decoy",
        "train/d.wav": "decoy",
    }
    assert "rows whose split is empty (1) are training tracks" in source.notes
