"""How the built-in tracks sound, and how the built-in model and catalogue are made anew from nothing."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from linernotes.artefacts import replace_folder
from linernotes.audio import Sound, read_sound, write_sound
from linernotes.catalog.ingest import build_catalogue
from linernotes.catalog.source import read_source
from linernotes.catalog.store import Catalogue
from linernotes.demo.places import BUILTIN, CATALOGUE, MODEL
from linernotes.demo.recipe import plan_catalogue
from linernotes.demo.render import render_track
from linernotes.errors import LinernotesError
from linernotes.models.codec import SpectrogramCodec
from linernotes.models.encoding import Encoding
from linernotes.models.objectives import PathKind
from linernotes.models.small import SmallModel, write_denoiser, write_small_model
from linernotes.models.stable_audio import StableAudio
from linernotes.settings.training import TrainingSettings

__all__ = [
    "BUILTIN",
    "CATALOGUE",
    "MODEL",
]  # what importers of this module know them by

TRAINED_PARTS = ("transformer", "projection_model")
SOUNDS_AT_ONCE = 32

Progress = Callable[[str, int, int], None]


def render_catalogue(folder: Path, shape: Encoding, on_progress: Progress | None = None) -> None:
    """Writes the built-in catalogue as an audiofolder: a FLAC file for every track, and ``metadata.csv``.

    Raises:
        LinernotesError: ``folder`` is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise LinernotesError(f"{folder} is not empty: choose another name or remove it")
    work = folder.with_name(folder.name + ".partial")
    work.mkdir(parents=True, exist_ok=True)
    if on_progress:
        on_progress("reading tunes", 0, 1)
    plan = plan_catalogue()
    if on_progress:
        on_progress("reading tunes", 1, 1)
    rows = [{"file_name": f"{track.track_id}.flac", **track.row()} for track in plan]
    for i, (track, row) in enumerate(zip(plan, rows, strict=True), start=1):
        path = work / str(row["file_name"])
        if not path.exists():
            samples = render_track(
                str(row["source"]), track.instrument, track.tempo, shape.segment_samples, shape.rate_hz
            )
            write_sound(path, Sound(samples, shape.rate_hz))
        if on_progress:
            on_progress("rendering tunes", i, len(plan))
    with (work / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    if folder.exists():
        folder.rmdir()
    replace_folder(work, folder)


def rebuild_bundle(
    out: Path, settings: TrainingSettings, train: Callable[..., None], on_progress: Progress | None = None
) -> None:
    """Makes model and catalogue from nothing: renders, fits the codec, writes the untrained pipeline,
    encodes, trains.

    Each step is skipped when its result stands in ``out`` already, so a killed run goes on where it stopped.

    Args:
        train: ``train(catalogue, template, folder, settings)``.
    """
    codec, size = SpectrogramCodec(), SmallModel()
    config = codec.config
    shape = Encoding(  # nothing is encoded yet
        model=BUILTIN,
        codec_hash="",
        text_hash="",
        rate_hz=config.sampling_rate,
        channels=1,
        latent_channels=config.latent_channels,
        frames=size.frames,
        frame_samples=codec.hop_length,
        text_tokens=0,
        text_dim=0,
    )
    sounds, template, catalogue = out / "sounds", out / "untrained", out / "catalogue"
    if not sounds.exists():
        render_catalogue(sounds, shape, on_progress)
    source = read_source(sounds)
    if not template.exists():
        _fit_codec(codec, [sounds / t.file_name for t in source.tracks if t.trained], on_progress)
        work = template.with_name(template.name + ".partial")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        corpus = [text for track in source.tracks for text in (track.caption, track.title)]
        write_small_model(work, codec, corpus, settings.seed, size)
        replace_folder(work, template)
    if not catalogue.exists():
        model = builtin_model(template)
        build_catalogue(
            source,
            catalogue,
            model,
            source_name=BUILTIN,
            on_track=(lambda done, total: on_progress("encoding tracks", done, total))
            if on_progress
            else None,
        )
    if not (out / "model").exists():
        train(Catalogue(catalogue), template, out / "model", settings)


def write_template(size: SmallModel, folder: Path, seed: int, objective: PathKind = "v") -> None:
    """Writes an untrained model of some size with the built-in codec and text encoder, if it is not there."""
    if folder.exists():
        return
    work = folder.with_name(folder.name + ".partial")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(MODEL, work, ignore=shutil.ignore_patterns(*TRAINED_PARTS, "training*"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        write_denoiser(work, builtin_model().encoding.latent_channels, size)
    if objective != "v":
        StableAudio.write_objective(work, objective)
    replace_folder(work, folder)


def builtin_model(folder: Path = MODEL) -> StableAudio:
    """A model whose catalogues say that the built-in one encoded them."""
    model = StableAudio(folder)
    model.encoding = replace(model.encoding, model=BUILTIN)
    return model


def _fit_codec(codec: SpectrogramCodec, paths: list[Path], on_progress: Progress | None) -> None:
    def batches() -> Iterator[torch.Tensor]:
        for start in range(0, len(paths), SOUNDS_AT_ONCE):
            some = [
                torch.from_numpy(read_sound(path).samples) for path in paths[start : start + SOUNDS_AT_ONCE]
            ]
            yield torch.stack(some)
            if on_progress:
                on_progress("fitting the codec", min(len(paths), start + SOUNDS_AT_ONCE), len(paths))

    codec.fit(batches())
