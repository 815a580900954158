"""Clips: generate, attribute, the demo, an attribution put to the test."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linernotes.api.reporting import PAGE
from linernotes.api.workspace import Workspace, generate_with
from linernotes.attribution.result import Attribution, record_at
from linernotes.demo.opening import catalogue_folder, open_catalogue
from linernotes.demo.places import BENCHMARK, BUILTIN
from linernotes.demo.provider import load_model, model_folder, track_sound
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.bank.retraining import BankQuery
from linernotes.evaluation.verification import Verification, verify_clip
from linernotes.methods.contract import Progress
from linernotes.models.contract import GenerativeModel
from linernotes.report.verification import write_verification
from linernotes.settings.methods import DEFAULT_METHOD
from linernotes.settings.reading import checked, settings_of

DEMO_PROMPT = "a jig in G major for flute, lively, 6/8 time"
DEMO_SEED = 7


def generate(
    prompt: str,
    out: str | Path,
    seed: int = 0,
    seconds: float | None = None,
    model: str | Path | GenerativeModel = BUILTIN,
    on_progress: Progress | None = None,
) -> Path:
    """Generates a clip, and beside it the sidecar ``attribute`` reads. ``seconds`` is the model's length if
    None.
    """
    loaded = load_model(model) if isinstance(model, str | Path) else model
    return generate_with(loaded, prompt, out, seed, seconds, on_progress)


def attribute(
    clips: str | Path | Sequence[str | Path],
    out: str | Path,
    model: str | Path = BUILTIN,
    catalogue: str | Path = BUILTIN,
    prompt: str | None = None,
    method: str = DEFAULT_METHOD,
    cache: str | Path | None = None,
    on_progress: Progress | None = None,
    calibration: str | Path | None = None,
    **settings: Any,
) -> list[Attribution]:
    """Attributes clips; writes for each ``attribution.json``, ``scores.parquet``, ``evidence.parquet`` and
    ``report.html``.

    Args:
        clips: generated clips with their sidecars, or any sound files, of any length;
            ``prompt`` is theirs, if anyone knows it.
        method: one of ``list_methods()``.
        calibration: what scores are worth, made by ``calibrate``; if None the benchmark's, lent to any other
            model.
        settings: the method's settings: draws, layers, seed, ... (``linernotes.settings.methods``)

    Raises:
        LinernotesError: the model was trained on another catalogue, or ``out`` holds something else, or is
            being written.
    """
    checked(settings_of(method), settings, f" for {method}")  # before a model is loaded
    with Workspace(model, catalogue, cache, on_progress) as work:
        return work.attribute(clips, out, prompt, method, calibration, **settings)


@dataclass(frozen=True)
class Demo:
    """What a demo leaves behind."""

    clip: Path
    report: Path
    attribution: Attribution


def run_demo(
    out: str | Path, prompt: str = DEMO_PROMPT, seed: int = DEMO_SEED, on_progress: Progress | None = None
) -> Demo:
    """The whole job on the built-in model and catalogue: generate a clip from a prompt, attribute it, write
    the report.
    """
    folder = Path(out)
    with Workspace(on_progress=on_progress) as work:
        clip = work.generate(prompt, folder / "clip.flac", seed)
        (attribution,) = work.attribute(clip, folder)
    return Demo(clip, folder / PAGE, attribution)


def verify(
    attribution: str | Path,
    out: str | Path,
    k: int = 10,
    repeats: int = 2,
    model: str | Path = BENCHMARK,
    catalogue: str | Path = BENCHMARK,
    on_progress: Progress | None = None,
) -> Verification:
    """Puts an attribution to the test: trains the model again without the first ``k`` tracks and without
    ``k`` random ones, ``repeats`` times each, makes the clip again from its seed, and writes
    ``out/verify.html``. A killed run goes on.

    Args:
        attribution: an ``attribution.json`` of a clip that the model generated.
        model: small enough to be trained again, by the recipe in its ``training.json``.

    Raises:
        LinernotesError: the attribution is of another model or catalogue, or of a clip that no model
            generated.
    """
    path = record_at(attribution)
    read = Attribution.load(path)
    loaded, opened = load_model(model), open_catalogue(catalogue)
    if read.model_hash != loaded.weights_hash:
        raise LinernotesError(
            f"{path} was made with the model {read.model}, not with {model}: give that one with --model"
        )
    if read.catalogue_hash != opened.hash:
        raise LinernotesError(
            f"{path} was made with another catalogue than {catalogue}: give that one with --catalog"
        )
    if read.query.generated is None:
        raise LinernotesError(
            f"{path} is not of one clip that the model generated, so it cannot be made again"
        )
    first = read.first_trained(k)
    if len(first) < min(k, read.training_tracks):
        raise UsageError(f"--k {k} is too many: {path} names the first {len(first)} training tracks")
    query = BankQuery(
        read.query.name,
        read.query.prompt,
        read.query.seconds,
        int(read.query.generated["seed"]),
        "clip",
        "reporting",
        True,
    )
    folder, names = Path(out), [track.track_id for track in first]
    found = verify_clip(
        model_folder(model),
        catalogue_folder(catalogue),
        query,
        names,
        repeats,
        folder / "retrains",
        on_progress,
    )
    tracks = {track.track_id: track for track in opened.tracks}
    sounds = {t.track_id: track_sound(opened, tracks[t.track_id], t.best_segment_start_s) for t in first}
    words = [
        "linernotes",
        "verify",
        str(attribution),
        "--k",
        str(k),
        "--repeats",
        str(repeats),
        "--model",
        str(model),
    ]
    words += ["--catalog", str(catalogue), "-o", str(out)]
    titles = {name: track.title for name, track in tracks.items()}
    write_verification(folder / "verify.html", read, found, first, sounds, titles, shlex.join(words))
    return found
