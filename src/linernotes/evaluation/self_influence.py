"""Self-influence: unlearn training segments themselves; each one's own track must come first.

A necessary test, far too weak to choose a method by (Choi et al. 2025, table 1; ../shared/evaluation.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from linernotes.attribution.query import segment_query
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError
from linernotes.methods.all import score
from linernotes.methods.contract import Prepared
from linernotes.methods.similarity import latent_statistics
from linernotes.settings.methods import MethodSettings


@dataclass(frozen=True)
class SelfRank:
    """Where a training segment's own track stands when the segment is unlearned (``rank_of``)."""

    track_id: str
    title: str
    start_s: float
    track_rank: float
    segment_rank: float


def self_influence(
    prepared: Prepared, method: str, settings: MethodSettings, segments: int, folder: Path
) -> list[SelfRank]:
    """Ranks of ``segments`` training segments, drawn by ``settings.seed`` from
    different tracks as far as there are.

    Args:
        folder: where the method keeps its chunks.

    Raises:
        LinernotesError: the catalogue has fewer training segments.
    """
    catalogue = prepared.catalogue
    rows = choose_segments(catalogue, segments, settings.seed)
    queries = [segment_query(catalogue, int(row)) for row in rows]
    scores_qn = score(method, prepared, queries, settings, folder).scores_qn
    ranks = []
    for row, scores_n in zip(rows, scores_qn, strict=True):
        own = catalogue.track_n[row]
        track_scores = prepared.gatherer(settings.gather).of(scores_n)
        track = catalogue.tracks[own]
        ranks.append(
            SelfRank(
                track_id=track.track_id,
                title=track.title,
                start_s=float(catalogue.start_s_n[row]),
                track_rank=rank_of(int(own), track_scores),
                segment_rank=rank_of(int(row), scores_n),
            )
        )
    return ranks


def rank_of(i: int, scores_n: np.ndarray) -> float:
    """The rank of the i-th score; 1 is best. Equals share the middle of their places: who scores all alike
    ranks none first.
    """
    return 1 + float((scores_n > scores_n[i]).sum()) + 0.5 * float((scores_n == scores_n[i]).sum() - 1)


def choose_segments(catalogue: Catalogue, segments: int, seed: int) -> np.ndarray:
    """Rows of training segments with sound in them, as different as can be: the
    nearest to each of ``segments`` cluster centres of their latents' statistics, one
    segment of every track first, then further ones.

    Raises:
        LinernotesError: there are fewer.
    """
    rows = catalogue.training_rows
    loud = np.median(np.maximum(catalogue.loudness_db(rows), -120), axis=1) > -50
    rows = np.random.default_rng(seed).permutation(rows[loud])
    if len(rows) < segments:
        raise LinernotesError(
            f"{catalogue.path} has {len(rows)} training segments with sound, not {segments}: ask for fewer"
        )
    _, first = np.unique(catalogue.track_n[rows], return_index=True)
    if len(first) <= segments:
        further = np.setdiff1d(np.arange(len(rows)), first)
        return rows[np.concatenate([np.sort(first), further])[:segments]]
    from sklearn.cluster import KMeans  # takes its time, and few ask for it

    one_each = rows[np.sort(first)]
    statistics_nf = latent_statistics(catalogue.latents(one_each)).numpy()
    scaled_nf = (statistics_nf - statistics_nf.mean(axis=0)) / np.maximum(statistics_nf.std(axis=0), 1e-6)
    clusters = KMeans(segments, n_init=4, random_state=seed).fit(scaled_nf)
    distance_ns = clusters.transform(scaled_nf)
    chosen: list[int] = []
    for cluster in range(segments):
        distance_ns[chosen] = np.inf
        chosen.append(int(distance_ns[:, cluster].argmin()))
    return one_each[chosen]
