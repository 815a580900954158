"""The Python API: every verb of the command line as a function. ``import linernotes`` offers these names."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from linernotes.artefacts import write_json
from linernotes.attribution.prepare import prepare
from linernotes.attribution.query import load_clip, save_generated
from linernotes.attribution.result import Attribution
from linernotes.attribution.run import FIRST_TRACKS, Attributed, attribute_clips, finished
from linernotes.audio import AudioError, Sound, check_writable, read_sound
from linernotes.catalog.ingest import build_catalogue as build
from linernotes.catalog.source import Track, read_source
from linernotes.catalog.store import Catalogue, Encoder
from linernotes.demo.bundle import BUILTIN, CATALOGUE, MODEL, builtin_sound, rebuild_bundle, render_catalogue
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation import bench as benches
from linernotes.evaluation.agreement import Agreement, measure_agreement
from linernotes.evaluation.cost import Plan
from linernotes.evaluation.cost import plan as plan_method
from linernotes.evaluation.fidelity import ModelFidelity, measure_fidelity
from linernotes.evaluation.search import Search, read_grid, search, self_influence_metric
from linernotes.evaluation.self_influence import SelfRank, segment_query
from linernotes.evaluation.self_influence import self_influence as measure_self_influence
from linernotes.methods.contract import Prepared
from linernotes.models.contract import Shape
from linernotes.models.small import write_untrained_copy
from linernotes.models.stable_audio import StableAudio
from linernotes.models.training import train
from linernotes.report.comparison import ComparedClip, write_comparison
from linernotes.report.page import ShownTrack, write_page
from linernotes.report.search import write_search
from linernotes.settings.methods import DEFAULT_METHOD, METHOD_SETTINGS, MethodInfo, describe_methods
from linernotes.settings.reading import checked, settings_of, settings_where_they_fit
from linernotes.settings.training import TrainingSettings

Progress = Callable[[str, int, int], None]

SIDE_BY_SIDE = 5  # first tracks of each method on a comparison's page
SHOWN_DETAILS = {"album": "album", "caption": "caption", "licence": "licence", "isrc": "ISRC", "iswc": "ISWC"}
DEMO_PROMPT = "a jig in G major for flute, lively, 6/8 time"
DEMO_SEED = 7


def load_model(model: str | Path = BUILTIN) -> StableAudio:
    """A model by the path of its folder, or the built-in one.

    Raises:
        LinernotesError: no such model, another pipeline, weights missing or in pickle form.
    """
    loaded = StableAudio(MODEL if str(model) == BUILTIN else Path(model))
    if str(model) == BUILTIN:
        loaded.name = BUILTIN
    return loaded


def open_catalogue(catalogue: str | Path = BUILTIN) -> Catalogue:
    """A catalogue by its path, or the built-in one."""
    return Catalogue(CATALOGUE if str(catalogue) == BUILTIN else Path(catalogue))


def build_catalogue(
    source: str | Path,
    out: str | Path,
    model: str | Path = BUILTIN,
    strict: bool = False,
    on_progress: Progress | None = None,
) -> Catalogue:
    """Builds a catalogue from an audiofolder (audio files and ``metadata.csv`` or ``.jsonl``), encoded by ``model``.

    What cannot be used is listed, with the reason, by the catalogue's ``rejects()``; with ``strict`` it is an error.
    """
    loaded = load_model(model)
    return build(
        read_source(Path(source)), Path(out), loaded, Encoder(**loaded.encoder()), strict,
        on_track=(lambda done, total: on_progress("reading recordings", done, total)) if on_progress else None,
    )  # fmt: skip


def train_model(
    catalogue: str | Path | Catalogue,
    out: str | Path,
    init: str | Path = BUILTIN,
    on_progress: Progress | None = None,
    **settings: Any,
) -> StableAudio:
    """Trains a new small model on a catalogue's training tracks, with the codec and the text encoder of ``init``.

    Args:
        settings: fields of ``TrainingSettings``: steps, batch_size, learning_rate, ...
    """
    opened = catalogue if isinstance(catalogue, Catalogue) else open_catalogue(catalogue)
    start = load_model(init)
    opened.require(start.codec_hash, start.text_hash, start.shape.frames, start.name)
    out = Path(out)
    _require_new(out)
    template = out.with_name(out.name + ".untrained")
    chosen = checked(TrainingSettings, settings)
    shutil.rmtree(template, ignore_errors=True)
    write_untrained_copy(MODEL if str(init) == BUILTIN else Path(init), template, chosen.seed)
    try:
        _train_on(opened, template, out, chosen, on_progress)
    finally:
        shutil.rmtree(template, ignore_errors=True)
    return load_model(out)


def rebuild(out: str | Path, on_progress: Progress | None = None, **settings: Any) -> None:
    """Makes the built-in catalogue and model anew, from the packages' tunes to the trained weights, in the folder ``out``."""
    rebuild_bundle(
        Path(out),
        checked(TrainingSettings, settings),
        lambda catalogue, template, folder, chosen: _train_on(catalogue, template, folder, chosen, on_progress),
        on_progress,
    )


def render_builtin(out: str | Path, on_progress: Progress | None = None) -> None:
    """Writes the built-in catalogue's tracks as an audiofolder of FLAC files."""
    render_catalogue(Path(out), load_model().shape, on_progress)


def generate(
    prompt: str,
    out: str | Path,
    seed: int = 0,
    seconds: float | None = None,
    model: str | Path | StableAudio = BUILTIN,
    on_progress: Progress | None = None,
) -> Path:
    """Generates a clip, and beside it the sidecar ``attribute`` reads. ``seconds`` is the model's length if None."""
    loaded = model if isinstance(model, StableAudio) else load_model(model)
    check_writable(Path(out))
    longest, least = loaded.shape.segment_s, loaded.shape.frame_samples / loaded.shape.rate_hz
    seconds = longest if seconds is None else seconds
    if not least <= seconds <= longest + 1e-6:
        raise UsageError(f"--seconds {seconds:g} is out of range: this model generates {least:.2f} to {longest:.2f} s")
    latents = loaded.sample(
        prompt, seconds, seed, (lambda done, total: on_progress("generating", done, total)) if on_progress else None
    )
    save_generated(Path(out), loaded, latents.cpu(), prompt, seconds, seed)
    return Path(out)


def attribute(
    clips: str | Path | Sequence[str | Path],
    out: str | Path,
    model: str | Path = BUILTIN,
    catalogue: str | Path = BUILTIN,
    prompt: str | None = None,
    method: str = DEFAULT_METHOD,
    cache: str | Path | None = None,
    on_progress: Progress | None = None,
    **settings: Any,
) -> list[Attribution]:
    """Attributes clips and writes, for each, ``attribution.json``, ``scores.parquet`` and ``report.html``.

    Args:
        clips: generated clips with their sidecars, or any sound files together with ``prompt``.
        method: one of ``list_methods()``.
        settings: the method's settings: draws, layers, seed, ... (``linernotes.settings.methods``)
    """
    paths = [Path(clip) for clip in ([clips] if isinstance(clips, str | Path) else clips)]
    if not paths:
        raise UsageError("no clip was given: name at least one")
    chosen = checked(settings_of(method), settings, f" for {method}")
    prepared = _prepared(model, catalogue, cache, on_progress)
    loaded_clips = [load_clip(path, prepared.model, prompt) for path in paths]
    done = attribute_clips(loaded_clips, prepared, method, chosen, Path(out))
    for item in done:
        _report(item, [str(path) for path in paths], prepared, model, catalogue, prompt)
    return [item.attribution for item in done]


@dataclass(frozen=True)
class Comparison:
    """What ``compare`` finds and leaves behind."""

    agreement: Agreement
    attributions: dict[str, list[Attribution]]  # by method, in the order of the clips
    page: Path


def compare(
    clips: Sequence[str | Path],
    out: str | Path,
    methods: Sequence[str] | None = None,
    model: str | Path = BUILTIN,
    catalogue: str | Path = BUILTIN,
    prompt: str | None = None,
    cache: str | Path | None = None,
    on_progress: Progress | None = None,
    **settings: Any,
) -> Comparison:
    """Attributes clips by several methods, measures how far these agree, and writes ``compare.html`` and ``agreement.json``;
    each method's attributions are in ``out/METHOD``. A killed comparison goes on at the first method that is missing.

    Args:
        methods: all that can run if None (clap needs ``clap=FOLDER``).
        settings: given to every method that has such a setting.
    """
    names = list(methods) if methods is not None else [m for m in METHOD_SETTINGS if m != "clap" or settings.get("clap")]
    if len(set(names)) < 2:
        raise UsageError("a comparison needs at least two methods: name them with --methods, or leave that out for all")
    chosen = settings_where_they_fit(names, settings)
    prepared = _prepared(model, catalogue, cache, on_progress)
    loaded = [load_clip(Path(clip), prepared.model, prompt) for clip in clips]
    if not loaded:
        raise UsageError("no clip was given: name at least one")
    done: dict[str, list[Attribution]] = {}
    for i, method in enumerate(names):
        if on_progress:
            on_progress(f"methods ({method})", i, len(names))
        folder = Path(out) / method
        found = finished(loaded, prepared, method, chosen[method], folder)
        done[method] = found or [a.attribution for a in attribute_clips(loaded, prepared, method, chosen[method], folder)]
    if on_progress:
        on_progress("methods", len(names), len(names))
    tracks = prepared.catalogue.tracks
    place = {track.track_id: i for i, track in enumerate(tracks)}
    scores = {method: np.zeros((len(loaded), len(tracks))) for method in names}
    for method, attributions in done.items():
        for q, attribution in enumerate(attributions):
            for track in attribution.tracks:
                scores[method][q, place[track.track_id]] = track.score
    decoys = np.array([track.split == "decoy" for track in tracks])
    agreement = measure_agreement(scores, [clip.query.name for clip in loaded], decoys)
    write_json(Path(out) / "agreement.json", agreement.record())
    shown = [
        ComparedClip(c.query.name, c.query.prompt, c.sound, {m: done[m][q].first_trained(SIDE_BY_SIDE) for m in names})
        for q, c in enumerate(loaded)
    ]
    named = {t.track_id: t.best_segment_start_s for clip in shown for first in clip.first.values() for t in first}
    shape = prepared.model.shape
    sounds = {n: _track_sound(prepared.catalogue, tracks[place[n]], start_s, shape) for n, start_s in named.items()}
    words = ["linernotes", "compare", *map(str, clips), "--methods", ",".join(names), "--model", str(model)]
    words += ["--catalog", str(catalogue), *(["--prompt", prompt] if prompt else [])]
    words += [w for name, value in settings.items() for w in ("--" + name.replace("_", "-"), str(value))]
    page = Path(out) / "compare.html"
    write_comparison(page, agreement, shown, sounds, shlex.join([*words, "-o", str(out)]))
    return Comparison(agreement, done, page)


def plan(
    methods: Sequence[str] | None = None,
    queries: int = 1,
    model: str | Path = BUILTIN,
    catalogue: str | Path = BUILTIN,
    on_progress: Progress | None = None,
    **settings: Any,
) -> list[Plan]:
    """What methods will cost on a model and a catalogue: forward-equivalents, seconds, memory, disk, before anything runs.

    A few seconds of each unit of work are measured, on segments of the catalogue. Start-up is not counted.
    """
    names = list(methods) if methods is not None else [m for m in METHOD_SETTINGS if m != "clap" or settings.get("clap")]
    chosen = settings_where_they_fit(names, settings)
    prepared = _prepared(model, catalogue, None, None)
    if not prepared.n_training:
        raise LinernotesError(f"{catalogue} holds no training segments, only decoys: add tracks whose split is 'train'")
    query = segment_query(prepared.catalogue, int(prepared.catalogue.training_rows[0]))
    plans = []
    for i, name in enumerate(names):
        if on_progress:
            on_progress(f"measuring ({name})", i, len(names))
        plans.append(plan_method(name, prepared, chosen[name], queries, query))
    if on_progress:
        on_progress("measuring", len(names), len(names))
    return plans


def sweep(
    out: str | Path,
    grid: Sequence[str],
    method: str = DEFAULT_METHOD,
    metric: str = "self-influence",
    sampler: str = "grid",
    trials: int | None = None,
    segments: int = 40,
    candidates: int = 200,
    model: str | Path = BUILTIN,
    catalogue: str | Path = BUILTIN,
    cache: str | Path | None = None,
    on_progress: Progress | None = None,
    **settings: Any,
) -> Search:
    """Searches a method's settings by a metric; a killed search goes on. Writes ``trials.db`` (Optuna), ``trials.parquet``,
    ``sweep.svg`` and ``best.toml``, which ``attribute --settings`` takes.

    Args:
        grid: for each setting a line such as ``"layers=mlp,all"``.
        metric: ``self-influence``: the mean rank of ``segments`` training segments' own among ``candidates``.
        sampler: ``grid`` for all choices (or ``trials`` of them), ``tpe`` to look where it is promising.
        settings: those that stay the same.
    """
    values = read_grid(method, grid)
    checked(settings_of(method), settings, f" for {method}")
    if metric != "self-influence":
        raise UsageError(f"there is no metric {metric!r}: choose self-influence")
    prepared = _prepared(model, catalogue, cache, None)
    seed = int(settings.get("seed", 0))
    measured = self_influence_metric(prepared, segments, candidates, seed)
    found = search(method, values, settings, metric, measured, sampler, trials, Path(out), on_progress)
    write_search(Path(out) / "sweep.svg", found)
    return found


def self_influence(
    model: str | Path = BUILTIN,
    catalogue: str | Path = BUILTIN,
    segments: int = 20,
    method: str = DEFAULT_METHOD,
    cache: str | Path | None = None,
    on_progress: Progress | None = None,
    **settings: Any,
) -> list[SelfRank]:
    """Takes training segments as queries; each one's own track should come first (rank 1)."""
    chosen = checked(settings_of(method), settings, f" for {method}")
    prepared = _prepared(model, catalogue, cache, on_progress)
    with tempfile.TemporaryDirectory() as folder:
        return measure_self_influence(prepared, method, chosen, segments, Path(folder))


def list_methods() -> list[MethodInfo]:
    """All attribution methods."""
    return describe_methods()


def model_fidelity(clips: int = 96, on_progress: Progress | None = None) -> ModelFidelity:
    """How good the built-in model is: what its codec keeps of decoys, and whether clips have the instrument prompted for."""
    model, catalogue = load_model(), open_catalogue()
    return measure_fidelity(model, catalogue.tracks, lambda track: builtin_sound(track, 0.0, model.shape), clips, on_progress)


def bench(only: Sequence[str] = benches.BENCHES[1:], on_progress: Progress | None = None) -> dict[str, Any]:
    """What attribution costs on this machine: ``only`` names parts of sweep, query, queries, ingest, demo, methods.

    Raises:
        UsageError: an unknown part.
    """
    if unknown := set(only) - set(benches.BENCHES):
        raise UsageError(f"there is no bench {sorted(unknown)[0]!r}: choose from {', '.join(benches.BENCHES)}")
    report = on_progress or (lambda what, done, total: None)
    figures: dict[str, Any] = {}
    for i, part in enumerate(only):
        report("benches", i, len(only))
        with tempfile.TemporaryDirectory() as folder:
            if part == "sweep":
                figures |= benches.sweep_overhead(
                    load_model(), open_catalogue(), METHOD_SETTINGS[DEFAULT_METHOD]().model_dump()["draws"]
                )
            elif part in ("query", "queries"):
                figures |= benches.query_costs(Path(folder), part == "queries", on_progress)
            elif part == "ingest":
                render_catalogue(Path(folder, "sounds"), load_model().shape, on_progress)
                figures |= benches.ingest_speed(Path(folder, "sounds"), Path(folder, "cache"))
            elif part == "methods":
                figures["methods"] = benches.method_costs(plan(draws=benches.METHOD_DRAWS), on_progress)
            else:
                figures |= benches.demo_cost()
    report("benches", len(only), len(only))
    return figures


@dataclass(frozen=True)
class Demo:
    """What a demo leaves behind."""

    clip: Path
    report: Path
    attribution: Attribution


def run_demo(out: str | Path, prompt: str = DEMO_PROMPT, seed: int = DEMO_SEED, on_progress: Progress | None = None) -> Demo:
    """The whole job on the built-in model and catalogue: generate a clip from a prompt, attribute it, write the report."""
    folder = Path(out)
    clip = generate(prompt, folder / "clip.flac", seed, on_progress=on_progress)
    (attribution,) = attribute(clip, folder, on_progress=on_progress)
    return Demo(clip, folder / "report.html", attribution)


def _train_on(
    catalogue: Catalogue, template: Path, out: Path, settings: TrainingSettings, on_progress: Progress | None
) -> None:
    data = catalogue.batch(catalogue.training_rows)
    train(
        template, out, data.latents_nct, data.text_nld, data.seconds_n, settings,
        (lambda done, total, loss: on_progress(f"training (loss {loss:.3f})", done, total)) if on_progress else None,
    )  # fmt: skip


def _prepared(model: str | Path, catalogue: str | Path, cache: str | Path | None, on_progress: Progress | None) -> Prepared:
    folder = MODEL if str(model) == BUILTIN else Path(model)
    return prepare(load_model(model), open_catalogue(catalogue), Path(cache) if cache else None, on_progress, folder)


def _report(
    item: Attributed, clips: Sequence[str], prepared: Prepared, model: str | Path, where: str | Path, prompt: str | None
) -> None:
    catalogue = prepared.catalogue
    tracks = {track.track_id: track for track in catalogue.tracks}
    shown = []
    for place in item.attribution.first_trained(FIRST_TRACKS):
        track = tracks[place.track_id]
        details = [(label, getattr(track, name)) for name, label in SHOWN_DETAILS.items() if getattr(track, name)]
        details += [(name, track.extra[name]) for name in ("transcriber",) if name in track.extra]
        sound = _track_sound(catalogue, track, place.best_segment_start_s, prepared.model.shape)
        shown.append(ShownTrack(place, details, sound, item.evidence.change_t.get(place.track_id)))
    together = item.attribution.settings.get("together")
    words = ["linernotes", "attribute", *(clips if together else [str(item.clip.path)])]
    words += ["--model", str(model), "--catalog", str(where), *(["--prompt", prompt] if prompt else [])]
    words += ["--settings", str(item.folder / "attribution.json"), "-o", "again"]
    write_page(item.folder / "report.html", item.attribution, item.clip.sound, shown, shlex.join(words))


def _track_sound(catalogue: Catalogue, track: Track, start_s: float, shape: Shape) -> Sound | None:
    """One segment of a track's sound from ``start_s`` on; None when the recording cannot be read any more."""
    source = catalogue.record["source"]
    if source == BUILTIN:
        return builtin_sound(track, start_s, shape)
    try:
        sound = read_sound(Path(source) / track.file_name)
    except (AudioError, OSError):
        return None
    first = round(start_s * sound.rate_hz)
    samples = sound.samples[:, first : first + round(shape.segment_s * sound.rate_hz)]
    return Sound(samples, sound.rate_hz) if samples.shape[1] else None


def _require_new(path: Path) -> None:
    if path.exists():
        raise LinernotesError(f"{path} exists already: choose another name or remove it")
