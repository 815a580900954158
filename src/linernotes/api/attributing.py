"""Clips: generate, attribute, the demo, an attribution put to the test."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linernotes.api.workspace import Workspace
from linernotes.artefacts import held
from linernotes.attribution.generating import generate_clip
from linernotes.attribution.replay import Replay
from linernotes.attribution.result import PAGE, Attribution, record_at
from linernotes.attribution.shortlisting import require_shortlists
from linernotes.demo.opening import catalogue_folder, open_catalogue
from linernotes.demo.places import BENCHMARK, BUILTIN
from linernotes.demo.provider import load_model, model_folder, model_place
from linernotes.demo.sounds import track_sound
from linernotes.errors import UsageError
from linernotes.evaluation.bank.retraining import retrainers
from linernotes.evaluation.verification import Verification, first_tracks, generated_query, verify_clip
from linernotes.jobs.engines import executor_of
from linernotes.methods.contract import Progress
from linernotes.models.contract import GenerativeModel
from linernotes.report.verification import write_verification
from linernotes.settings.engine import EngineSettings, RetrainEngineSettings
from linernotes.settings.methods import DEFAULT_METHOD
from linernotes.settings.reading import as_flags, checked, settings_of
from linernotes.settings.training import Drawn
from linernotes.settings.verbs import DemoSettings, GenerateSettings, VerifySettings


def generate(
    prompt: str,
    out: str | Path,
    model: str | Path | GenerativeModel = BUILTIN,
    on_progress: Progress | None = None,
    **settings: Any,
) -> Path:
    """Generates a clip, and beside it the sidecar ``attribute`` reads; that very clip, if it is there
    already, is kept.

    Args:
        settings: fields of ``GenerateSettings``: ``seed``, ``seconds``.

    Raises:
        UsageError: the model cannot generate here, or not so long.
        LinernotesError: something else stands at ``out``.
    """
    asked = checked(GenerateSettings, settings)
    loaded = load_model(model) if isinstance(model, str | Path) else model
    generate_clip(loaded, prompt, Path(out), asked, on_progress)
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
    calibration: str | Path | None = None,
    engine: EngineSettings | None = None,
    drawn: Drawn | None = None,
    index: str | Path | None = None,
    exhaustive: bool = False,
    shortlist: int | None = None,
    audit: int | None = None,
    **settings: Any,
) -> list[Attribution]:
    """Attributes clips; writes for each ``attribution.json``, ``scores.parquet``,
    ``evidence.parquet`` and ``report.html``.

    Args:
        clips: generated clips with their sidecars, or any sound files, of any length;
            ``prompt`` is theirs, if anyone knows it.
        method: one of ``list_methods()``.
        calibration: what scores are worth, made by ``calibrate``; if None the benchmark's, lent to any other
            model.
        engine: what passes over the catalogue run on: threads of this process if None. The result is the
            same.
        drawn: what the model's training drew evenly: ``segments``, or ``tracks`` and a
            random place in them (stable-audio-tools, audiocraft). Decides how much a segment counts in its
            track. If None what linernotes trained says so itself, and others drew tracks.
        index: a folder that ``build_index`` made: a shortlist is scored exactly, and what it may miss is
            said. If None the built-in catalogue has the one that is shipped, for the method that it was tried
            with; any other is scored exactly throughout.
        exhaustive: the built-in catalogue, too.
        shortlist: how many tracks a shortlist has, for an answer that is quicker, or surer; as many as the
            index says if None.
        audit: how many of the other tracks are drawn at random and scored exactly, too: the more, the closer
            it is known what they did together, which shares depend on. As many as are listed, from 25 to 100,
            if None.
        settings: the method's settings: draws, layers, seed, ... (``linernotes.settings.methods``)

    Raises:
        UsageError: a shortlist is asked for, and the method takes none.
        LinernotesError: the model was trained on another catalogue, or ``out`` holds something else, or is
            being written.
    """
    checked(settings_of(method), settings, f" for {method}")  # before a model is loaded
    if (index, shortlist, audit) != (None, None, None):
        require_shortlists(method)
    with (
        executor_of(engine or EngineSettings()) as executor,
        Workspace(
            model, catalogue, cache, on_progress, executor, drawn, index, exhaustive, shortlist, audit
        ) as work,
    ):
        return work.attribute(clips, out, prompt, method, calibration, **settings)


@dataclass(frozen=True)
class Demo:
    """What a demo leaves behind."""

    clip: Path
    report: Path
    attribution: Attribution


def run_demo(out: str | Path, on_progress: Progress | None = None, **settings: Any) -> Demo:
    """The whole job on the built-in model and catalogue: generate a clip from a
    prompt, attribute it, write the report.

    Args:
        settings: fields of ``DemoSettings``: ``prompt``, ``seed``.
    """
    asked, folder = checked(DemoSettings, settings), Path(out)
    with Workspace(on_progress=on_progress) as work:
        clip = work.generate(asked.prompt, folder / "clip.flac", seed=asked.seed)
        (attribution,) = work.attribute(clip, folder)
    return Demo(clip, folder / PAGE, attribution)


def verify(
    attribution: str | Path,
    out: str | Path,
    model: str | Path = BENCHMARK,
    catalogue: str | Path = BENCHMARK,
    on_progress: Progress | None = None,
    engine: RetrainEngineSettings | None = None,
    **settings: Any,
) -> Verification:
    """Puts an attribution to the test: trains the model again without the first ``k`` tracks and without
    ``k`` random ones, ``repeats`` times each, makes the clip again from its seed, and writes
    ``out/verify.html``. A killed run goes on.

    Args:
        attribution: an ``attribution.json`` of a clip that the model generated.
        model: small enough to be trained again, by the recipe in its ``training.json``.
        engine: what trains: processes of this machine if None.
        settings: fields of ``VerifySettings``: ``k``, ``repeats``.

    Raises:
        LinernotesError: the attribution is of another model or catalogue, or of a clip that no model
            generated.
    """
    asked, path, folder = checked(VerifySettings, settings), record_at(attribution), Path(out)
    read, opened = Attribution.load(path), open_catalogue(catalogue)
    query = generated_query(path, read, load_model(model), opened)
    first = first_tracks(path, read, asked.k)
    with held(folder), retrainers(engine) as executor:
        found = verify_clip(
            model_folder=model_folder(model),
            catalogue=catalogue_folder(catalogue),
            query=query,
            first=[track.track_id for track in first],
            repeats=asked.repeats,
            folder=folder / "retrains",
            on_progress=on_progress,
            executor=executor,
        )
    tracks = {track.track_id: track for track in opened.tracks}
    words = ["linernotes", "verify", str(attribution), *as_flags(asked.model_dump())]
    words += ["--model", str(model), "--catalog", str(catalogue), "-o", str(out)]
    write_verification(
        path=folder / "verify.html",
        attribution=read,
        found=found,
        first=first,
        sounds={t.track_id: track_sound(opened, tracks[t.track_id], t.best_segment_start_s) for t in first},
        titles={name: track.title for name, track in tracks.items()},
        command=shlex.join(words),
    )
    return found


def replay(
    attribution: str | Path,
    model: str | Path | None = None,
    catalogue: str | Path | None = None,
    share: float = 1.0,
    on_progress: Progress | None = None,
) -> Replay:
    """Scores the clip of a record again, from the record alone, and says whether the scores are the same.

    Args:
        attribution: an ``attribution.json``, or its folder.
        model: where it lies now; where the record says if None.
        catalogue: the same.
        share: of the catalogue's segments that are scored again, drawn at random.

    Raises:
        LinernotesError: clip, model or catalogue has gone or is another one.
    """
    if not 0 < share <= 1:
        raise UsageError(f"a share of {share:g} of the segments cannot be scored: give one above 0, up to 1")
    path = record_at(attribution)
    read = Attribution.load(path)
    place = catalogue or read.sources.catalogue
    with Workspace(model or model_place(read), place, on_progress=on_progress, drawn=read.drawn) as work:
        return work.replay(path, share)
