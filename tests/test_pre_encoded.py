"""Folders of latents that stable-audio-tools made: the catalogue that encoding the sound would give, and each
file that cannot be used, named.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from conftest import RATE_HZ, tone
from linernotes.catalog.ingest import build_catalogue
from linernotes.catalog.source import read_source
from linernotes.catalog.store import Catalogue
from linernotes.demo.sounds import track_sound
from linernotes.errors import LinernotesError
from linernotes.models.stable_audio import StableAudio
from tools_folder import CHANNELS, FRAMES, HOP, write_diffusers_folder, write_tools_folder

SCALE = 0.5
SEGMENT = FRAMES * HOP
FRAME_S = HOP / RATE_HZ


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> StableAudio:
    """A model whose latents are twice what its autoencoder makes."""
    root = tmp_path_factory.mktemp("models")
    original = write_diffusers_folder(root / "original", model_path)
    tools = write_tools_folder(
        root / "tools", StableAudio(original), original, model__pretransform__scale=SCALE
    )
    return StableAudio(tools)


def sound(seed: int, frames: int) -> torch.Tensor:
    return torch.from_numpy(np.stack([tone(200 + 90 * seed, frames * HOP, seed)] * 2))[None]


def write_latents(
    folder: Path, name: str, model: StableAudio, seed: int, frames: int, padded: int = 0, **said: Any
) -> None:
    """As ``pre_encode.py`` leaves them: unscaled latents of padded sound, and what is said of them."""
    place = folder / "0" / f"{name}.npy"
    place.parent.mkdir(parents=True, exist_ok=True)
    padding = torch.zeros(1, 2, padded * HOP)
    latents = model.encode(torch.cat([sound(seed, frames), padding], dim=2)) * SCALE
    np.save(place, latents[0].numpy())
    words = {
        "path": f"/recordings/{name}.flac",
        "relpath": f"{name}.flac",
        "seconds_start": 0,
        "seconds_total": int(np.ceil(frames * FRAME_S)),
        "padding_mask": [1] * frames + [0] * padded,
        "prompt": f"tone {seed}",
        **said,
    }
    place.with_suffix(".json").write_text(json.dumps(words))


def built(folder: Path, model: StableAudio) -> Catalogue:
    return build_catalogue(read_source(folder), folder.with_name("catalogue"), model)


def test_latents_are_what_encoding_the_sound_gives(tmp_path: Path, scaled: StableAudio) -> None:
    latents, recordings = tmp_path / "latents", tmp_path / "recordings"
    recordings.mkdir()
    rows = ["file_name,caption"]
    for i, frames in enumerate((FRAMES, FRAMES - 5)):
        write_latents(latents, f"tone{i}", scaled, i, frames, padded=FRAMES - frames)
        soundfile.write(recordings / f"tone{i}.wav", sound(i, frames)[0].T.numpy(), RATE_HZ, subtype="FLOAT")
        rows.append(f"tone{i}.wav,tone {i}")
    (recordings / "metadata.csv").write_text("\n".join(rows))
    (latents / "details.json").write_text(json.dumps({"model_config": "gone.json", "args": {}}))
    ours = built(latents, scaled)
    theirs = build_catalogue(read_source(recordings), tmp_path / "sound", scaled)
    assert [t.track_id for t in ours.tracks] == [t.track_id for t in theirs.tracks] == ["tone0", "tone1"]
    assert ours.rejects() == []
    np.testing.assert_allclose(ours.seconds_n, theirs.seconds_n, atol=1e-9)
    torch.testing.assert_close(ours.latents([0, 1]), theirs.latents([0, 1]), atol=2e-3, rtol=2e-3)  # float16
    assert torch.equal(ours.batch([0, 1]).text_nld, theirs.batch([0, 1]).text_nld)
    silent = np.isneginf(ours.loudness_db([0, 1]))
    assert (silent == np.isneginf(theirs.loudness_db([0, 1]))).all() and silent.sum() == 5


def test_crops_of_one_recording_are_one_track(tmp_path: Path, scaled: StableAudio) -> None:
    folder = tmp_path / "latents"
    whole = {"path": "/recordings/long.flac", "relpath": "long.flac", "seconds_total": 9}
    write_latents(folder, "b", scaled, 1, FRAMES, **whole, seconds_start=4)
    write_latents(folder, "a", scaled, 2, FRAMES, **whole, seconds_start=7)
    write_latents(folder, "c", scaled, 3, FRAMES)
    catalogue = built(folder, scaled)
    assert [t.track_id for t in catalogue.tracks] == ["long", "c"]
    assert catalogue.track_n.tolist() == [0, 0, 1]
    assert catalogue.start_s_n.tolist() == [4.0, 7.0, 0.0]
    whole_s_n = catalogue.batch([0, 1, 2]).whole_s_n
    assert whole_s_n.tolist() == [9.0, 9.0, float(np.ceil(FRAMES * FRAME_S))]  # as the model was told
    (note,) = [n for n in catalogue.record["notes"] if "another prompt" in n]
    assert note.startswith("1 have another prompt")


def test_long_latents_are_cut_and_their_padding_left(tmp_path: Path, scaled: StableAudio) -> None:
    folder = tmp_path / "latents"
    write_latents(folder, "long", scaled, 1, 2 * FRAMES + 3, padded=FRAMES)
    catalogue = built(folder, scaled)
    raw = np.load(folder / "0/long.npy")
    found = catalogue.latents([0, 1, 2])
    for i in range(3):
        expected = torch.from_numpy(raw[:, i * FRAMES : (i + 1) * FRAMES]) / SCALE
        torch.testing.assert_close(found[i], expected.half().float())
    np.testing.assert_allclose(catalogue.seconds_n / FRAME_S, [FRAMES, FRAMES, 3])


def test_every_file_that_cannot_be_used_is_named(tmp_path: Path, scaled: StableAudio) -> None:
    folder = tmp_path / "latents"
    names = ("good", "words", "latents", "wide", "short", "holes", "rate", "mask", "quiet", "same", "split")
    names += ("start", "end", "packed")
    for i, name in enumerate(names):
        write_latents(folder, name, scaled, i, FRAMES)
    own = folder / "0"
    (own / "words.json").unlink()
    (own / "latents.npy").unlink()
    np.save(own / "wide.npy", np.zeros((CHANNELS + 1, FRAMES), dtype=np.float32))
    np.save(own / "short.npy", np.zeros((CHANNELS, FRAMES - 1), dtype=np.float32))
    np.save(own / "holes.npy", np.full((CHANNELS, FRAMES), np.nan, dtype=np.float32))
    np.save(own / "same.npy", np.load(own / "good.npy"))

    def change(name: str, **said: Any) -> None:
        words = json.loads((own / f"{name}.json").read_text())
        (own / f"{name}.json").write_text(json.dumps({**words, **said}))

    change("rate", seconds_total=5, padding_mask=[1] * (FRAMES - 1) + [0])
    change("mask", padding_mask=[1])
    change("quiet", padding_mask=[0] * FRAMES)
    change("split", split="perhaps")
    change("start", seconds_start="n/a")
    change("end", seconds_total=float("nan"))
    with (own / "packed.npy").open("wb") as file:
        np.savez(file, latents=np.zeros((CHANNELS, FRAMES), dtype=np.float32))
    catalogue = built(folder, scaled)
    assert [t.track_id for t in catalogue.tracks] == ["good"]
    reasons = {Path(r.file_name).name: r.reason for r in catalogue.rejects()}
    assert reasons == {
        "words.npy": "no words",
        "latents.json": "no latents",
        "wide.npy": "other autoencoder",
        "short.npy": "too short",
        "holes.npy": "not finite",
        "rate.npy": "other autoencoder",
        "mask.npy": "other length",
        "quiet.npy": "silent",
        "same.npy": "duplicate",
        "split.npy": "unknown split",
        "start.npy": "no words",
        "end.npy": "no words",
        "packed.npy": "unreadable",
    }


def test_a_suffix_in_capitals_is_a_suffix(tmp_path: Path, scaled: StableAudio) -> None:
    write_latents(tmp_path / "latents", "good", scaled, 0, FRAMES)
    (tmp_path / "latents/0/good.npy").rename(tmp_path / "latents/0/good.NPY")
    assert [track.track_id for track in built(tmp_path / "latents", scaled).tracks] == ["good"]


def test_pickled_arrays_are_not_read(tmp_path: Path, scaled: StableAudio) -> None:
    folder = tmp_path / "latents"
    write_latents(folder, "good", scaled, 0, FRAMES)
    write_latents(folder, "evil", scaled, 1, FRAMES)
    np.save(folder / "0/evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (reject,) = built(folder, scaled).rejects()
    assert reject.reason == "unreadable"


def test_latents_of_another_autoencoder_are_refused(
    tmp_path: Path, scaled: StableAudio, model: StableAudio
) -> None:
    folder = tmp_path / "latents"
    write_latents(folder, "good", scaled, 0, FRAMES)
    described = {"sample_rate": 44100, "model": {"downsampling_ratio": 2048, "latent_dim": 64}}
    for details, said in (
        ({"model_config": described}, r"was encoded by another autoencoder .*\(44100, 2048, 64\)"),
        ({"args": {"is_discrete": True}}, "holds codes"),
    ):
        (folder / "details.json").write_text(json.dumps(details))
        with pytest.raises(LinernotesError, match=said):
            built(folder, scaled)
    (folder / "details.json").unlink()
    with pytest.raises(LinernotesError, match=r"other|channels of real numbers"):
        built(folder, model)


def test_the_recording_is_heard_where_it_still_lies(tmp_path: Path, scaled: StableAudio) -> None:
    folder = tmp_path / "latents"
    recording = tmp_path / "kept.wav"
    soundfile.write(recording, sound(0, FRAMES)[0].T.numpy(), RATE_HZ)
    write_latents(folder, "kept", scaled, 0, FRAMES, path=str(recording))
    write_latents(folder, "gone", scaled, 1, FRAMES)
    catalogue = built(folder, scaled)
    heard = {track.track_id: track_sound(catalogue, track, 0.0) for track in catalogue.tracks}
    assert heard["gone"] is None
    assert heard["kept"] is not None and heard["kept"].samples.shape[1] == SEGMENT
