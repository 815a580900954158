"""The small codec language model and its catalogue, made anew from the built-in material: the benchmark's
tracks with their latents as codes of a residual codec, and a small MusicGen trained on them.

Small enough to be trained again without any of its tracks, so that attributions of this family can be held
against retraining.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from linernotes.artefacts import replace_folder
from linernotes.catalog.store import Catalogue, copy_tracks
from linernotes.demo.opening import catalogue_folder
from linernotes.demo.places import BENCHMARK, BUILTIN, CATALOGUE, MODEL
from linernotes.models.musicgen import MusicGen
from linernotes.models.small_musicgen import write_small_musicgen
from linernotes.settings.training import TrainingSettings

TRAINING = TrainingSettings(steps=600, batch_size=16, learning_rate=3e-3, ema=0.99)
EVERY = 4  # the codebooks are fitted on every so many frames of the built-in catalogue

Progress = Callable[[str, int, int], None]


def rebuild_codec_lm(
    out: Path, settings: TrainingSettings, train: Callable[..., None], on_progress: Progress | None = None
) -> None:
    """Makes ``untrained``, ``catalogue`` and ``model`` in ``out``.

    Each step is skipped when its result stands in ``out`` already.

    Args:
        train: ``train(catalogue, template, folder, settings)``.
    """
    report = on_progress or (lambda what, done, total: None)
    template, path = out / "untrained", out / "catalogue"
    builtin = Catalogue(CATALOGUE)
    if not template.exists():
        report("fitting the codebooks", 0, 1)
        work = template.with_name(template.name + ".partial")
        shutil.rmtree(work, ignore_errors=True)
        latents_nct = builtin.latents(builtin.training_rows)
        frames_nc = latents_nct.transpose(1, 2).flatten(0, 1)[::EVERY]
        write_small_musicgen(work, MODEL, frames_nc, builtin.encoding.frames, settings.seed)
        report("fitting the codebooks", 1, 1)
        replace_folder(work, template)
    if not path.exists():
        model = MusicGen(template)
        origin = Catalogue(catalogue_folder(BENCHMARK))
        work = path.with_name(path.name + ".partial")
        shutil.rmtree(work, ignore_errors=True)
        copy_tracks(
            work,
            [(origin, i, track) for i, track in enumerate(origin.tracks)],
            {"source": BUILTIN},
            (replace(model.encoding, model=BUILTIN), model.codec.quantise),
        )
        replace_folder(work, path)
    if not (out / "model").exists():
        train(Catalogue(path), template, out / "model", settings)
