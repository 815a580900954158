"""The built-in catalogue: the same tunes, works and sounds on every machine, and latents that are theirs."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import linernotes
from linernotes.audio import Sound, read_sound, write_sound
from linernotes.catalog.store import Catalogue
from linernotes.demo.large import plan_large
from linernotes.demo.places import CATALOGUE, MODEL, name_of
from linernotes.demo.recipe import INSTRUMENTS, group_works
from linernotes.demo.render import PEAK, render_notes, render_track
from linernotes.demo.sounds import builtin_sound
from linernotes.demo.tunes import Note, read_notes
from linernotes.descriptors import chroma, chroma_correlation
from linernotes.models.stable_audio import StableAudio

TUNE = [60, 62, 64, 65, 67, 65, 64, 62, 60, 67, 72, 67, 64, 60, 62, 59, 60]
OTHER = [60, 60, 67, 67, 69, 69, 67, 65, 65, 64, 64, 62, 62, 60, 55, 57, 59]
LATENT_ROUNDING = 0.01  # float16 up to 8 rounds by 0.004; and another machine's arithmetic


@pytest.fixture(scope="module")
def builtin() -> tuple[StableAudio, Catalogue]:
    return linernotes.load_model(), linernotes.open_catalogue()


def test_the_catalogue_is_as_large_as_promised(builtin: tuple[StableAudio, Catalogue]) -> None:
    catalogue = builtin[1]
    decoys = [track for track in catalogue.tracks if track.split == "decoy"]
    assert len(catalogue.training_rows) >= 2000
    assert len(decoys) >= 300
    assert {track.extra["instrument"] for track in catalogue.tracks} == set(INSTRUMENTS)
    assert all(
        track.title and track.artist and track.caption and track.extra["key"] for track in catalogue.tracks
    )


def test_what_came_with_the_package_is_known_by_its_path(tmp_path: Path) -> None:
    assert [name_of(place) for place in ("builtin", MODEL, CATALOGUE)] == ["builtin"] * 3
    (tmp_path / "link").symlink_to(CATALOGUE)
    assert name_of(tmp_path / "link") == "builtin" and name_of(tmp_path) == str(tmp_path)


def test_no_version_of_a_decoy_was_trained_on(builtin: tuple[StableAudio, Catalogue]) -> None:
    works = {
        split: {t.work_id for t in builtin[1].tracks if t.split == split} for split in ("train", "decoy")
    }
    assert not works["train"] & works["decoy"]
    versions = len(builtin[1].tracks) - len(works["train"]) - len(works["decoy"])
    assert versions > 100  # the collections share many tunes


def test_the_stored_latents_are_those_of_the_rendered_tracks(
    tmp_path: Path, builtin: tuple[StableAudio, Catalogue]
) -> None:
    """What the report plays is what the model was trained on."""
    model, catalogue = builtin
    for row in (0, 700, 1500, len(catalogue) - 1):
        track = catalogue.tracks[catalogue.track_n[row]]
        # as 'catalog render' has it, in 16 bits
        write_sound(tmp_path / "track.flac", builtin_sound(track, 0.0, model.encoding))
        sound = read_sound(tmp_path / "track.flac")
        latents = model.encode(torch.from_numpy(sound.samples)[None])
        assert float((latents - catalogue.batch([row]).latents_nct).abs().max()) < LATENT_ROUNDING


def test_a_track_sounds_the_same_every_time() -> None:
    source = "oneills1850/1001-1031.abc#30"
    digests = {
        hashlib.sha256(render_track(source, "flute", "lively", 40000, 22050).tobytes()).hexdigest()
        for _ in range(3)
    }
    assert len(digests) == 1


def test_a_tune_reads_as_its_notes() -> None:
    """7th Regiment in Ryan's collection begins ``vA2(Ac) "4"eAc"0"e`` in A: A A c' e' A c' e', with c
    sharp.
    """
    notes = read_notes("ryansMammoth", "7thRegimentReel.abc#0")
    assert [note.pitch for note in notes[:7]] == [69, 69, 73, 76, 69, 73, 76]
    # two equal quavers after a crotchet
    assert notes[2].start - notes[1].start == notes[3].start - notes[2].start


def test_a_chorale_has_four_voices() -> None:
    notes = read_notes("bach", "bwv269.mxl")
    assert sum(note.start == notes[0].start for note in notes) == 4


def test_a_rendered_note_is_at_its_pitch_and_level() -> None:
    sound = render_notes([Note(0, 960, 69)], INSTRUMENTS["flute"], 120, 22050, 22050)
    assert sound.shape == (1, 22050)
    assert np.abs(sound).max() == pytest.approx(PEAK)
    spectrum = np.abs(np.fft.rfft(sound[0]))
    assert spectrum[:1000].argmax() in range(435, 446)  # a' = 440 Hz, one second: bin number = frequency


def test_versions_of_a_work_are_found_whatever_the_key() -> None:
    transposed = [pitch + 5 for pitch in TUNE]
    assert group_works(["One", "Two", "Three"], [TUNE, OTHER, transposed]) == [0, 1, 0]


def test_the_large_catalogue_plays_every_tune_once_before_any_twice() -> None:
    some = {"ryansMammoth": "Ryan's Mammoth Collection"}
    tracks = plan_large(9_000, on_progress=None, names=some)
    train, decoys = ([t for t in tracks if t.split == split] for split in ("train", "decoy"))
    segments = [max(1, math.ceil(float(t.extra["seconds"]) / 5.944 - 0.02)) for t in train]
    assert 9_000 <= sum(segments) < 9_000 + max(segments) and np.mean(segments) > 3
    assert decoys and not {t.work_id for t in train} & {t.work_id for t in decoys}
    first, again = ({t.source for t in tracks if t.track_id.endswith(number)} for number in ("-1", "-2"))
    assert again and again < first
    played = {(t.source, t.extra["instrument"]) for t in tracks}
    assert len(played) == len(tracks)  # never twice on the same instrument
    fewer = plan_large(300, names=some)
    assert any(t.split == "train" for t in fewer) and all(t in tracks for t in fewer)


def test_a_shared_title_alone_makes_no_work() -> None:
    assert group_works(["The Reel", "Reel"], [TUNE, OTHER]) == [0, 1]


def test_chroma_hears_pitch_classes_not_octaves() -> None:
    def sound(pitch: int) -> Sound:
        return Sound(render_notes([Note(0, 960, pitch)], INSTRUMENTS["flute"], 120, 22050, 22050), 22050)

    assert chroma(sound(69)).mean(axis=1).argmax() == 9
    assert chroma_correlation(sound(69), sound(81)) > 0.9
    assert chroma_correlation(sound(69), sound(75)) < 0.3
