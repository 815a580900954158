"""Tiny real models and catalogues: the same classes as the shipped ones, small enough to run in a moment."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from linernotes.attribution.query import segment_query
from linernotes.catalog.ingest import build_catalogue
from linernotes.catalog.source import read_source
from linernotes.catalog.store import Catalogue
from linernotes.draws import Draws, random_for
from linernotes.methods.contract import Query
from linernotes.models.codec import SpectrogramCodec
from linernotes.models.contract import GenerativeModel
from linernotes.models.small import SmallModel, write_small_model
from linernotes.models.stable_audio import StableAudio

RATE_HZ = 8000
SIZE = SmallModel(
    frames=8,
    layers=2,
    heads=2,
    head_dim=16,
    text_dim=32,
    text_layers=1,
    prompt_tokens=12,
    vocabulary=300,
    sampling_steps=4,
)
FRAME_SAMPLES = 512
SEGMENT_SAMPLES = SIZE.frames * FRAME_SAMPLES


def tone(hz: float, samples: int, seed: int = 0) -> np.ndarray:
    """A decaying tone with a little noise, ``[samples]`` float32."""
    t = np.arange(samples) / RATE_HZ
    noise = np.random.default_rng(seed).standard_normal(samples) * 0.01
    return (0.5 * np.sin(2 * np.pi * hz * t) * np.exp(-t) + noise).astype(np.float32)


def write_recordings(folder: Path, lengths: list[int], decoys: int = 0) -> Path:
    """An audiofolder of tones, one a length in samples; the last ``decoys`` are decoys."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, length in enumerate(lengths):
        soundfile.write(folder / f"tone{i}.wav", tone(200 + 60 * i, length, i), RATE_HZ, subtype="FLOAT")
        split = "decoy" if i >= len(lengths) - decoys else "train"
        rows.append(
            {
                "file_name": f"tone{i}.wav",
                "title": f"Tone {i}",
                "artist": "The Oscillators",
                "caption": f"tone {i % 3}",
                "split": split,
            }
        )
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def write_model(folder: Path, seed: int = 0) -> Path:
    codec = SpectrogramCodec(RATE_HZ, n_fft=256, spectrogram_hop=128, mels=24, patch=4, latent_channels=6)
    sounds = np.stack([tone(150 + 50 * i, SEGMENT_SAMPLES, i) for i in range(20)])
    codec.fit([torch.from_numpy(sounds)[:, None]])
    write_small_model(folder, codec, ["tone 0", "tone 1", "tone 2", "a low tone"], seed, SIZE)
    return folder


def draws_of(model: GenerativeModel, count: int, seed: int = 0) -> Draws:
    """Draws as items are scored on."""
    return model.draw(count, random_for("noise bank", seed))


def query_of(catalogue: Catalogue, row: int) -> Query:
    """A segment as a query, all of it heard."""
    heard = torch.ones(catalogue.encoding.frames, dtype=torch.bool)
    return replace(segment_query(catalogue, row), name=f"segment-{row}", prompt="", heard_t=heard)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from or left in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LINERNOTES_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def model(model_path: Path) -> StableAudio:
    return StableAudio(model_path)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lengths = [SEGMENT_SAMPLES * k // 4 for k in (4, 8, 5, 4, 6, 4, 9, 4, 4, 3)]
    return write_recordings(tmp_path_factory.mktemp("sounds") / "recordings", lengths, decoys=3)


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory: pytest.TempPathFactory, recordings: Path, model: StableAudio) -> Catalogue:
    path = tmp_path_factory.mktemp("catalogues") / "tones"
    return build_catalogue(read_source(recordings), path, model)


@pytest.fixture(scope="session")
def one_thread() -> Callable[[], AbstractContextManager[None]]:
    """Torch with one thread, as in a process of its own that retrains."""

    @contextmanager
    def alone() -> Iterator[None]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    return alone
