"""Two stages: an index says which tracks a clip can owe anything to; all segments of these are scored
exactly, on the same noise as ever, and the others get what such others score on average. A random sample of
them is scored exactly as well, and bounds what was missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from linernotes.artefacts import hash_arrays
from linernotes.attribution.indexing import unit_of, vector_settings
from linernotes.attribution.result import FIRST_TRACKS
from linernotes.errors import UsageError
from linernotes.index.recall import FIRST, Shortlist, audit, said_of_tracks
from linernotes.index.search import look_up
from linernotes.index.store import Index
from linernotes.methods.all import METHODS, score
from linernotes.methods.contract import Deviations, Prepared, Query, Scores
from linernotes.methods.readout_moments import query_moments
from linernotes.settings.methods import METHOD_SETTINGS, MethodSettings, ReadoutSettings

LEAST_AUDITED = 25  # tracks outside a shortlist: fewer bound nothing
MOST_AUDITED = 100  # unasked


@dataclass(frozen=True)
class Scored:
    """Scores of all segments for C clips, and which of them are exact.

    ``weight_cn`` says of how many tracks each one's track speaks: of itself, if it was scored because it was
    asked for; of as many of those outside a shortlist as there are for each that was audited; of none, if it
    was not scored (Horvitz and Thompson 1952).
    """

    scores: Scores  # of every window: [Q, N]
    weight_cn: np.ndarray
    shortlists: list[Shortlist | None]  # of each clip; None: everything was scored exactly


@dataclass(frozen=True)
class _Chosen:
    """The tracks of a clip that are scored exactly, by their places in the catalogue."""

    listed: np.ndarray  # decoys among them
    audited: np.ndarray
    outside: np.ndarray  # trained on, and not listed

    def weights(self, n_tracks: int) -> np.ndarray:
        weight_t = np.zeros(n_tracks)
        weight_t[self.audited] = len(self.outside) / max(1, len(self.audited))
        weight_t[self.listed] = 1.0
        return weight_t


def score_clips(
    method: str,
    prepared: Prepared,
    windows: list[Query],
    weights_cq: np.ndarray,
    settings: MethodSettings,
    folder: Path,
) -> Scored:
    """Scores all segments for windows of clips; by a shortlist if there is an index. What a clip is given
    does not depend on those beside it.

    Args:
        weights_cq: how much each window counts in a clip.
    """
    index = prepared.index
    if index is None:  # everything
        scores = score(method, prepared, windows, settings, folder)
        everything = np.ones((len(weights_cq), len(prepared.rows)))
        return Scored(scores, everything, [None] * len(weights_cq))
    require_shortlists(method)
    tracks = _Tracks.of(prepared, settings)
    chosen = _choose(index, prepared, tracks, windows, weights_cq, settings)
    weight_cn = np.stack([each.weights(tracks.count)[tracks.track_n] for each in chosen])
    union = np.flatnonzero(weight_cn.any(axis=0))
    scores = score(method, replace(prepared, only=tuple(union.tolist())), windows, settings, folder)
    expected = index.recall.expected(method, unit_of(settings), prepared.n_training)
    gather = prepared.gatherer(settings.gather)
    all_qn = np.tile(expected / gather.seen_n, (len(scores.scores_qn), 1))
    shortlists: list[Shortlist | None] = []
    for each, weights_q, weight_n in zip(chosen, weights_cq, weight_cn, strict=True):
        for q in np.flatnonzero(weights_q):
            all_qn[q, weight_n > 0] = scores.scores_qn[q, weight_n[union] > 0]
        exact_t = gather.of(weights_q @ all_qn, weight_n)
        shortlists.append(_audited(prepared, method, settings, tracks, each, expected, exact_t))
    exact_qn = (weights_cq > 0).T.astype(float) @ weight_cn > 0  # each window is of one clip
    deviations = _among(scores.deviations, union, exact_qn)
    return Scored(replace(scores, scores_qn=all_qn, deviations=deviations), weight_cn, shortlists)


@dataclass(frozen=True)
class _Tracks:
    """A catalogue's tracks and what they are made of."""

    track_n: np.ndarray
    seen_n: np.ndarray  # how often training saw each segment
    trained_t: np.ndarray  # bool

    @classmethod
    def of(cls, prepared: Prepared, settings: MethodSettings) -> _Tracks:
        catalogue = prepared.catalogue
        here_t = np.bincount(catalogue.track_n, minlength=len(catalogue.tracks)) > 0
        seen_n = prepared.as_seen(np.ones(len(catalogue)), settings.gather)
        return cls(catalogue.track_n, seen_n, catalogue.trained_t & here_t)

    @property
    def count(self) -> int:
        return len(self.trained_t)

    @property
    def segments_t(self) -> np.ndarray:
        return np.bincount(self.track_n, minlength=self.count)


def _choose(
    index: Index,
    prepared: Prepared,
    tracks: _Tracks,
    windows: list[Query],
    weights_cq: np.ndarray,
    settings: MethodSettings,
) -> list[_Chosen]:
    """What is scored exactly for each clip."""
    said_qn = said_by(index, prepared, windows)
    owned = [[w for w, share in zip(windows, weights_q, strict=False) if share] for weights_q in weights_cq]
    if settings.one_set:  # its windows have one score together
        said_qn, owned = said_qn.mean(axis=0, keepdims=True), [windows]
    trained = int(tracks.trained_t.sum())
    size, audited = listed_of(prepared, trained), audited_of(prepared, trained)
    return [
        _chosen(
            tracks, said_of_tracks(said_n * tracks.seen_n, tracks.track_n, tracks.count), size, audited, own
        )
        for said_n, own in zip(weights_cq @ said_qn, owned, strict=True)
    ]


def listed_of(prepared: Prepared, tracks: int) -> int:
    """How many of so many training tracks are listed."""
    assert prepared.index
    return min(prepared.listed or max(prepared.index.recall.size_for(tracks), FIRST_TRACKS), tracks)


def audited_of(prepared: Prepared, tracks: int) -> int:
    """How many of so many training tracks are audited, of those that are not listed: by itself as many as
    are, within bounds.
    """
    listed = listed_of(prepared, tracks)
    return min(prepared.audited or min(max(listed, LEAST_AUDITED), MOST_AUDITED), tracks - listed)


def expected_segments(prepared: Prepared, queries: int) -> int:
    """About how many segments are scored exactly for so many clips: each one's listed and audited tracks,
    taken to be as long as others, and the decoys that come along with those listed.
    """
    catalogue = prepared.catalogue
    segments_t = np.unique(catalogue.track_n[catalogue.training_rows], return_counts=True)[1]
    listed, audited = listed_of(prepared, len(segments_t)), audited_of(prepared, len(segments_t))
    each = listed * len(catalogue) / prepared.n_training + audited
    return min(len(catalogue), round(queries * each * float(segments_t.mean())))


def _among(deviations: Deviations | None, union: np.ndarray, exact_qn: np.ndarray) -> Deviations | None:
    """Deviations of the segments ``union``; each clip's of its own, and none of another's."""
    if deviations is None:
        return None
    own_qu, by_clip = exact_qn[:, union], deviations.clip_rqn
    return Deviations(deviations.items_rqn * own_qu, None if by_clip is None else by_clip * own_qu, union)


def require_shortlists(method: str) -> None:
    """Refuses a method that goes through the whole catalogue whatever is asked, and one whose scores say
    nothing of what was not scored.

    Raises:
        UsageError: names it.
    """
    if not METHODS[method].shortlists:
        raise UsageError(
            f"{method} goes through the whole catalogue whatever is asked of it, so a shortlist would save "
            "nothing: leave out --index, --shortlist and --audit"
        )
    if not takes_shortlists(method):
        raise UsageError(
            f"{method} measures likenesses, and of a likeness to what is not on a shortlist nothing is "
            "known: leave out --index, --shortlist and --audit"
        )


def takes_shortlists(method: str) -> bool:
    """Whether a method's scores can be computed of a shortlist alone, and of the others be said."""
    return METHODS[method].shortlists and METHOD_SETTINGS[method].gather == "norm"


def said_by(index: Index, prepared: Prepared, windows: Sequence[Query]) -> np.ndarray:
    """What an index says of all segments, ``[Q, N]``, up to its unit; of those that a large one puts far
    behind by their codes, as much as of the last that it looks at.
    """
    space, model = index.space, prepared.model
    own = vector_settings(ReadoutSettings(seed=int(index.record["settings"]["seed"])))
    y_qd = (
        query_moments(prepared, windows, space.strongest_bfk, own)
        if space.asks_model
        else torch.zeros(len(windows), 0)
    )
    latents_qct = torch.stack([window.latents_ct for window in windows])
    vectors = space.vectors(y_qd, latents_qct, model.encoding.codes)
    tracks = len(np.unique(prepared.catalogue.track_n[prepared.catalogue.training_rows]))
    listed = prepared.listed or index.recall.size_for(tracks)
    wanted = round(listed * prepared.n_training / tracks)  # segments, of so many tracks
    found_qn = look_up(index, vectors, wanted)
    return (vectors.length_n[:, None] * found_qn).astype(float)


def _chosen(
    tracks: _Tracks, said_t: np.ndarray, size: int, audited: int, windows: Sequence[Query]
) -> _Chosen:
    """The first tracks, until so many of them were trained on: decoys that stand among these come along. And
    an even sample of the others, the same for the same clip.
    """
    order = np.argsort(-said_t, kind="stable")
    last = int(np.searchsorted(np.cumsum(tracks.trained_t[order]), min(size, tracks.trained_t.sum())))
    listed = np.sort(order[: last + 1])
    behind_t = tracks.trained_t.copy()
    behind_t[listed] = False
    outside = np.flatnonzero(behind_t)
    seed = hash_arrays({str(i): window.latents_ct.numpy() for i, window in enumerate(windows)})
    draw = np.random.default_rng(int(seed, 16))
    return _Chosen(listed, np.sort(draw.permutation(outside)[:audited]), outside)


def _audited(
    prepared: Prepared,
    method: str,
    settings: MethodSettings,
    tracks: _Tracks,
    chosen: _Chosen,
    expected: float,
    exact_t: np.ndarray,
) -> Shortlist:
    listed = chosen.listed[tracks.trained_t[chosen.listed]]
    of_listed = exact_t[listed]
    bar = float(np.sort(of_listed)[::-1][min(FIRST, len(listed)) - 1])
    said_a, said_outside = np.full(len(chosen.audited), expected), np.full(len(chosen.outside), expected)
    found = audit(exact_t[chosen.audited], said_a, said_outside, bar)
    total = max(float(of_listed.sum()), float(np.abs(of_listed).max()) or 1.0)  # a share of nothing is none
    assert prepared.index
    recall = prepared.index.recall
    held, low, high = recall.of_chosen()
    if prepared.listed is not None:  # a length that no clips chose
        held, low, high = recall.of(round(prepared.listed * recall.tracks / tracks.trained_t.sum()))
    tried_by = "" if method == recall.method else recall.method
    if not tried_by and recall.settings != unit_of(settings):
        tried_by = f"{method} under other settings"
    if not recall.as_gathered:
        tried_by = f"{tried_by or method} with segments' scores added up, as is not done now (build anew)"
    return Shortlist(
        index_hash=prepared.index.hash,
        tracks=len(listed),
        segments=int(tracks.segments_t[listed].sum()),
        outside=len(chosen.outside),
        recall=held,
        recall_low=low,
        recall_high=high,
        tried_by=tried_by,
        tried_on=recall.tracks,
        audited=len(chosen.audited),
        above=found.above,
        above_at_most=found.above_at_most,
        outside_share=found.total / total,
        outside_low=(found.total - found.error) / total,
        outside_high=(found.total + found.error) / total,
    )
