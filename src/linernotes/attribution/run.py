"""From clips to attributions: score all clips together by one method, rank tracks, gather evidence, write the
files.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from linernotes.artefacts import hash_arrays, hash_json
from linernotes.attribution.base_part import adapter_part, said_of
from linernotes.attribution.evidence import evidence_of
from linernotes.attribution.query import Clip, as_set
from linernotes.attribution.result import (
    FIRST_TRACKS,
    RECORD,
    Attribution,
    QueryRecord,
    ScoreError,
    Sources,
    rank_tracks,
)
from linernotes.attribution.score_errors import score_errors, totals_of
from linernotes.attribution.shortlisting import score_clips
from linernotes.attribution.spans import Alignment, align, find_spans, save_alignments
from linernotes.attribution.tables import save_evidence, save_scores
from linernotes.attribution.verdict import Judge
from linernotes.attribution.vouching import cautions
from linernotes.catalog.gathering import noted, weigh_tracks
from linernotes.errors import UsageError
from linernotes.index.recall import Shortlist
from linernotes.methods.all import METHODS
from linernotes.methods.contract import Prepared, Query, Scores
from linernotes.models.contract import device_of
from linernotes.settings.methods import MethodSettings
from linernotes.version import __version__

ORIENTATION = "higher = removing it would hurt the query more"


@dataclass(frozen=True)
class Attributed:
    """One clip's attribution and the folder it was written to."""

    attribution: Attribution
    folder: Path


def attribute_clips(
    clips: list[Clip],
    prepared: Prepared,
    method: str,
    settings: MethodSettings,
    out: Path,
    command: Sequence[str] = (),
    judge: Judge | None = None,
) -> list[Attributed]:
    """Attributes clips and writes each one's ``attribution.json``, ``scores.parquet`` and
    ``evidence.parquet``.

    Into ``out`` for one clip, into ``out/NAME`` for several. Whatever the method computes once, and the data,
    are shared by all of them.

    Args:
        command: the words that ask for the same on the command line, without settings and output.
        judge: says what the scores are worth; None if nobody knows.
    """
    clips = grouped(clips, settings)
    names = [clip.query.name for clip in clips]
    if len(set(names)) < len(names):
        raise UsageError(
            f"two clips are named {max(names, key=names.count)!r}: rename one, since results are filed by "
            "name"
        )
    work = out / ".sweep" / _run_name(clips, prepared, method, settings)
    windows = [window for clip in clips for window in clip.windows]
    weights_cq = np.ones((1, 1)) if settings.one_set else window_shares(clips)
    scored = score_clips(method, prepared, windows, weights_cq, settings, work)
    run = _Run(prepared, method, settings, scored.scores, shlex.join(command), judge)
    done = []
    for clip, weights_q, weight_n, shortlist in zip(
        clips, weights_cq, scored.weight_cn, scored.shortlists, strict=True
    ):
        folder = out if len(clips) == 1 else out / clip.query.name
        own = _scores_of(run, weights_q, weight_n, shortlist)
        attribution = _attribution(run, clip, own)
        header = _header(run, attribution)
        save_scores(
            folder,
            own.scores_n,
            own.windows_wn if len(own.windows_wn) > 1 else [],
            prepared.catalogue,
            header,
            weight_n if shortlist else None,
            totals_of(own.errors),
            own.scores_t if attribution.gather else None,
        )
        attribution = _with_evidence(run, clip, own, attribution, folder, header)
        attribution.save(folder / RECORD)  # last: where it is, all is
        done.append(Attributed(attribution, folder))
    shutil.rmtree(work, ignore_errors=True)
    with suppress(OSError):  # another interrupted run may wait in there
        work.parent.rmdir()
    return done


@dataclass(frozen=True)
class _Run:
    """What all clips of a run have in common."""

    prepared: Prepared
    method: str
    settings: MethodSettings
    scores: Scores  # of every window of every clip
    command: str
    judge: Judge | None


@dataclass(frozen=True)
class _ClipScores:
    """One clip's scores, of all segments and of all tracks."""

    weights_q: np.ndarray  # how much each window counts
    windows_wn: np.ndarray  # of its own windows
    scores_n: np.ndarray
    scores_t: np.ndarray
    errors: list[ScoreError | None]
    weight_n: np.ndarray  # of how many tracks each segment's speaks (``Scored``)
    shortlist: Shortlist | None


def _scores_of(
    run: _Run, weights_q: np.ndarray, weight_n: np.ndarray, shortlist: Shortlist | None
) -> _ClipScores:
    prepared, gather = run.prepared, run.settings.gather
    seen_n = prepared.as_seen(np.ones(len(prepared.rows)), gather)
    plain_n, gatherer = weights_q @ run.scores.scores_qn, prepared.gatherer(gather)
    scores_t, slope_n = gatherer.of(plain_n, weight_n), gatherer.slopes(plain_n, weight_n)
    track_n = prepared.catalogue.track_n
    return _ClipScores(
        weights_q=weights_q,
        windows_wn=run.scores.scores_qn[weights_q > 0] * seen_n,
        scores_n=plain_n * seen_n,
        scores_t=scores_t,
        errors=score_errors(run.scores.deviations, weights_q, slope_n, track_n, len(scores_t)),
        weight_n=weight_n,
        shortlist=shortlist,
    )


def _header(run: _Run, attribution: Attribution) -> dict[str, str]:
    """What the tables beside a record say of themselves."""
    return {
        "orientation": ORIENTATION,
        "method": run.method,
        "model": attribution.model_hash,
        "catalogue": attribution.catalogue_hash,
        "noise": attribution.noise_hash,
        "linernotes": __version__,
        "settings": json.dumps(run.settings.model_dump()),
    }


def _with_evidence(
    run: _Run,
    clip: Clip,
    own: _ClipScores,
    attribution: Attribution,
    folder: Path,
    header: Mapping[str, str],
) -> Attribution:
    """Writes where in the first tracks their scores come from, and adds the strongest passages."""
    catalogue, scores = run.prepared.catalogue, run.scores
    place = {track.track_id: i for i, track in enumerate(catalogue.tracks)}
    first = [place[track.track_id] for track in attribution.first_trained(FIRST_TRACKS)]
    cells = [scores.cells[q] for q in np.flatnonzero(own.weights_q)] if scores.cells else []
    alignments = align(clip, run.prepared, run.settings, first, cells)
    change_t = evidence_of(attribution, run.prepared, scores, own.scores_n, own.weights_q, alignments)
    start_s = {track.track_id: track.best_segment_start_s for track in attribution.tracks}
    frame_s = catalogue.encoding.frame_samples / catalogue.encoding.rate_hz
    save_evidence(folder, change_t, start_s, frame_s, header)
    if not alignments:
        return attribution
    by_name = {catalogue.tracks[t].track_id: alignment for t, alignment in alignments.items()}
    save_alignments(folder, by_name, header)
    return with_spans(attribution, by_name)


def with_spans(attribution: Attribution, alignments: Mapping[str, Alignment]) -> Attribution:
    """The same with the strongest pairs of passages of the tracks that were aligned."""
    tracks = [
        track.model_copy(update={"spans": find_spans(alignments[track.track_id])})
        if track.track_id in alignments
        else track
        for track in attribution.tracks
    ]
    return attribution.model_copy(update={"tracks": tracks})


def grouped(clips: list[Clip], settings: MethodSettings) -> list[Clip]:
    """What gets an attribution of its own: every clip, or all of them as one set."""
    return [as_set(clips)] if settings.one_set and len(clips) > 1 else clips


def window_shares(clips: list[Clip]) -> np.ndarray:
    """How much each window counts in its clip's score ``[clips, windows of all]``: its share of the clip's
    seconds, since a clip's loss is the mean over its frames.
    """
    rows = []
    for clip in clips:
        seconds = np.array([w.seconds if other is clip else 0.0 for other in clips for w in other.windows])
        rows.append(seconds / seconds.sum())
    return np.stack(rows)


def _run_name(clips: list[Clip], prepared: Prepared, method: str, settings: MethodSettings) -> str:
    """Names all that the scores depend on, so that only the same run is ever resumed."""
    made_from = [
        prepared.folder.name,
        METHODS[method].reads(prepared, settings),
        [prepared.index.hash, prepared.listed, prepared.audited] if prepared.index else "",
        *(content_hash(clip) for clip in clips),
    ]
    return hash_json([method, settings.model_dump(), made_from])


def content_hash(clip: Clip) -> str:
    """Hash of all that scores are made from: of every window the latents, text, duration and heard frames."""
    hashes = [_window_hash(window) for window in clip.windows]
    return hashes[0] if len(hashes) == 1 else hash_json(hashes)


def _window_hash(query: Query) -> str:
    tensors = {"latents_ct": query.latents_ct, "text_ld": query.text_ld, "heard_t": query.heard_t}
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    return hash_json([query.prompt, query.seconds, hash_arrays(arrays)])


def _attribution(run: _Run, clip: Clip, own: _ClipScores) -> Attribution:
    prepared, settings, query = run.prepared, run.settings, clip.query
    model, catalogue = prepared.model, prepared.catalogue
    effects, verdict = None, None
    if run.judge:
        weight_t = weigh_tracks(own.weight_n, catalogue.track_n, len(catalogue.tracks))
        effects, verdict = run.judge.judge(clip, prepared, own.scores_t, weight_t, totals_of(own.errors))
    part = adapter_part(clip, model)
    warned = cautions(clip.members or [clip], model, catalogue, prepared.vouched)
    return Attribution(
        query=QueryRecord(
            name=query.name,
            file=clip.path.name,
            prompt=query.prompt,
            seconds=query.seconds,
            generated=clip.generated,
            content_hash=content_hash(clip),
            prompt_known=clip.prompt_known,
            windows=len(clip.windows),
        ),
        method=run.method,
        orientation=ORIENTATION,
        settings=settings.model_dump(),
        seed=settings.seed,
        model=model.name,
        model_hash=model.weights_hash,
        catalogue=catalogue.path.name,
        catalogue_hash=catalogue.hash,
        noise_hash=run.scores.draws.hash if run.scores.draws else "",
        gather=noted(catalogue, settings.gather),
        drawn=prepared.drawn,
        adapter=part,
        cautions=[*warned, *([said_of(part, model.name)] if part else [])],
        torch=torch.__version__,
        device=device_of(model).type,
        training_tracks=int(catalogue.trained_t.sum()),
        decoys=int((~catalogue.trained_t).sum()),
        segments=int((own.weight_n > 0).sum()),
        shortlist=own.shortlist,
        sources=Sources(
            clips=clip.files,
            model=str(prepared.model_folder.resolve()) if prepared.model_folder else "",
            catalogue=str(catalogue.path.resolve()),
            command=run.command,
        ),
        tracks=rank_tracks(
            scores_n=own.scores_n,
            track_n=catalogue.track_n,
            start_s_n=catalogue.start_s_n,
            tracks=catalogue.tracks,
            scores_t=own.scores_t,
            effects=effects,
            weight_n=own.weight_n,
            seconds_t=catalogue.seconds_t,
            errors=own.errors,
        ),
        verdict=verdict,
    )
