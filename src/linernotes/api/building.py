"""Models and catalogues: open, build, train, render, make anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from linernotes.artefacts import read_json, write_json
from linernotes.attribution.prepare import prepare
from linernotes.attribution.vouching import require_trained_on
from linernotes.audio import AudioError, Sound, read_part
from linernotes.catalog.ingest import build_catalogue as build
from linernotes.catalog.source import Track, read_source
from linernotes.catalog.store import Catalogue
from linernotes.demo.benchmark import TRAINING as BENCHMARK_TRAINING
from linernotes.demo.bundle import (
    BENCHMARK,
    BUILTIN,
    CATALOGUE,
    MODEL,
    builtin_sound,
    open_benchmark,
    rebuild_benchmark,
    rebuild_bundle,
    render_catalogue,
)
from linernotes.errors import LinernotesError
from linernotes.methods.contract import Prepared
from linernotes.models.contract import GenerativeModel
from linernotes.models.encoding import Encoding
from linernotes.models.opening import open_model
from linernotes.models.training import open_trainable, train, write_untrained_copy
from linernotes.settings.reading import checked
from linernotes.settings.training import TrainingSettings

Progress = Callable[[str, int, int], None]


def load_model(model: str | Path = BUILTIN) -> GenerativeModel:
    """A model by the path of its folder, the built-in one, or the benchmark's.

    Raises:
        LinernotesError: no such model, another pipeline, weights missing or in pickle form.
    """
    loaded = open_model(model_folder(model))
    if str(model) in (BUILTIN, BENCHMARK):
        loaded.name = str(model)
    return loaded


def open_catalogue(catalogue: str | Path = BUILTIN) -> Catalogue:
    """A catalogue by its path, the built-in one, or the benchmark's."""
    return Catalogue(catalogue_folder(catalogue))


def model_folder(model: str | Path) -> Path:
    """Where a model lies: its path, ``builtin`` or ``benchmark``."""
    return MODEL if str(model) == BUILTIN else open_benchmark()[0] if str(model) == BENCHMARK else Path(model)


def catalogue_folder(catalogue: str | Path) -> Path:
    """Where a catalogue lies: its path, ``builtin`` or ``benchmark``."""
    return CATALOGUE if str(catalogue) == BUILTIN else open_benchmark()[1] if str(catalogue) == BENCHMARK else Path(catalogue)


def build_catalogue(
    source: str | Path,
    out: str | Path,
    model: str | Path = BUILTIN,
    strict: bool = False,
    on_progress: Progress | None = None,
) -> Catalogue:
    """Builds a catalogue from a folder of recordings as people have them (docs/own-recordings.md), encoded by ``model``.

    What cannot be used is listed, with the reason, by the catalogue's ``rejects()``; with ``strict`` it is an error.
    """
    loaded = load_model(model)
    return build(
        read_source(Path(source)), Path(out), loaded, strict,
        on_track=(lambda done, total: on_progress("reading recordings", done, total)) if on_progress else None,
    )  # fmt: skip


def train_model(
    catalogue: str | Path | Catalogue,
    out: str | Path,
    init: str | Path = BUILTIN,
    on_progress: Progress | None = None,
    **settings: Any,
) -> GenerativeModel:
    """Trains a new small model on a catalogue's training tracks, with the codec and the text encoder of ``init``.

    Args:
        settings: fields of ``TrainingSettings``: steps, batch_size, learning_rate, ...
    """
    opened = catalogue if isinstance(catalogue, Catalogue) else open_catalogue(catalogue)
    start = open_trainable(model_folder(init))
    opened.require(start.encoding, start.name)
    out = Path(out)
    require_new(out)
    template = out.with_name(out.name + ".untrained")
    chosen = checked(TrainingSettings, settings)
    shutil.rmtree(template, ignore_errors=True)
    write_untrained_copy(model_folder(init), template, chosen.seed)
    try:
        train_on(opened, template, out, chosen, on_progress)
    finally:
        shutil.rmtree(template, ignore_errors=True)
    return load_model(out)


def rebuild(out: str | Path, benchmark: bool = False, on_progress: Progress | None = None, **settings: Any) -> None:
    """Makes the built-in catalogue and model anew, from the packages' tunes to the trained weights, in the folder ``out``; or
    the benchmark's planted tracks and model. A stopped run goes on.

    Raises:
        LinernotesError: ``out`` was begun with other settings.
    """

    def train(catalogue: Catalogue, template: Path, folder: Path, chosen: TrainingSettings) -> None:
        train_on(catalogue, template, folder, chosen, on_progress)

    make = rebuild_benchmark if benchmark else rebuild_bundle
    recipe = BENCHMARK_TRAINING.model_dump() if benchmark else {}
    chosen = checked(TrainingSettings, {**recipe, **settings})
    begun, told = Path(out) / "rebuild.json", {"benchmark": benchmark, **chosen.model_dump()}
    if begun.exists() and read_json(begun, "a rebuild") != told:
        raise LinernotesError(f"{out} was begun with other settings ({begun}): give these, or another folder")
    Path(out).mkdir(parents=True, exist_ok=True)
    write_json(begun, told)
    make(Path(out), chosen, train, on_progress)


def render_builtin(out: str | Path, on_progress: Progress | None = None) -> None:
    """Writes the built-in catalogue's tracks as an audiofolder of FLAC files."""
    render_catalogue(Path(out), load_model().encoding, on_progress)


def prepared_for(model: str | Path, catalogue: str | Path, cache: str | Path | None, on_progress: Progress | None) -> Prepared:
    """A model and a catalogue, ready for any method.

    Raises:
        LinernotesError: the model says that it was trained on another catalogue.
    """
    loaded, opened = load_model(model), open_catalogue(catalogue)
    vouched = require_trained_on(model_folder(model), loaded, opened)
    prepared = prepare(loaded, opened, Path(cache) if cache else None, on_progress, model_folder(model))
    return replace(prepared, vouched=vouched)


def track_sound(catalogue: Catalogue, track: Track, start_s: float, shape: Encoding) -> Sound | None:
    """One segment of a track's sound from ``start_s`` on; None when the recording cannot be read any more."""
    source = catalogue.record["source"]
    if source == BUILTIN:
        return builtin_sound(track, start_s, shape)
    try:
        sound = read_part(Path(source) / track.file_name, start_s, shape.segment_s)
    except (AudioError, OSError):
        return None
    least = shape.frame_samples / shape.rate_hz  # one latent frame: what is shorter is not what was scored
    return sound if sound.seconds >= least else None


def train_on(catalogue: Catalogue, template: Path, out: Path, settings: TrainingSettings, on_progress: Progress | None) -> None:
    """Trains the pipeline in ``template`` on a catalogue's training segments."""
    data = catalogue.batch(catalogue.training_rows)
    train(
        template, out, data.latents_nct, data.text_nld, data.seconds_n, settings,
        (lambda done, total, loss: on_progress(f"training (loss {loss:.3f})", done, total)) if on_progress else None,
        catalogue.hash,
    )  # fmt: skip


def require_new(path: Path) -> None:
    """Refuses to write over anything."""
    if path.exists():
        raise LinernotesError(f"{path} exists already: choose another name or remove it")
