"""Where in its first tracks a clip's score comes from, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from linernotes.attribution.result import FIRST_TRACKS, Attribution
from linernotes.attribution.spans import Alignment
from linernotes.losses import frame_losses
from linernotes.methods.contract import FORWARD, Prepared, Scores
from linernotes.methods.room import in_room
from linernotes.models.weights import ChangedWeights
from linernotes.settings.methods import MethodSettings


def evidence_of(
    attribution: Attribution,
    prepared: Prepared,
    scores: Scores,
    scores_n: np.ndarray,
    weights_q: np.ndarray,
    alignments: Mapping[int, Alignment],
) -> dict[str, np.ndarray]:
    """Where in the first tracks the score comes from: the change of loss per frame of each one's best
    segment, by track.

    Of the method's own kind: only those that compare losses under two sets of weights have any. The windows
    of a clip are added up by their shares ``weights_q``. Alignments, by the tracks' places, have it already.
    """
    if not scores.changed or scores.draws is None:
        return {}
    catalogue = prepared.catalogue
    row_of = {track.track_id: n for n, track in enumerate(catalogue.tracks)}
    identifiers = [track.track_id for track in attribution.first_trained(FIRST_TRACKS)]
    rows = []
    for identifier in identifiers:
        own = np.flatnonzero(catalogue.track_n == row_of[identifier])
        rows.append(int(own[np.argmax(scores_n[own])]))
    frame_s = catalogue.encoding.frame_samples / catalogue.encoding.rate_hz
    content = np.ceil(np.round(catalogue.seconds_n[rows] / frame_s, 6)).astype(int)
    if alignments:
        change_nt = np.stack([alignments[int(catalogue.track_n[row])].rise_t[row] for row in rows])
    else:
        change_nt = changes_by_passes(prepared, scores, rows, weights_q)
    return {name: change_t[:n] for name, change_t, n in zip(identifiers, change_nt, content, strict=True)}


def changes_by_passes(
    prepared: Prepared, scores: Scores, rows: list[int], weights_q: np.ndarray
) -> np.ndarray:
    """Changes of the losses of segments' frames ``[rows, T]``, by passes under both sets of weights."""
    assert scores.draws is not None
    catalogue = prepared.catalogue
    change_nt = np.zeros((len(rows), catalogue.encoding.frames))
    size = in_room(prepared, MethodSettings(), FORWARD, begun=True).batch_size
    for q in np.flatnonzero(weights_q):
        for part, weights in scores.changed[q]:
            sets: dict[str, ChangedWeights] = {"base": {}, "changed": weights}
            losses = frame_losses(prepared.model, catalogue, part, sets, rows, size)
            change_nt += (
                weights_q[q] * (losses["changed"].double() - losses["base"].double()).sum(dim=1).numpy()
            )
    return change_nt * scores.sign / len(scores.draws)
