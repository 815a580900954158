"""How benchmarks are made: put together in the cache from what the package holds of them, or anew from the
built-in material.
"""

from __future__ import annotations

import csv
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from linernotes.artefacts import hash_files, hash_json, replace_folder, replacing
from linernotes.audio import write_sound
from linernotes.catalog.ingest import build_catalogue
from linernotes.catalog.source import Source
from linernotes.catalog.store import Catalogue, copy_tracks
from linernotes.demo.benchmarks.all import benchmark_of
from linernotes.demo.benchmarks.description import BASE, Benchmark, PlannedQuery
from linernotes.demo.bundle import TRAINED_PARTS, Progress, builtin_model
from linernotes.demo.places import BENCHMARK, BUILTIN, CATALOGUE, MODEL, benchmark_parts, folder_of_that_name
from linernotes.demo.sounds import builtin_sound
from linernotes.errors import LinernotesError
from linernotes.models.folder import training_record
from linernotes.settings.places import cache_folder
from linernotes.settings.training import TrainingSettings
from linernotes.version import __version__

PLANTED = "planted"


def open_benchmark(name: str) -> tuple[Path, Path]:
    """The folders of a benchmark's model and catalogue, put together in the cache when first asked for: the
    model takes its codec and text encoder from the built-in one, the catalogue most of its tracks. Tracks
    that the package does not hold are rendered and encoded, which takes minutes.

    Raises:
        LinernotesError: the package holds no model of it, or its tracks come out differently on this machine.
    """
    benchmark, parts = benchmark_of(name), benchmark_parts(name)
    if not (parts / "model").exists():
        raise LinernotesError(
            f"this package holds no model of the benchmark {name}: make it with 'linernotes rebuild "
            f"--benchmark {name} -o OUT', and give --model OUT/trained --catalog OUT/catalogue"
            f"{folder_of_that_name(name)}"
        )
    planted = benchmark_parts(benchmark.rendered_with) / PLANTED
    files = [p for part in (parts / "model", planted) for p in part.rglob("*") if p.is_file()]
    taken_over = [Catalogue(CATALOGUE).hash]
    taken_over += [
        hash_files((MODEL / part).iterdir(), MODEL) for part in ("vae", "text_encoder", "tokenizer")
    ]
    key = hash_json([hash_files(files, parts.parent), taken_over, __version__])
    folder = cache_folder() / f"{name}-{key}"
    if not folder.exists():
        work = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
        shutil.rmtree(work, ignore_errors=True)
        if not planted.exists():
            logging.getLogger("linernotes").warning(
                f"the tracks of the benchmark {name} are rendered and encoded now, once: this takes minutes"
            )
            planted = work / PLANTED
            _render_planted(benchmark, work / "sounds", planted)
        catalogue = _assemble(benchmark, planted, work / name, parts / "model")
        _require_known(parts / "model", catalogue, name)
        shutil.copytree(MODEL, work / "model", ignore=shutil.ignore_patterns(*TRAINED_PARTS, "training*"))
        shutil.copytree(parts / "model", work / "model", dirs_exist_ok=True)
        for part in ("sounds", PLANTED):
            shutil.rmtree(work / part, ignore_errors=True)
        if folder.exists():  # another process was quicker, and reads it
            shutil.rmtree(work)
        else:
            replace_folder(work, folder)
    return folder / "model", folder / name


def rebuild_benchmark(
    out: Path,
    name: str,
    settings: TrainingSettings,
    train: Callable[..., None],
    on_progress: Progress | None = None,
) -> None:
    """Makes a benchmark anew in ``out``: ``catalogue``, ``trained`` and ``prompts.csv``, for ``bank build``;
    and what the package may keep: ``planted`` (the tracks that are rendered for it, as a catalogue) and, of
    the first one, ``model`` (the trained parts).

    Each step is skipped when its result stands in ``out`` already.

    Args:
        train: ``train(catalogue, template, folder, settings)``.
    """
    benchmark = benchmark_of(name)
    planted, catalogue, template = out / PLANTED, out / "catalogue", out / "untrained"
    if benchmark.rendered_with != name:
        planted = benchmark_parts(benchmark.rendered_with) / PLANTED
    elif not planted.exists():
        _render_planted(benchmark, out / "sounds", planted, on_progress)
    write_untrained(benchmark, template, settings.seed)
    if not catalogue.exists():
        half = catalogue.with_name("catalogue.partial")
        shutil.rmtree(half, ignore_errors=True)
        _assemble(benchmark, planted, half, template)
        replace_folder(half, catalogue)
    if not (out / "trained").exists():
        train(Catalogue(catalogue), template, out / "trained", settings)
    if name == BENCHMARK and not (out / "model").exists():
        half = out / "model.partial"
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(
            out / "trained", half, ignore=shutil.ignore_patterns("vae", "text_encoder", "tokenizer")
        )
        replace_folder(half, out / "model")
    write_prompts(out / "prompts.csv", benchmark.queries(benchmark.tracks(Catalogue(CATALOGUE))))


def write_untrained(benchmark: Benchmark, template: Path, seed: int) -> None:
    """Writes what a benchmark's training starts from to ``template``, and the model that it is an adapter to
    beside it, as far as they are not there.
    """
    base = template.with_name(BASE)
    if benchmark.base and not base.exists():
        half = template.with_name("base.partial")
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(open_benchmark(benchmark.base)[0], half)
        replace_folder(half, base)
    benchmark.untrained(template, seed)


def write_prompts(path: Path, queries: Sequence[PlannedQuery]) -> None:
    """The clips of a benchmark as ``bank build --prompts`` takes them."""
    rows = [asdict(query) for query in queries]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _render_planted(
    benchmark: Benchmark, sounds: Path, planted: Path, on_progress: Progress | None = None
) -> None:
    """The tracks that no other catalogue holds, played and encoded: a catalogue at ``planted``."""
    model = builtin_model(MODEL)
    report = on_progress or (lambda what, done, total: None)
    report("reading tunes", 0, 1)
    rendered = [p.track for p in benchmark.tracks(Catalogue(CATALOGUE)) if p.origin is None]
    report("reading tunes", 1, 1)
    sounds.mkdir(parents=True, exist_ok=True)
    for i, track in enumerate(rendered, start=1):
        if not (sounds / track.file_name).exists():
            write_sound(sounds / track.file_name, builtin_sound(track, 0.0, model.encoding))
        report("rendering tunes", i, len(rendered))
    build_catalogue(
        Source(sounds, rendered, []),
        planted,
        model,
        source_name=BUILTIN,
        on_track=lambda done, total: report("encoding tunes", done, total),
    )


def _assemble(benchmark: Benchmark, planted: Path, path: Path, model: Path) -> Catalogue:
    """A benchmark's catalogue, from the built-in one and the catalogue of its rendered tracks; encoded anew
    by its ``model``, trained or not, where it is not of the built-in codec's latents.
    """
    origins = {True: Catalogue(CATALOGUE), False: Catalogue(planted)}
    place = {kind: {track.track_id: i for i, track in enumerate(c.tracks)} for kind, c in origins.items()}
    chosen = []
    for each in benchmark.tracks(origins[True]):
        builtin = each.origin is not None
        origin = each.origin or each.track.track_id
        chosen.append((origins[builtin], place[builtin][origin], each.track))
    recode = benchmark.recode(model) if benchmark.recode else None
    return copy_tracks(path, chosen, {"source": BUILTIN}, recode)


def _require_known(model: Path, catalogue: Catalogue, name: str) -> None:
    """Refuses a catalogue that is not the one the benchmark's model was trained on."""
    known = training_record(model).get("catalogue")
    if known != catalogue.hash:
        raise LinernotesError(
            f"the tracks of the benchmark {name} come out differently on this machine ({catalogue.hash}, not "
            f"{known}), so its numbers are of other tracks: make it anew with 'linernotes rebuild "
            f"--benchmark {name} -o OUT', and its bank with 'linernotes bank build --model OUT/trained "
            "--catalog OUT/catalogue --prompts OUT/prompts.csv'"
        )
