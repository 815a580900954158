"""Clips: generate, attribute, the demo, an attribution put to the test."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linernotes.api.building import (
    Progress,
    catalogue_folder,
    load_model,
    model_folder,
    open_catalogue,
    prepared_for,
    track_sound,
)
from linernotes.artefacts import held
from linernotes.attribution.query import load_clip, save_generated
from linernotes.attribution.result import Attribution
from linernotes.attribution.run import FIRST_TRACKS, Attributed, attribute_clips, finished, refuse_others
from linernotes.audio import check_writable
from linernotes.demo.bundle import BENCHMARK, BUILTIN
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.bank.retraining import BankQuery
from linernotes.evaluation.verification import Verification, verify_clip
from linernotes.methods.contract import Prepared
from linernotes.models.contract import POWERS, GeneratingModel, GenerativeModel
from linernotes.report.page import ShownTrack, write_page
from linernotes.report.verification import write_verification
from linernotes.settings.methods import DEFAULT_METHOD
from linernotes.settings.reading import checked, settings_of

SHOWN_DETAILS = {"album": "album", "caption": "caption", "licence": "licence", "isrc": "ISRC", "iswc": "ISWC"}
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
    """Generates a clip, and beside it the sidecar ``attribute`` reads. ``seconds`` is the model's length if None."""
    loaded = load_model(model) if isinstance(model, str | Path) else model
    if not isinstance(loaded, GeneratingModel):
        raise UsageError(f"{loaded.name} lacks {POWERS[GeneratingModel]}: generate where it was made, and attribute here")
    check_writable(Path(out))
    longest, least = loaded.encoding.segment_s, loaded.encoding.frame_samples / loaded.encoding.rate_hz
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
        clips: generated clips with their sidecars, or any sound files, of any length;
            ``prompt`` is theirs, if anyone knows it.
        method: one of ``list_methods()``.
        settings: the method's settings: draws, layers, seed, ... (``linernotes.settings.methods``)

    Raises:
        LinernotesError: the model was trained on another catalogue, or ``out`` holds something else, or is being written.
    """
    paths = [Path(clip) for clip in ([clips] if isinstance(clips, str | Path) else clips)]
    if not paths:
        raise UsageError("no clip was given: name at least one")
    chosen = checked(settings_of(method), settings, f" for {method}")
    prepared = prepared_for(model, catalogue, cache, on_progress)
    loaded_clips = [load_clip(path, prepared.model, prompt) for path in paths]
    folder = Path(out)
    with held(folder):
        if found := finished(loaded_clips, prepared, method, chosen, folder):
            return found
        refuse_others(loaded_clips, prepared, method, chosen, folder)
        done = attribute_clips(loaded_clips, prepared, method, chosen, folder)
        for item in done:
            _report(item, [str(path) for path in paths], prepared, model, catalogue, prompt)
    return [item.attribution for item in done]


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
        sound = track_sound(catalogue, track, place.best_segment_start_s, prepared.model.encoding)
        shown.append(ShownTrack(place, details, sound, item.evidence.change_t.get(place.track_id)))
    together = item.attribution.settings.get("together")
    words = ["linernotes", "attribute", *(clips if together else [str(item.clip.path)])]
    words += ["--model", str(model), "--catalog", str(where), *(["--prompt", prompt] if prompt else [])]
    words += ["--settings", str(item.folder / "attribution.json"), "-o", "again"]
    write_page(item.folder / "report.html", item.attribution, item.clip.sound, shown, shlex.join(words))


def verify(
    attribution: str | Path,
    out: str | Path,
    k: int = 10,
    repeats: int = 2,
    model: str | Path = BENCHMARK,
    catalogue: str | Path = BENCHMARK,
    on_progress: Progress | None = None,
) -> Verification:
    """Puts an attribution to the test: trains the model again without the first ``k`` tracks and without ``k`` random ones,
    ``repeats`` times each, makes the clip again from its seed, and writes ``out/verify.html``. A killed run goes on.

    Args:
        attribution: an ``attribution.json`` of a clip that the model generated.
        model: small enough to be trained again, by the recipe in its ``training.json``.

    Raises:
        LinernotesError: the attribution is of another model or catalogue, or of a clip that no model generated.
    """
    path = Path(attribution) / "attribution.json" if Path(attribution).is_dir() else Path(attribution)
    read = Attribution.load(path)
    loaded, opened = load_model(model), open_catalogue(catalogue)
    if read.model_hash != loaded.weights_hash:
        raise LinernotesError(f"{path} was made with the model {read.model}, not with {model}: give that one with --model")
    if read.catalogue_hash != opened.hash:
        raise LinernotesError(f"{path} was made with another catalogue than {catalogue}: give that one with --catalog")
    if read.query.generated is None:
        raise LinernotesError(f"{path} is not of one clip that the model generated, so it cannot be made again")
    first = read.first_trained(k)
    query = BankQuery(
        read.query.name, read.query.prompt, read.query.seconds, int(read.query.generated["seed"]), "clip", "reporting", True
    )
    folder, names = Path(out), [track.track_id for track in first]
    found = verify_clip(
        model_folder(model), catalogue_folder(catalogue), query, names, repeats, folder / "retrains", on_progress
    )
    tracks = {track.track_id: track for track in opened.tracks}
    sounds = {t.track_id: track_sound(opened, tracks[t.track_id], t.best_segment_start_s, loaded.encoding) for t in first}
    words = ["linernotes", "verify", str(attribution), "--k", str(k), "--repeats", str(repeats), "--model", str(model)]
    words += ["--catalog", str(catalogue), "-o", str(out)]
    titles = {name: track.title for name, track in tracks.items()}
    write_verification(folder / "verify.html", read, found, first, sounds, titles, shlex.join(words))
    return found
