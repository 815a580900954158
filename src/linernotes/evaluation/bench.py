"""What attribution costs, as ratios within one run: machines differ and are shared, so seconds alone mean little."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from linernotes.catalog.store import Catalogue
from linernotes.losses import DEFAULT_BATCH, item_losses
from linernotes.models.contract import DiffusionModel
from linernotes.noise import draw_bank

REPEATS = 5
SWEEP_SEGMENTS = 128


def seconds_of(job: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def sweep_overhead(model: DiffusionModel, catalogue: Catalogue, draws: int, batch_size: int = DEFAULT_BATCH) -> dict[str, float]:
    """Time of a sweep over that of the bare forward passes it needs, on the same segments, taken in turns.

    The bare passes get tensors that lie ready: no data is read, nothing is mixed, no loss is formed or written.
    """
    rows = catalogue.training_rows[:SWEEP_SEGMENTS]
    bank = draw_bank(draws, model.shape.latent_channels, model.shape.frames, seed=0)
    batch = catalogue.batch(rows)
    noisy_bct = batch.latents_nct[torch.arange(batch_size) % len(rows)].contiguous()
    condition = model.condition(batch.text_nld, batch.seconds_n)[torch.arange(batch_size) % len(rows)]
    t_b = torch.rand(batch_size, generator=torch.Generator().manual_seed(0))
    passes = len(rows) * draws // batch_size

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(passes):
                model.predict(noisy_bct, t_b, condition)

    def sweep() -> None:
        with tempfile.TemporaryDirectory() as folder:
            item_losses(model, catalogue, bank, {"base": {}}, Path(folder), rows, batch_size)

    bare()
    pairs = [(seconds_of(sweep), seconds_of(bare)) for _ in range(REPEATS)]
    forwards = passes * batch_size
    return {
        "sweep_over_bare_forwards": statistics.median(s / b for s, b in pairs),
        "sweep_ms_per_forward": 1000 * statistics.median(s for s, _ in pairs) / forwards,
    }
