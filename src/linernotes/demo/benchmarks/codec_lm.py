"""Decides what the benchmark ``codec-lm`` is: the first one's tracks with their latents as codes of a
residual codec, learned by a small MusicGen. Is what was found on models of noise true of models of codes?
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from linernotes.artefacts import replace_folder
from linernotes.catalog.store import Catalogue
from linernotes.demo.benchmarks import first
from linernotes.demo.benchmarks.description import Benchmark, Planned, PlannedQuery
from linernotes.demo.benchmarks.prompts import half_by_new_captions
from linernotes.demo.places import BENCHMARK, BUILTIN, CATALOGUE, CODEC_LM, MODEL
from linernotes.models.encoding import Encoding
from linernotes.models.musicgen import MusicGen
from linernotes.models.small_musicgen import write_small_musicgen
from linernotes.settings.training import TrainingSettings
from linernotes.settings.verbs import BankSettings

SEED = 3200
EVERY = 4  # the codebooks are fitted on every so many frames of the built-in catalogue


def plan_queries(planned: Sequence[Planned]) -> list[PlannedQuery]:
    """Clips by prompts that none of the first benchmark's has, by which methods were tried."""
    return half_by_new_captions(planned, SEED, {query.prompt for query in first.plan_queries(planned)})


def write_untrained(folder: Path, seed: int) -> None:
    """Writes an untrained small MusicGen over codebooks of the built-in latents, if it is not there."""
    if folder.exists():
        return
    builtin = Catalogue(CATALOGUE)
    work = folder.with_name(folder.name + ".partial")
    shutil.rmtree(work, ignore_errors=True)
    frames_nc = builtin.latents(builtin.training_rows).transpose(1, 2).flatten(0, 1)[::EVERY]
    write_small_musicgen(work, MODEL, frames_nc, builtin.encoding.frames, seed)
    replace_folder(work, folder)


def as_codes(untrained: Path) -> tuple[Encoding, Callable[[Tensor], Tensor]]:
    """What makes codes of the built-in codec's latents, and the encoding that they have."""
    model = MusicGen(untrained)
    return replace(model.encoding, model=BUILTIN), model.codec.quantise


CODEC_LM_BENCHMARK = Benchmark(
    name=CODEC_LM,
    untrained=write_untrained,
    training=TrainingSettings(steps=600, batch_size=16, learning_rate=3e-3, ema=0.99),
    bank=BankSettings(halves=24, again=12, full=2),
    tracks=first.plan_tracks,
    queries=plan_queries,
    rendered_with=BENCHMARK,
    recode=as_codes,
)
