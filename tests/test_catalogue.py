"""The catalogue: all of the sound, in order, once; everything else named with its reason."""

from __future__ import annotations

import errno
import json
import os
import resource
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import FRAME_SAMPLES, RATE_HZ, SEGMENT_SAMPLES, tone, write_model, write_recordings
from linernotes.audio import AudioError, read_sound
from linernotes.catalog.cutting import Files, Finished, cut_blocks, decode_track
from linernotes.catalog.ingest import build_catalogue
from linernotes.catalog.source import read_source
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError
from linernotes.models.encoding import Encoding
from linernotes.models.stable_audio import StableAudio

CUTTING = Encoding("none", "", "", RATE_HZ, 1, 6, 8, FRAME_SAMPLES, 12, 32)


@settings(deadline=None)  # machines are shared
@given(st.integers(FRAME_SAMPLES, 5 * SEGMENT_SAMPLES), st.integers(1, 3), st.integers(500, 9000))
def test_segments_put_together_are_the_track(samples: int, at_once: int, block: int) -> None:
    """Nothing of a track is lost but a remainder shorter than one frame, and padding is silence that is
    marked, however many samples come at a time.
    """
    track = np.random.default_rng(0).standard_normal((1, samples)).astype(np.float32)
    blocks = [track[:, start : start + block] for start in range(0, samples, block)]
    cuts = list(cut_blocks(blocks, CUTTING, at_once))
    joined = np.concatenate([cut.samples_ncs for cut in cuts]).transpose(1, 0, 2).reshape(1, -1)
    seconds_n = np.concatenate([cut.seconds_n for cut in cuts])
    loudness_nt = np.concatenate([cut.loudness_nt for cut in cuts])
    starts_n = np.concatenate([cut.start_s_n for cut in cuts])
    kept = round(seconds_n.sum() * RATE_HZ)
    assert samples - kept < FRAME_SAMPLES
    np.testing.assert_array_equal(joined[:, :kept], track[:, :kept])
    assert not joined[:, kept:].any()
    np.testing.assert_allclose(starts_n, np.arange(len(starts_n)) * SEGMENT_SAMPLES / RATE_HZ)
    content_frames = int(np.isfinite(loudness_nt).sum())
    assert content_frames == sum(-(-round(s * RATE_HZ) // FRAME_SAMPLES) for s in seconds_n)


def test_segments_follow_their_tracks(catalogue: Catalogue, recordings: Path) -> None:
    assert len(catalogue.tracks) == 10
    assert catalogue.record["decoys"] == 3
    seconds = np.bincount(catalogue.track_n, weights=catalogue.seconds_n)
    lengths = [soundfile.info(recordings / track.file_name).duration for track in catalogue.tracks]
    assert seconds == pytest.approx(lengths)
    assert {catalogue.tracks[t].split for t in catalogue.track_n[catalogue.training_rows]} == {"train"}


def test_latents_are_those_of_the_model(catalogue: Catalogue, recordings: Path, model: StableAudio) -> None:
    samples, _ = soundfile.read(recordings / "tone0.wav", dtype="float32")
    latents = model.encode(torch.from_numpy(samples)[None, None])
    assert torch.equal(catalogue.batch([0]).latents_nct, latents.half().float())


def test_conditioning_is_that_of_the_caption(catalogue: Catalogue, model: StableAudio) -> None:
    batch = catalogue.batch(range(len(catalogue)))
    captions = [catalogue.tracks[t].caption for t in catalogue.track_n]
    # stored as float16
    torch.testing.assert_close(batch.text_nld, model.embed_text(captions), rtol=1e-3, atol=1e-3)


def test_a_killed_build_resumes_and_ends_the_same(
    tmp_path: Path,
    recordings: Path,
    model: StableAudio,
    catalogue: Catalogue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("linernotes.catalog.ingest.TRACKS_IN_PIECE", 2)
    calls = 0

    class Killed(StableAudio):
        def encode(self, sound_bcs: torch.Tensor) -> torch.Tensor:
            nonlocal calls
            calls += 1
            if calls == 6:
                raise KeyboardInterrupt
            return super().encode(sound_bcs)

    source, path = read_source(recordings), tmp_path / "tones"
    killed = Killed.__new__(Killed)
    killed.__dict__ = model.__dict__
    with pytest.raises(KeyboardInterrupt):
        build_catalogue(source, path, killed)
    assert not path.exists()
    calls = 7
    resumed = build_catalogue(source, path, killed)
    assert calls - 7 < len(catalogue.tracks)  # the finished pieces were not encoded again
    assert resumed.hash == catalogue.hash
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tones"]


def test_a_stopped_build_of_a_folder_that_has_changed_keeps_what_is_the_same(
    tmp_path: Path, model: StableAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording more at the beginning, one that is another, a caption that was mended: of all others
    nothing is encoded again.
    """
    monkeypatch.setattr("linernotes.catalog.ingest.TRACKS_IN_PIECE", 2)
    folder, path = write_recordings(tmp_path / "sounds", [SEGMENT_SAMPLES] * 24), tmp_path / "tones"

    def stop(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_catalogue(read_source(folder), path, model, on_track=stop)
    before = {file: file.read_bytes() for file in (tmp_path / "tones.partial").glob("*.arrow")}
    soundfile.write(folder / "tone9.wav", tone(999, SEGMENT_SAMPLES), RATE_HZ)
    soundfile.write(folder / "first.wav", tone(777, SEGMENT_SAMPLES), RATE_HZ)
    rows = (folder / "metadata.csv").read_text().replace("tone 3", "a better caption").splitlines()
    name = rows[1].split(",")
    rows.insert(1, ",".join(["first.wav", *name[1:]]))
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    seen: list[int] = []
    built = build_catalogue(read_source(folder), path, model, on_track=lambda done, _: seen.append(done))
    assert built.tracks[0].file_name == "first.wav" and len(built.tracks) == 25
    # what is new and what is another, with those that lie in a batch with them
    assert len(built.tracks) - seen[0] <= 2 * 2 * 2 and len(before) > 6
    whole = build_catalogue(read_source(folder), tmp_path / "whole", model)
    assert built.hash == whole.hash


def test_what_was_stopped_for_another_model_is_not_thrown_away_unasked(
    tmp_path: Path, recordings: Path, model: StableAudio
) -> None:
    work = tmp_path / "tones.partial"
    work.mkdir()
    (work / "plan.json").write_text(json.dumps({"encoder": "another"}))
    with pytest.raises(LinernotesError, match=r"stopped, for another model.*remove that folder"):
        build_catalogue(read_source(recordings), tmp_path / "tones", model)
    assert (work / "plan.json").exists()


@pytest.fixture
def flawed(tmp_path: Path) -> Path:
    """A folder with one of each flaw."""
    folder = write_recordings(tmp_path / "flawed", [SEGMENT_SAMPLES] * 7)
    (folder / "tone1.wav").write_bytes((folder / "tone1.wav").read_bytes()[:2000])
    bad = tone(300, SEGMENT_SAMPLES)
    bad[5] = np.nan
    soundfile.write(folder / "tone2.wav", bad, RATE_HZ, subtype="FLOAT")
    soundfile.write(folder / "tone3.wav", bad[10:] * 0, RATE_HZ)
    (folder / "tone4.wav").write_bytes((folder / "tone0.wav").read_bytes())
    (folder / "tone5.wav").unlink()
    soundfile.write(folder / "tone6.wav", tone(500, FRAME_SAMPLES // 2), RATE_HZ)
    soundfile.write(folder / "stray.wav", tone(600, SEGMENT_SAMPLES), RATE_HZ)
    with (folder / "metadata.csv").open("a") as file:
        file.write(
            "tone0.wav,Again,,,train\n../outside.wav,Out,,,train\nnotes.txt,Notes,,,train\n,No name,,,train\n"
        )
    (folder / "notes.txt").write_text("not a recording")
    return folder


def test_every_flaw_is_named_and_the_rest_goes_in(tmp_path: Path, flawed: Path, model: StableAudio) -> None:
    catalogue = build_catalogue(read_source(flawed), tmp_path / "out", model)
    reasons = {reject.file_name: reject.reason for reject in catalogue.rejects()}
    assert [track.file_name for track in catalogue.tracks] == ["tone0.wav"]
    assert reasons.pop("tone0.wav") == "duplicate row"
    assert reasons == {
        "tone1.wav": "truncated",
        "tone2.wav": "damaged",
        "tone3.wav": "silent",
        "tone4.wav": "duplicate",
        "tone5.wav": "missing",
        "tone6.wav": "too short",
        "stray.wav": "no row",
        "../outside.wav": "outside",
        "notes.txt": "unsupported",
        "(row 11)": "no file name",
    }


def test_a_decoy_that_was_trained_on_is_none(tmp_path: Path, model: StableAudio) -> None:
    """Whichever comes first, the training track stays."""
    folder = write_recordings(tmp_path / "sounds", [SEGMENT_SAMPLES] * 3)
    for copied in ("held.wav", "again.wav"):
        (folder / copied).write_bytes((folder / "tone1.wav").read_bytes())
    rows = ["held.wav,decoy", "tone0.wav,train", "tone1.wav,train", "again.wav,decoy", "tone2.wav,decoy"]
    (folder / "metadata.csv").write_text("\n".join(["file_name,split", *rows]))
    catalogue = build_catalogue(read_source(folder), tmp_path / "out", model)
    assert [(t.file_name, t.split) for t in catalogue.tracks] == [
        ("tone0.wav", "train"),
        ("tone1.wav", "train"),
        ("tone2.wav", "decoy"),
    ]
    assert (
        all("no decoy" in reject.detail for reject in catalogue.rejects()) and len(catalogue.rejects()) == 2
    )
    latents = [catalogue.latents([n]) for n in range(3)]
    assert not torch.equal(latents[0], latents[1]) and not torch.equal(latents[1], latents[2])


def test_odd_names_are_found_or_named(tmp_path: Path, model: StableAudio) -> None:
    folder = write_recordings(tmp_path / "sounds", [SEGMENT_SAMPLES] * 4)
    (folder / "tone1.wav").rename(folder / " lead.wav")
    (folder / "tone2.wav").rename(folder / unicodedata.normalize("NFD", "für.wav"))
    (folder / "tone3.wav").rename(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.wav"))
    names = ["tone0.wav", " lead.wav", unicodedata.normalize("NFC", "für.wav"), "x" * 300 + ".wav"]
    (folder / "metadata.csv").unlink()
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps({"file_name": name}) for name in names))
    source = read_source(folder)
    assert len(source.tracks) == 3
    assert {reject.reason for reject in source.rejects} == {"missing", "unreadable name"}
    assert len(build_catalogue(source, tmp_path / "out", model).tracks) == 3


def test_strict_makes_any_flaw_a_failure(tmp_path: Path, flawed: Path, model: StableAudio) -> None:
    with pytest.raises(LinernotesError, match="--strict"):
        build_catalogue(read_source(flawed), tmp_path / "out", model, strict=True)
    assert not (tmp_path / "out").exists()


def test_jsonl_metadata_and_further_columns(tmp_path: Path, model: StableAudio) -> None:
    folder = write_recordings(tmp_path / "sounds", [SEGMENT_SAMPLES])
    (folder / "metadata.csv").unlink()
    (folder / "metadata.jsonl").write_text(
        '{"file_name": "tone0.wav", "isrc": "DEA123456789", "license": "CC0", "mood": "low"}\n'
    )
    (track,) = build_catalogue(read_source(folder), tmp_path / "out", model).tracks
    assert (track.isrc, track.licence, track.extra, track.title) == (
        "DEA123456789",
        "CC0",
        {"mood": "low"},
        "tone0",
    )


def test_an_empty_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(LinernotesError, match=r"holds no recording: put \.wav, .*\.mp3, .* files there"):
        read_source(tmp_path)


def test_an_identifier_that_is_none_is_said_when_it_goes_in(tmp_path: Path) -> None:
    write_recordings(tmp_path / "r", [SEGMENT_SAMPLES] * 2)
    (tmp_path / "r/metadata.csv").write_text(
        "file_name,isrc,iswc\ntone0.wav,TBA,T-034.524.680-1\ntone1.wav,DEA123456789,T-034.524.680-2\n"
    )
    said = " ".join(read_source(tmp_path / "r").notes)
    for kind, first in (("ISRC", "tone0.wav ('TBA')"), ("ISWC", "tone1.wav ('T-034.524.680-2')")):
        assert f"1 of 2 tracks have an {kind} that is none and is kept as it is, the first {first}" in said


def test_a_tag_without_sound_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "only.mp3").write_bytes(b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10))
    with pytest.raises(AudioError, match="holds a tag and no sound"):
        read_sound(tmp_path / "only.mp3")


def test_a_catalogue_of_another_model_is_refused(tmp_path: Path, catalogue: Catalogue) -> None:
    other = StableAudio(write_model(tmp_path / "other", seed=1))
    with pytest.raises(
        LinernotesError, match=r"was encoded by another model \(tiny\) than other: build it anew"
    ):
        catalogue.require(other.encoding, other.name)


def test_what_cannot_be_read_now_is_not_left_out_for_good(tmp_path: Path) -> None:
    """A process that has no more file handles says nothing of a recording."""
    sounds = tmp_path / "sounds"
    write_recordings(sounds, [SEGMENT_SAMPLES] * 3, decoys=0)
    source = read_source(sounds)
    most, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, highest))
    try:
        with pytest.raises(LinernotesError, match=r"cannot be read now .*run the same command again"):
            list(decode_track(Files(sounds), source.tracks[0], CUTTING))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, highest))
    assert isinstance(list(decode_track(Files(sounds), source.tracks[0], CUTTING))[-1], Finished)


@pytest.mark.parametrize(
    ("name", "times"),
    [("tone1.wav", 0), ("tone1.wav", 1), ("tone1.wav", 2), ("tone1.txt", 0), ("rows.json", 0), ("", 0)],
)
def test_a_disk_that_does_not_answer_ends_the_build_and_loses_nothing(
    tmp_path: Path, model: StableAudio, monkeypatch: pytest.MonkeyPatch, name: str, times: int
) -> None:
    """At whichever look at a file: its head, its container, its sound, what stands beside it, a folder."""
    sounds = tmp_path / "sounds"
    write_recordings(sounds, [SEGMENT_SAMPLES] * 3, decoys=0)
    (sounds / "metadata.csv").unlink()
    (sounds / "tone1.txt").write_text("a caption")
    (sounds / "rows.json").write_text("[]")
    asked = 0

    def answers(path: object) -> None:
        nonlocal asked
        if str(path) == str(sounds / name):
            asked += 1
            if asked > times:
                raise OSError(errno.EIO, "Input/output error", str(path))

    whole, listed = Path.open, os.scandir

    def opened(self: Path, *how: Any, **more: Any) -> Any:
        answers(self)
        return whole(self, *how, **more)

    def entries(path: Any) -> Any:
        answers(path)
        return listed(path)

    with monkeypatch.context() as broken, pytest.raises(LinernotesError, match=r"cannot be read now \(Input"):
        broken.setattr(Path, "open", opened)
        broken.setattr(os, "scandir", entries)
        build_catalogue(read_source(sounds), tmp_path / "catalogue", model)
    assert len(build_catalogue(read_source(sounds), tmp_path / "catalogue", model).tracks) == 3
