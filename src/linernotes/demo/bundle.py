"""Where the built-in model and catalogue are, how their tracks sound, and how both are made anew from
nothing.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from linernotes.artefacts import hash_files, hash_json, replace_folder
from linernotes.attribution.prepare import cache_folder
from linernotes.audio import Sound, read_sound, write_sound
from linernotes.catalog.ingest import build_catalogue
from linernotes.catalog.source import Source, Track, read_source
from linernotes.catalog.store import Catalogue, copy_tracks
from linernotes.demo import benchmark
from linernotes.demo.benchmark import plan_benchmark, playing_of
from linernotes.demo.places import BENCHMARK, BENCHMARK_PARTS, BUILTIN, CATALOGUE, MODEL
from linernotes.demo.recipe import plan_catalogue
from linernotes.demo.render import render_track
from linernotes.errors import LinernotesError
from linernotes.models.codec import SpectrogramCodec
from linernotes.models.encoding import Encoding
from linernotes.models.small import SmallModel, write_denoiser, write_small_model
from linernotes.models.stable_audio import StableAudio
from linernotes.settings.training import TrainingSettings
from linernotes.version import __version__

__all__ = [
    "BENCHMARK",
    "BENCHMARK_PARTS",
    "BUILTIN",
    "CATALOGUE",
    "MODEL",
]  # what importers of this module know them by

TRAINED_PARTS = ("transformer", "projection_model")
SOUNDS_AT_ONCE = 32

Progress = Callable[[str, int, int], None]


def builtin_sound(track: Track, start_s: float, shape: Encoding) -> Sound:
    """One track of the built-in catalogue, rendered now, from ``start_s`` on."""
    samples = render_track(
        track.source,
        track.extra["instrument"],
        track.extra["tempo"],
        shape.segment_samples,
        shape.rate_hz,
        playing_of(track),
    )
    return Sound(samples[:, round(start_s * shape.rate_hz) :], shape.rate_hz)


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
        _fit_codec(codec, [sounds / t.file_name for t in source.tracks if t.split == "train"], on_progress)
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


def open_benchmark() -> tuple[Path, Path]:
    """The folders of the benchmark's model and catalogue, put together in the cache when first asked for: the
    model takes its codec and text encoder from the built-in one, the catalogue most of its tracks.
    """
    files = [p for part in ("model", "planted") for p in (BENCHMARK_PARTS / part).rglob("*") if p.is_file()]
    taken_over = [Catalogue(CATALOGUE).hash]
    taken_over += [
        hash_files((MODEL / part).iterdir(), MODEL) for part in ("vae", "text_encoder", "tokenizer")
    ]
    folder = (
        cache_folder()
        / f"{BENCHMARK}-{hash_json([hash_files(files, BENCHMARK_PARTS), taken_over, __version__])}"
    )
    if not folder.exists():
        work = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
        shutil.rmtree(work, ignore_errors=True)
        assemble_benchmark_catalogue(BENCHMARK_PARTS / "planted", work / BENCHMARK)
        shutil.copytree(MODEL, work / "model", ignore=shutil.ignore_patterns(*TRAINED_PARTS, "training*"))
        shutil.copytree(BENCHMARK_PARTS / "model", work / "model", dirs_exist_ok=True)
        if folder.exists():  # another process was quicker, and reads it
            shutil.rmtree(work)
        else:
            replace_folder(work, folder)
    return folder / "model", folder / BENCHMARK


def assemble_benchmark_catalogue(planted: Path, path: Path) -> Catalogue:
    """The benchmark's catalogue, from the built-in one and the catalogue of its planted tracks."""
    origins = {True: Catalogue(CATALOGUE), False: Catalogue(planted)}
    place = {kind: {track.track_id: i for i, track in enumerate(c.tracks)} for kind, c in origins.items()}
    chosen = []
    for planned in plan_benchmark(origins[True].tracks):
        builtin = planned.origin is not None
        origin = planned.origin or planned.track.track_id
        chosen.append((origins[builtin], place[builtin][origin], planned.track))
    return copy_tracks(path, chosen, {"source": BUILTIN})


def rebuild_benchmark(
    out: Path, settings: TrainingSettings, train: Callable[..., None], on_progress: Progress | None = None
) -> None:
    """Makes the benchmark anew in ``out``: ``catalogue`` and ``trained``, and of these what the package
    keeps: ``planted`` (the planted tracks as a catalogue) and ``model`` (the trained parts of the model).

    Each step is skipped when its result stands in ``out`` already.

    Args:
        train: ``train(catalogue, template, folder, settings)``.
    """
    model = builtin_model()
    shape = model.encoding
    sounds, planted, catalogue, template = (
        out / "sounds",
        out / "planted",
        out / "catalogue",
        out / "untrained",
    )
    if not planted.exists():
        sounds.mkdir(parents=True, exist_ok=True)
        rendered = [p.track for p in plan_benchmark(Catalogue(CATALOGUE).tracks) if p.origin is None]
        for i, track in enumerate(rendered, start=1):
            write_sound(sounds / track.file_name, builtin_sound(track, 0.0, shape))
            if on_progress:
                on_progress("rendering planted tunes", i, len(rendered))
        build_catalogue(Source(sounds, rendered, []), planted, model, source_name=BUILTIN)
    if not catalogue.exists():
        half = catalogue.with_name("catalogue.partial")
        shutil.rmtree(half, ignore_errors=True)
        assemble_benchmark_catalogue(planted, half)
        replace_folder(half, catalogue)
    if not template.exists():
        work = template.with_name(template.name + ".partial")
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(MODEL, work, ignore=shutil.ignore_patterns(*TRAINED_PARTS, "training*"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            write_denoiser(work, shape.latent_channels, benchmark.SIZE)
        replace_folder(work, template)
    if not (out / "trained").exists():
        train(Catalogue(catalogue), template, out / "trained", settings)
    if not (out / "model").exists():
        half = out / "model.partial"
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(
            out / "trained", half, ignore=shutil.ignore_patterns("vae", "text_encoder", "tokenizer")
        )
        replace_folder(half, out / "model")


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
