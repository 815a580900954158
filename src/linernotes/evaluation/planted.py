"""Music's own truth: which relations between tracks the model learns from, by
retraining, and which of them a method sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from linernotes.catalog.store import Catalogue
from linernotes.errors import UsageError
from linernotes.evaluation.bank.opened import OpenedBank
from linernotes.evaluation.bank.scores import Source
from linernotes.evaluation.bank.store import Bank
from linernotes.evaluation.intervals import Interval, Resamples, bootstrap_mean, interval, share
from linernotes.settings.methods import MethodSettings

FIRST = 10


@dataclass(frozen=True)
class Relation:
    """One kind of relation."""

    relation: str
    pairs: int
    # rise of the source's loss without the relative, as a share of the relative's own; None: a group
    learned: Interval | None
    recall: dict[str, float]  # by method: share of the relatives among the first ten training tracks


@dataclass(frozen=True)
class MeasuredPlanted:
    """What each method sees."""

    first: int
    relations: list[Relation]
    recall: dict[str, Interval]  # by method, over all planted relatives
    # by method: how far apart two copies of one recording score, as a share of the highest score
    tie: dict[str, float]
    # by method: unrelated decoys among the first ten of all tracks, for the bank's clips
    decoys: dict[str, Interval]
    decoys_by_chance: float


def planted_of(opened: OpenedBank, chosen: Mapping[str, MethodSettings]) -> MeasuredPlanted:
    """Which of the catalogue's known relations the model learned from, and which of them each method sees.

    Raises:
        UsageError: the catalogue knows of none.
    """
    catalogue = opened.prepared.catalogue
    if not opened.sources:
        raise UsageError(f"{catalogue.path} has no planted tracks: give columns 'relation' and 'related_to'")
    of_sources = {name: opened.source_scores(name, s).scores_qt for name, s in chosen.items()}
    of_clips = {name: opened.clip_scores(name, s).scores_qt for name, s in chosen.items()}
    return measure_planted(opened.bank, catalogue, opened.sources, of_sources, of_clips)


def measure_planted(
    bank: Bank,
    catalogue: Catalogue,
    sources: Sequence[Source],
    of_sources: Mapping[str, np.ndarray],
    of_clips: Mapping[str, np.ndarray],
) -> MeasuredPlanted:
    """What methods see of the catalogue's known relations.

    Args:
        of_sources: by method, scores [sources, tracks] of the sources as queries.
        of_clips: by method, scores [queries, tracks] of the bank's clips: for decoys, and for groups (tracks
            with a relation to no track in particular) that clips of that kind were prompted for.
    """
    tracks = catalogue.tracks
    trained = np.array([track.trained for track in tracks])
    plain = ~trained & ~np.array([bool(track.extra.get("relation")) for track in tracks])
    reporting = bank.rows("reporting")
    rises, rises_drawn = _rises(bank, catalogue, sources)
    relations = []
    hits: dict[str, list[float]] = {method: [] for method in of_sources}
    for relation in dict.fromkeys(source.relation for source in sources):
        chosen = [i for i, source in enumerate(sources) if source.relation == relation]
        means = {}
        for method, scores_pt in of_sources.items():
            found = [_recall(scores_pt[i], trained, sources[i].track, [sources[i].relative]) for i in chosen]
            hits[method] += found
            means[method] = float(np.mean(found))
        relations.append(
            Relation(relation, len(chosen), _learned(rises[chosen], rises_drawn[:, chosen]), means)
        )
    for relation in dict.fromkeys(track.extra.get("relation", "") for track in tracks):
        group = [
            i
            for i, t in enumerate(tracks)
            if t.extra.get("relation") == relation and "related_to" not in t.extra
        ]
        clips = [q for q in reporting if bank.queries[q].kind == relation]
        if relation and group and clips:
            means = {
                m: float(np.mean([_recall(s[q], trained, -1, group) for q in clips]))
                for m, s in of_clips.items()
            }
            relations.append(Relation(f"{relation} group", len(clips), None, means))
    candidates = trained | plain
    decoys = {
        m: bootstrap_mean(np.array([plain[_first(s[q], candidates)].sum() for q in reporting], dtype=float))
        for m, s in of_clips.items()
    }
    doubles = [i for i, source in enumerate(sources) if trained[source.track]]
    return MeasuredPlanted(
        first=FIRST,
        relations=relations,
        recall={m: bootstrap_mean(np.array(h)) for m, h in hits.items()},
        tie={m: _tie(s[doubles], trained, [sources[i] for i in doubles]) for m, s in of_sources.items()},
        decoys=decoys,
        decoys_by_chance=FIRST * float(plain.sum() / candidates.sum()),
    )


def _first(scores_t: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The first of the tracks that are ``among``."""
    return np.argsort(-np.where(among, scores_t, -np.inf), kind="stable")[:FIRST]


def _recall(scores_t: np.ndarray, trained: np.ndarray, itself: int, relatives: Sequence[int]) -> float:
    """Share of the relatives among the first training tracks, the query's own not counted."""
    among = trained.copy()
    if itself >= 0:
        among[itself] = False
    return len(set(_first(scores_t, among).tolist()) & set(relatives)) / min(len(relatives), FIRST)


def _tie(scores_pt: np.ndarray, trained: np.ndarray, sources: Sequence[Source]) -> float:
    """How far apart two copies score, as a share of how far the first
    training track stands above the median one.
    """
    apart = [
        abs(row[s.track] - row[s.relative]) / max(float(row[trained].max() - np.median(row[trained])), 1e-30)
        for row, s in zip(scores_pt, sources, strict=True)
    ]
    return float(np.mean(apart)) if apart else float("nan")


def _rises(bank: Bank, catalogue: Catalogue, sources: Sequence[Source]) -> tuple[np.ndarray, np.ndarray]:
    """By how much each source's loss is higher in halves without its relative, over how much the relative's
    own is ``[sources]``, and with the halves drawn anew ``[resamples, sources]``; nan where the relative's
    own does not rise.
    """
    halves = bank.which("half")
    present_mn, loss_ms = bank.present_mn[halves], bank.item_loss_ms[halves].astype(np.float64)
    column = {name: i for i, name in enumerate(bank.tracks)}
    counts_bm = np.concatenate([np.ones((1, len(halves))), Resamples.draw(len(halves), 1).counts_bm])
    rises = []
    for source in sources:
        without_m = ~present_mn[:, column[catalogue.tracks[source.relative].track_id]]
        own = column.get(catalogue.tracks[source.track].track_id)
        # a duplicate's own presence would answer for it
        asked = np.ones(len(halves), dtype=bool) if own is None else ~present_mn[:, own]
        rise_b = [
            _mean(loss_ms[:, rows].mean(axis=1), counts_bm * (asked & without_m))
            - _mean(loss_ms[:, rows].mean(axis=1), counts_bm * (asked & ~without_m))
            for rows in (catalogue.track_n == source.track, catalogue.track_n == source.relative)
        ]
        rises.append(share(*rise_b))
    all_bs = np.stack(rises, axis=1) if rises else np.zeros((len(counts_bm), 0))
    return all_bs[0], all_bs[1:]


def _mean(values_m: np.ndarray, weight_bm: np.ndarray) -> np.ndarray:
    total_b = weight_bm.sum(axis=1)
    return np.where(total_b > 0, weight_bm @ values_m / np.maximum(total_b, 1), np.nan)


def _learned(rises: np.ndarray, drawn_bs: np.ndarray) -> Interval:
    """The mean over pairs, resampled together with the halves."""
    some = np.random.default_rng(1).integers(len(rises), size=drawn_bs.shape)
    known = np.take_along_axis(drawn_bs, some, axis=1)
    finite = np.isfinite(known)
    means = np.where(finite, known, 0).sum(axis=1) / np.maximum(finite.sum(axis=1), 1)
    value = float(np.nanmean(rises)) if np.isfinite(rises).any() else float("nan")
    return interval(value, np.where(finite.any(axis=1), means, np.nan))
