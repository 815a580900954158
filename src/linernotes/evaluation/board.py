"""Every method by every measure that a bank and its catalogue allow: what the leaderboard shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from linernotes.catalog.store import Catalogue
from linernotes.evaluation.bank.store import Bank
from linernotes.evaluation.counterfactual import Arm, Outcome, arms_of_scores, measure_outcomes
from linernotes.evaluation.groups import GroupScore, groups_of, measure_groups
from linernotes.evaluation.hubs import HubShare, measure_hubs
from linernotes.evaluation.lds import MeasuredLds, measure_lds
from linernotes.evaluation.planted import MeasuredPlanted
from linernotes.settings.methods import DEFAULT_METHOD, METHOD_SETTINGS

LIKENESSES = [name for name, settings in METHOD_SETTINGS.items() if settings.family == "similarity"]


@dataclass(frozen=True)
class Board:
    """All that the leaderboard says."""

    lds: MeasuredLds
    prediction: MeasuredLds
    within: MeasuredLds | None  # without what the numbers of tracks of each value of a column explain
    planted: MeasuredPlanted | None  # None for a catalogue without known relations
    hubs: Mapping[str, HubShare]
    outcomes: Sequence[Outcome]  # empty while there is no leave-k-out
    groups: Mapping[str, Sequence[GroupScore]]  # by column, for those that were left out group by group
    seconds: Mapping[str, float]  # a clip, of all clips in one run
    tracks: int
    tuning: int
    pairs: int


def measure_board(
    bank: Bank,
    catalogue: Catalogue,
    scores: Mapping[str, np.ndarray],
    within: str | None,
    planted: MeasuredPlanted | None,
    left_out: tuple[Bank, Sequence[Arm]] | None,
    groups: Mapping[str, Bank],
    seconds: Mapping[str, float],
) -> Board:
    """Measures ``scores`` (by method, ``scores_qn`` of the bank's clips over its training tracks) in every
    way.

    Args:
        within: a metadata column; the LDS is measured once more without what the mere number of tracks of
            each of its values explains.
        left_out: leave-k-out retrains and what each was for; of the arms only those count that these scores
            ask for.
        groups: by metadata column, retrains without each of its values.
        seconds: by method, what a clip took where all were scored in one run.
    """
    tracks = catalogue.tracks
    titles = {track.track_id: track.title for track in tracks}
    inside = (within, groups_of(tracks, within)) if within else None
    return Board(
        lds=measure_lds(bank, scores, reference=DEFAULT_METHOD),
        prediction=measure_lds(bank, scores, output="prediction", reference=DEFAULT_METHOD),
        within=measure_lds(bank, scores, reference=DEFAULT_METHOD, within=inside) if inside else None,
        planted=planted,
        hubs={hub.method: hub for hub in measure_hubs(bank, scores, titles)},
        outcomes=measure_outcomes(left_out[0], arms_of_scores(bank, scores, left_out[1]), LIKENESSES)
        if left_out
        else [],
        groups={
            column: measure_groups(b, bank, groups_of(tracks, column), scores)[0]
            for column, b in groups.items()
        },
        seconds=seconds,
        tracks=len(bank.tracks),
        tuning=len(bank.rows("tuning")),
        pairs=sum(len(run) > 1 for run in bank.runs()),
    )
