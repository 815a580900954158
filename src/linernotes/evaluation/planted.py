"""Music's own truth: which relations between tracks the model learns from, by retraining, and which of them a method sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from linernotes.catalog.store import Catalogue
from linernotes.evaluation.bank.scores import Source
from linernotes.evaluation.bank.store import Bank
from linernotes.evaluation.intervals import Interval, bootstrap_mean

FIRST = 10


@dataclass(frozen=True)
class Relation:
    """One kind of relation."""

    relation: str
    pairs: int
    learned: Interval  # rise of the source's loss in retrains without the relative, as a share of the relative's own rise
    recall: dict[str, float]  # by method: share of the relatives among the first ten training tracks


@dataclass(frozen=True)
class PlantedTable:
    """What each method sees."""

    first: int
    relations: list[Relation]
    recall: dict[str, Interval]  # by method, over all planted relatives
    tie: dict[str, float]  # by method: how far apart two copies of one recording score, as a share of the first track's score
    decoys: dict[str, Interval]  # by method: unrelated decoys among the first ten of all tracks, for the bank's clips
    decoys_by_chance: float


def measure_planted(
    bank: Bank, catalogue: Catalogue, sources: Sequence[Source], of_sources: Mapping[str, np.ndarray],
    of_clips: Mapping[str, np.ndarray],
) -> PlantedTable:  # fmt: skip
    """What methods see of the catalogue's known relations.

    Args:
        of_sources: by method, scores [sources, tracks] of the sources as queries.
        of_clips: by method, scores [queries, tracks] of the bank's clips: for what the rare group alone has, and for decoys.
    """
    trained = np.array([track.split == "train" for track in catalogue.tracks])
    related = np.array([bool(track.extra.get("relation")) for track in catalogue.tracks])
    firsts = {method: _first(scores_pt, trained) for method, scores_pt in of_sources.items()}
    rises = _rises(bank, catalogue, sources)
    relations = []
    hits: dict[str, list[float]] = {method: [] for method in of_sources}
    for relation in dict.fromkeys(source.relation for source in sources):
        chosen = [i for i, source in enumerate(sources) if source.relation == relation]
        found = {m: [_recall(first[i], sources[i].relatives) for i in chosen] for m, first in firsts.items()}
        for method, shares in found.items():
            hits[method] += shares
        means = {m: float(np.mean(shares)) for m, shares in found.items()}
        relations.append(Relation(relation, len(chosen), bootstrap_mean(rises[chosen]), means))
    rare = tuple(i for i, track in enumerate(catalogue.tracks) if track.extra.get("relation") == "rare")
    clips = [q for q, query in enumerate(bank.queries) if query.kind == "rare"]
    if rare and clips:
        means = {m: float(np.mean([_recall(f, rare) for f in _first(s[clips], trained)])) for m, s in of_clips.items()}
        relations.append(
            Relation("rare instrument", len(clips), bootstrap_mean(_group_rises(bank, catalogue, rare, clips)), means)
        )
    plain = ~trained & ~related
    candidates = trained | plain
    decoys = {m: bootstrap_mean(plain[_first(s, candidates)].sum(axis=1).astype(float)) for m, s in of_clips.items()}
    doubles = [i for i, source in enumerate(sources) if len(source.relatives) == 2]
    return PlantedTable(
        FIRST, relations, {m: bootstrap_mean(np.array(h)) for m, h in hits.items()},
        {m: _tie(s[doubles], [sources[i] for i in doubles]) for m, s in of_sources.items()},
        decoys, FIRST * float(plain.sum() / candidates.sum()),
    )  # fmt: skip


def _first(scores_qt: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The first tracks of each query, of those that are ``among``."""
    return np.argsort(-np.where(among, scores_qt, -np.inf), axis=1, kind="stable")[:, :FIRST]


def _recall(first: np.ndarray, relatives: Sequence[int]) -> float:
    return len(set(first.tolist()) & set(relatives)) / min(len(relatives), FIRST)


def _tie(scores_pt: np.ndarray, sources: Sequence[Source]) -> float:
    if not sources:
        return float("nan")
    apart = [abs(row[s.relatives[0]] - row[s.relatives[1]]) / abs(row).max() for row, s in zip(scores_pt, sources, strict=True)]
    return float(np.mean(apart))


def _rises(bank: Bank, catalogue: Catalogue, sources: Sequence[Source]) -> np.ndarray:
    """By how much each source's loss is higher in halves without its (last) relative, over how much the relative's own is."""
    halves = bank.which("half")
    present_mn, loss_ms = bank.present_mn[halves], bank.item_loss_ms[halves]
    column = {name: i for i, name in enumerate(bank.tracks)}
    rises = []
    for source in sources:
        relative = source.relatives[-1]
        without_m = ~present_mn[:, column[catalogue.tracks[relative].track_id]]
        if len(source.relatives) == 2:  # a duplicate's own presence would answer for it
            absent = ~present_mn[:, column[catalogue.tracks[source.track].track_id]]
            without_m, losses = without_m[absent], loss_ms[absent]
        else:
            losses = loss_ms
        rise = [
            float(losses[without_m][:, rows].mean() - losses[~without_m][:, rows].mean())
            for rows in (catalogue.track_n == source.track, catalogue.track_n == relative)
        ]
        rises.append(rise[0] / rise[1] if rise[1] > 0 else np.nan)
    return np.array(rises)


def _group_rises(bank: Bank, catalogue: Catalogue, group: Sequence[int], clips: Sequence[int]) -> np.ndarray:
    """Slope of each clip's loss over how many of a group are missing, times the group, as a share of the clip's loss."""
    halves = bank.which("half")
    names = {catalogue.tracks[i].track_id for i in group}
    missing_m = (~bank.present_mn[halves][:, [name in names for name in bank.tracks]]).sum(axis=1).astype(float)
    loss_mq = bank.loss_mqk[halves].mean(axis=2)[:, list(clips)]
    centred = missing_m - missing_m.mean()
    slope_q = (centred @ (loss_mq - loss_mq.mean(axis=0))) / (centred @ centred)
    return slope_q * len(group) / loss_mq.mean(axis=0)
