"""Models and catalogues: open, build, train, render, make anew."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from linernotes.artefacts import held, read_json, write_json
from linernotes.catalog.ingest import build_catalogue as build
from linernotes.catalog.listing import list_folder
from linernotes.catalog.rights_table import find_rights, read_rights_table
from linernotes.catalog.source import read_source
from linernotes.catalog.store import Catalogue
from linernotes.credits.rights import read_rights
from linernotes.credits.versions import record_rights
from linernotes.demo.benchmarks.all import benchmark_of
from linernotes.demo.benchmarks.making import rebuild_benchmark
from linernotes.demo.bundle import rebuild_bundle, render_catalogue
from linernotes.demo.large import SEGMENTS, rebuild_large
from linernotes.demo.opening import open_catalogue
from linernotes.demo.places import BUILTIN, SHIPPED
from linernotes.demo.provider import load_model, model_folder
from linernotes.errors import LinernotesError, UsageError
from linernotes.jobs.engines import executor_of
from linernotes.methods.contract import Progress
from linernotes.models.contract import GenerativeModel
from linernotes.models.starts import open_trainable, write_start
from linernotes.models.training import train
from linernotes.settings.engine import EngineSettings
from linernotes.settings.paths import require_new
from linernotes.settings.reading import checked, parted
from linernotes.settings.training import NewModelSettings, TrainingSettings


def build_catalogue(
    source: str | Path,
    out: str | Path,
    model: str | Path = BUILTIN,
    strict: bool = False,
    on_progress: Progress | None = None,
    engine: EngineSettings | None = None,
) -> Catalogue:
    """Builds a catalogue from a folder of recordings as people have them
    (docs/own-recordings.md), encoded by ``model``, or of latents that stable-audio-tools encoded for it
    (docs/how-to/bring-your-own-model.md).

    What cannot be used is listed, with the reason, by the catalogue's ``rejects()``; with ``strict`` it is an
    error. A table of rights at the folder's top (``rights.csv``) is checked before anything is encoded, and
    kept beside the catalogue (docs/credits.md).

    Args:
        engine: what decodes and encodes: threads of this process if None. The catalogue is the same.
    """
    listed = read_source(Path(source))
    place = find_rights(Path(source), list_folder(Path(source)).names)
    table = read_rights_table(place) if place else None
    if table is not None:
        read_rights(table, listed.tracks)
    loaded = load_model(model)
    report = on_progress or (lambda what, done, total: None)
    with executor_of(engine or EngineSettings()) as executor:
        catalogue = build(
            listed,
            Path(out),
            loaded,
            strict,
            on_track=lambda done, total: report("reading recordings", done, total),
            executor=executor,
            model_folder=model_folder(model),
        )
    if table is not None:
        record_rights(read_rights(table, catalogue.tracks), catalogue.path, catalogue.hash)
    return catalogue


def train_model(
    catalogue: str | Path | Catalogue,
    out: str | Path,
    init: str | Path = BUILTIN,
    on_progress: Progress | None = None,
    **settings: Any,
) -> GenerativeModel:
    """Trains a new small model on a catalogue's training tracks, with the
    codec and the text encoder of ``init``; or an adapter to ``init``, which stays as it is.

    Args:
        settings: fields of ``NewModelSettings`` (objective, adapter, rank) and of ``TrainingSettings``
            (steps, batch_size, learning_rate, ...).
    """
    what, of_training = parted(NewModelSettings, settings)
    chosen = checked(TrainingSettings, of_training)
    opened = catalogue if isinstance(catalogue, Catalogue) else open_catalogue(catalogue)
    start = open_trainable(model_folder(init))
    opened.require(start.encoding, start.name)
    out = Path(out)
    require_new(out)
    template = out.with_name(out.name + ".untrained")
    with held(out, "trained"):
        shutil.rmtree(template, ignore_errors=True)
        try:
            name = str(init) if str(init) in SHIPPED else ""
            write_start(model_folder(init), template, what, chosen.seed, name)
            train_on(opened, template, out, chosen, on_progress)
        finally:
            shutil.rmtree(template, ignore_errors=True)
    return load_model(out)


def rebuild(
    out: str | Path,
    benchmark: str | None = None,
    on_progress: Progress | None = None,
    large: bool = False,
    segments: int | None = None,
    **settings: Any,
) -> None:
    """Makes the built-in catalogue and model anew, from the packages' tunes to the trained weights, in the
    folder ``out``; or those of a benchmark, by its name; or the large catalogue that is not shipped, and a
    model of it. A stopped run goes on.

    Args:
        segments: how many the large catalogue has to train on, at least; 100,000 if None.

    Raises:
        UsageError: no benchmark of that name, two things at once are asked for, or more segments than there
            are.
        LinernotesError: ``out`` was begun with other settings.
    """
    if benchmark and large:
        raise UsageError("--benchmark and --large are made each by itself: give one of them")
    if segments is not None and not large:
        raise UsageError("--segments says how large --large is, and that is not asked for: add --large")
    if segments is not None and segments < 1:
        raise UsageError(f"--segments {segments} leaves nothing to train on: ask for 1 at least")

    def train(catalogue: Catalogue, template: Path, folder: Path, chosen: TrainingSettings) -> None:
        train_on(catalogue, template, folder, chosen, on_progress)

    recipe = TrainingSettings()
    if benchmark:
        recipe = benchmark_of(benchmark).training
    chosen = checked(TrainingSettings, {**recipe.model_dump(), **settings})
    asked = {"benchmark": benchmark, "large": large, **chosen.recipe()}
    asked |= {} if segments in (None, SEGMENTS) else {"segments": segments}
    asked |= chosen.model_dump(include={"seed", "checkpoints"})
    begun = Path(out) / "rebuild.json"
    with held(Path(out), "made"):
        new = not begun.exists()
        if not new and read_json(begun, "a rebuild") != asked:
            raise LinernotesError(
                f"{out} was begun with other settings ({begun}): give these, or another folder"
            )
        write_json(begun, asked)
        if benchmark:
            rebuild_benchmark(Path(out), benchmark, chosen, train, on_progress)
        elif large:
            with executor_of(EngineSettings(engine="processes")) as executor:
                try:
                    rebuild_large(Path(out), chosen, train, on_progress, executor, segments or SEGMENTS)
                except UsageError:  # more than there are: nothing was begun
                    if new:
                        begun.unlink()
                        with suppress(OSError):  # somebody's own folder is not empty
                            Path(out).rmdir()
                    raise
        else:
            rebuild_bundle(Path(out), chosen, train, on_progress)


def render_builtin(out: str | Path, on_progress: Progress | None = None) -> None:
    """Writes the built-in catalogue's tracks as an audiofolder of FLAC files."""
    render_catalogue(Path(out), load_model().encoding, on_progress)


def train_on(
    catalogue: Catalogue, template: Path, out: Path, settings: TrainingSettings, on_progress: Progress | None
) -> None:
    """Trains the pipeline in ``template`` on a catalogue's training segments."""
    data = catalogue.batch(catalogue.training_rows)
    report = on_progress or (lambda what, done, total: None)
    train(
        template=template,
        folder=out,
        latents_nct=data.latents_nct,
        text_nld=data.text_nld,
        seconds_n=data.seconds_n,
        settings=settings,
        on_step=lambda done, total, loss: report(f"training (loss {loss:.3f})", done, total),
        catalogue=catalogue.hash,
        track_n=catalogue.track_n[catalogue.training_rows],
    )
