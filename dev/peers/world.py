"""What both sides of a comparison are given: a small trained model, synthetic chords to train it on and
chords to ask about.

Nothing here is a peer's; the draws of noise are those that linernotes makes for itself, read out so that a
peer can have them.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch.utils.data import TensorDataset
from transformers.utils import logging as transformers_logging

from linernotes.catalog.ingest import build_catalogue
from linernotes.catalog.source import read_source
from linernotes.catalog.store import Catalogue
from linernotes.curvature import fitting
from linernotes.draws import Batch, Draws, random_for
from linernotes.losses import items_of
from linernotes.methods.contract import Prepared, Query
from linernotes.models.codec import SpectrogramCodec
from linernotes.models.small import SmallModel, write_small_model
from linernotes.models.stable_audio import StableAudio
from linernotes.models.training import train
from linernotes.settings.training import TrainingSettings

RATE_HZ, FRAME_SAMPLES = 8000, 512
SIZE = SmallModel(
    frames=32, layers=2, heads=2, head_dim=32, text_dim=32, text_layers=1, prompt_tokens=12, vocabulary=300
)
SEGMENT_SAMPLES = SIZE.frames * FRAME_SAMPLES


@dataclass(frozen=True)
class Extent:
    """How much there is to train on and to ask about."""

    items: int
    queries: int
    steps: int


FULL, QUICK = (
    Extent(96, 8, 300),
    Extent(24, 3, 60),
)  # quick: enough to see that the sides still run, and agree


def chord(seed: int) -> np.ndarray:
    """Two decaying tones and a little noise, ``[samples]`` float32."""
    random = np.random.default_rng(seed)
    t = np.arange(SEGMENT_SAMPLES) / RATE_HZ
    hz, decay = random.uniform(150, 1500, (2, 1)), random.uniform(0, 6, (2, 1))
    tones = (np.sin(2 * np.pi * hz * t) * np.exp(-decay * t)).sum(axis=0)
    return (0.25 * tones + 0.01 * random.standard_normal(len(t))).astype(np.float32)


def caption(seed: int) -> str:
    return f"chord {seed % 3}"


def build(folder: Path, extent: Extent) -> None:
    """A trained model in ``folder/model`` and its training items, ``folder/catalogue``."""
    transformers_logging.disable_progress_bar()
    codec = SpectrogramCodec(RATE_HZ, n_fft=256, spectrogram_hop=128, mels=24, patch=4, latent_channels=6)
    codec.fit([torch.from_numpy(np.stack([chord(seed) for seed in range(20)]))[:, None]])
    write_small_model(folder / "untrained", codec, [caption(seed) for seed in range(3)], 0, SIZE)
    sounds = folder / "sounds"
    sounds.mkdir()
    with (sounds / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "title", "artist", "caption", "split"])
        for seed in range(extent.items):
            soundfile.write(sounds / f"{seed:03}.wav", chord(seed), RATE_HZ, subtype="FLOAT")
            writer.writerow([f"{seed:03}.wav", f"Chord {seed}", "The Oscillators", caption(seed), "train"])
    model = StableAudio(folder / "untrained")
    catalogue = build_catalogue(read_source(sounds), folder / "catalogue", model)
    batch = catalogue.batch(catalogue.training_rows)
    settings = TrainingSettings(steps=extent.steps, batch_size=min(32, extent.items), ema=0.95, checkpoints=2)
    train(
        folder / "untrained", folder / "model", batch.latents_nct, batch.text_nld, batch.seconds_n, settings
    )


class World:
    """What both sides are given: the model, the items and the queries, with all their draws."""

    def __init__(self, folder: Path, extent: Extent) -> None:
        self.extent = extent
        self.model_folder = folder / "model"
        self.model = StableAudio(self.model_folder)
        self.catalogue = Catalogue(folder / "catalogue")
        seeds = range(extent.items, extent.items + extent.queries)  # never trained on
        sounds = torch.from_numpy(np.stack([chord(seed) for seed in seeds]))[:, None]
        latents_qct = self.model.encode(sounds)
        text_qld = self.model.embed_text([caption(seed) for seed in seeds])
        heard_t = torch.ones(SIZE.frames, dtype=torch.bool)
        self.queries = [
            Query(f"chord {seed}", latents_ct, caption(seed), text_ld, SEGMENT_SAMPLES / RATE_HZ, heard_t)
            for seed, latents_ct, text_ld in zip(seeds, latents_qct, text_qld, strict=True)
        ]

    def prepared(self, folder: Path) -> Prepared:
        return Prepared(self.model, self.catalogue, folder / "prepared", model_folder=self.model_folder)

    def items(self, settings: Any) -> TensorDataset:
        """The training items with the noise bank, one row an item."""
        draws = self.prepared(Path()).draws(settings.draws, settings.seed)
        return dataset(items_of(self.model, self.catalogue, np.arange(self.extent.items)), draws)

    def queries_with(self, draws: Draws) -> TensorDataset:
        latents_qct = torch.stack([query.latents_ct for query in self.queries])
        text_qld = torch.stack([query.text_ld for query in self.queries])
        seconds_q = torch.tensor([query.seconds for query in self.queries])
        return dataset(self.model.items(latents_qct, text_qld, seconds_q), draws)

    def gradient_queries(self, settings: Any) -> TensorDataset:
        """The queries with the draws of ``unlearning.query_gradient``."""
        generator = random_for("unlearning", settings.seed, 0)
        return self.queries_with(self.model.draw(settings.gradient_draws, generator))

    def fitting_items(self, settings: Any) -> TensorDataset:
        """What ``curvature.fitting.fit_sums`` fits on: one row for each draw of each item."""
        items = items_of(self.model, self.catalogue, self.catalogue.training_rows)
        chance = fitting._their_own(self.model, len(items), settings.fisher_draws, settings.seed, 0)
        passes = list(fitting._passes(items, chance, settings.batch_size, self.model.device))
        own = [
            torch.cat([p.items.tensors[name] for p in passes]) for name in ("latents", "tokens", "summary")
        ]
        t_b, eps_bct = (torch.cat([p.draws.tensors[name] for p in passes]) for name in ("t", "eps"))
        return TensorDataset(*own, t_b[:, None], eps_bct[:, None])


def dataset(items: Batch, draws: Draws) -> TensorDataset:
    """Rows of (latents, tokens, summary, t [K], eps [K, C, T]): every item has the same draws."""
    own = (items.tensors[name] for name in ("latents", "tokens", "summary"))
    return TensorDataset(
        *own, *(draws.tensors[name].expand(len(items), *draws.tensors[name].shape) for name in ("t", "eps"))
    )
