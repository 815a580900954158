"""Two stages: an index says which segments a clip can owe anything to; these are scored exactly, on the same
noise as ever, and the others get what the index says of them. A random sample of the others is scored
exactly as well, and bounds what was missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from linernotes.artefacts import hash_arrays
from linernotes.attribution.indexing import vector_settings
from linernotes.errors import UsageError
from linernotes.index.recall import FIRST, Shortlist, audit
from linernotes.index.search import look_up
from linernotes.index.store import Index
from linernotes.methods.all import METHODS, score
from linernotes.methods.contract import Deviations, Prepared, Query, Scores
from linernotes.methods.readout_moments import query_moments
from linernotes.settings.methods import MethodSettings, ReadoutSettings

AUDITED = 100  # segments outside a shortlist


@dataclass(frozen=True)
class Scored:
    """Scores of all segments for C clips, and which of them are exact.

    ``weight_cn`` says of how many segments each one speaks: of itself, if it was scored because it was asked
    for; of as many of those outside a shortlist as there are for each that was audited; of none, if its score
    is what an index says (Horvitz and Thompson 1952).
    """

    scores: Scores  # of every window: [Q, N]
    weight_cn: np.ndarray
    shortlists: list[Shortlist | None]  # of each clip; None: everything was scored exactly


def score_clips(
    method: str,
    prepared: Prepared,
    windows: list[Query],
    weights_cq: np.ndarray,
    settings: MethodSettings,
    folder: Path,
) -> Scored:
    """Scores all segments for windows of clips; by a shortlist if there is an index.

    Args:
        weights_cq: how much each window counts in a clip.
    """
    clips, index = len(weights_cq), prepared.index
    if index is None:  # everything
        scores = score(method, prepared, windows, settings, folder)
        everything = np.ones((clips, len(prepared.rows)))
        return Scored(scores, everything, [None] * clips)
    require_shortlists(method)
    said_qn = said_by(index, prepared, windows)
    if settings.one_set:
        said_qn = said_qn.mean(axis=0, keepdims=True)
    said_cn = weights_cq @ said_qn
    lists = [_listed(said_n, prepared.catalogue.training_rows, index.recall.size_for()) for said_n in said_cn]
    rests = [np.setdiff1d(prepared.catalogue.training_rows, rows) for rows in lists]
    outside = [len(rest) for rest in rests]
    samples = [_sampled(rest, windows, number) for number, rest in enumerate(rests)]
    union = np.unique(np.concatenate([*lists, *samples]))
    some = replace(prepared, only=tuple(int(row) for row in union))
    scores = score(method, some, windows, settings, folder)
    unit = index.recall.slope if method == index.recall.method else 0.0
    all_qn = said_qn * unit
    weight_cn = np.zeros(said_cn.shape)
    shortlists: list[Shortlist | None] = []
    for c, (rows, sample) in enumerate(zip(lists, samples, strict=True)):
        weight_cn[c, sample] = outside[c] / max(1, len(sample))
        weight_cn[c, rows] = 1.0
        exact = np.flatnonzero(weight_cn[c])
        own = np.flatnonzero(weights_cq[c])
        all_qn[np.ix_(own, exact)] = scores.scores_qn[np.ix_(own, np.searchsorted(union, exact))]
        exact_u = weights_cq[c] @ scores.scores_qn
        shortlists.append(_audited(index, prepared, unit * said_cn[c], union, exact_u, rows, sample))
    deviations = _among(scores.deviations, union, len(prepared.catalogue))
    return Scored(replace(scores, scores_qn=all_qn, deviations=deviations), weight_cn, shortlists)


def _among(deviations: Deviations | None, union: np.ndarray, count: int) -> Deviations | None:
    """Deviations of the segments ``union`` among all; of none where a score is what an index says."""
    if deviations is None:
        return None

    def spread(some_rqu: np.ndarray) -> np.ndarray:
        all_rqn = np.zeros((*some_rqu.shape[:2], count), np.float32)
        all_rqn[:, :, union] = some_rqu
        return all_rqn

    by_clip = deviations.clip_rqn
    return Deviations(spread(deviations.items_rqn), None if by_clip is None else spread(by_clip))


def require_shortlists(method: str) -> None:
    """Refuses a method that goes through the whole catalogue whatever is asked.

    Raises:
        UsageError: names it.
    """
    if not METHODS[method].shortlists:
        raise UsageError(
            f"{method} goes through the whole catalogue whatever is asked of it, so a shortlist would save "
            "nothing: leave out --index, or give --exhaustive"
        )


def said_by(index: Index, prepared: Prepared, windows: Sequence[Query]) -> np.ndarray:
    """What an index says of all segments, ``[Q, N]``, up to its unit; nothing, 0, of those that a large one
    has only codes of and that these put far behind.
    """
    space, model = index.space, prepared.model
    own = vector_settings(ReadoutSettings(seed=int(index.record["settings"]["seed"])))
    y_qd = (
        query_moments(prepared, windows, space.strongest_bfk, own)
        if space.asks_model
        else torch.zeros(len(windows), 0)
    )
    latents_qct = torch.stack([window.latents_ct for window in windows])
    asked = space.vectors(y_qd, latents_qct, model.encoding.codes)
    found_qn = look_up(index, asked, index.recall.size_for())
    return (asked.length_n[:, None] * found_qn).astype(float)


def _listed(said_n: np.ndarray, training_rows: np.ndarray, size: int) -> np.ndarray:
    """The first segments, until so many of them were trained on: decoys that stand among these come along."""
    trained = np.zeros(len(said_n), dtype=bool)
    trained[training_rows] = True
    order = np.argsort(-said_n, kind="stable")
    last = int(np.searchsorted(np.cumsum(trained[order]), min(size, len(training_rows))))
    return np.sort(order[: last + 1])


def _sampled(outside: np.ndarray, windows: Sequence[Query], number: int) -> np.ndarray:
    """Segments to audit: the same for the same clips."""
    seed = hash_arrays({str(i): window.latents_ct.numpy() for i, window in enumerate(windows)})
    draw = np.random.default_rng([int(seed, 16), number])
    return np.sort(draw.permutation(outside)[:AUDITED])


def _audited(
    index: Index,
    prepared: Prepared,
    said_n: np.ndarray,
    union: np.ndarray,
    exact_u: np.ndarray,
    rows: np.ndarray,
    sample: np.ndarray,
) -> Shortlist:
    trained = prepared.catalogue.training_rows
    listed, outside = np.intersect1d(rows, trained), np.setdiff1d(trained, rows)
    of_listed = exact_u[np.searchsorted(union, listed)]
    bar = float(np.sort(of_listed)[::-1][min(FIRST, len(listed)) - 1])
    of_sample = exact_u[np.searchsorted(union, sample)]
    found = audit(of_sample, said_n[sample], said_n[outside], bar)
    total = max(float(of_listed.sum()), float(np.abs(of_listed).max()) or 1.0)  # a share of nothing is none
    recall, low, high = index.recall.of(len(listed))
    return Shortlist(
        index_hash=index.hash,
        listed=len(listed),
        outside=len(outside),
        recall=recall,
        recall_low=low,
        recall_high=high,
        audited=len(sample),
        above=found.above,
        above_at_most=found.above_at_most,
        outside_share=found.total / total,
        outside_low=(found.total - found.error) / total,
        outside_high=(found.total + found.error) / total,
    )
