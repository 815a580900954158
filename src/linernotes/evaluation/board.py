"""Every method by every measure that a bank and its catalogue allow: what the leaderboard shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from linernotes.catalog.track import Track
from linernotes.errors import MissingError, UsageError
from linernotes.evaluation.bank.opened import OpenedBank
from linernotes.evaluation.bank.store import Bank
from linernotes.evaluation.counterfactual import Outcome, arms_of_scores, measure_outcomes
from linernotes.evaluation.further_retrains import grouped_by, read_groups, read_left_out
from linernotes.evaluation.groups import GroupScore, groups_of, measure_groups
from linernotes.evaluation.hubs import HubShare, measure_hubs
from linernotes.evaluation.lds import MeasuredLds, measure_lds, predicts
from linernotes.evaluation.planted import MeasuredPlanted, planted_of
from linernotes.settings.methods import DEFAULT_METHOD, METHOD_SETTINGS, MethodSettings

INSTRUMENT = "instrument"  # the metadata column that most explains which tracks a clip needs
LIKENESSES = [name for name, settings in METHOD_SETTINGS.items() if settings.family == "similarity"]


@dataclass(frozen=True)
class Board:
    """All that the leaderboard says."""

    lds: MeasuredLds
    prediction: MeasuredLds | None  # None for models that predict no target
    within: MeasuredLds | None  # without what the numbers of tracks of each value of a column explain
    planted: MeasuredPlanted | None  # None for a catalogue without known relations
    hubs: Mapping[str, HubShare]
    outcomes: Sequence[Outcome]  # empty while there is no leave-k-out
    groups: Mapping[str, Sequence[GroupScore]]  # by column, for those that were left out group by group
    seconds: Mapping[str, float]  # a clip, of all clips in one run
    tracks: int
    tuning: int
    pairs: int  # halves that were trained on more than once
    trained: int  # models of halves altogether


def within_of(
    bank: Bank, tracks: Sequence[Track], scores: Mapping[str, np.ndarray], asked: str | None
) -> MeasuredLds | None:
    """The LDS without what the mere number of tracks of each value of a column explains; of the instrument
    where none is ``asked`` for, and None where that has one value only, or too many for the bank.

    Raises:
        UsageError: so has the one that is asked for.
    """
    column = asked or INSTRUMENT
    try:
        inside = column, groups_of(tracks, column)
        return measure_lds(bank, scores, reference=DEFAULT_METHOD, within=inside)
    except UsageError:
        if asked:
            raise
        return None


def measure_board(
    opened: OpenedBank, chosen: Mapping[str, MethodSettings], within: str | None = None
) -> Board:
    """Measures methods, and the scores from elsewhere that a bank was opened with, in every way.

    Of the leave-k-out that lies with the bank only those retrains count that these scores ask for.

    Args:
        within: a metadata column; the LDS is measured once more without what the mere number of tracks of
            each of its values explains. The instrument if None, where the catalogue says it and it has not
            too many values for the bank.

    Raises:
        UsageError: ``within`` has one value only, or too many for the bank.
    """
    bank, tracks = opened.bank, opened.prepared.catalogue.tracks
    titles = {track.track_id: track.title for track in tracks}
    try:
        trained, arms = read_left_out(opened, [bank.path.parent])
    except MissingError:
        trained, arms = bank, []
    scores = opened.training_scores(chosen)
    return Board(
        lds=measure_lds(bank, scores, reference=DEFAULT_METHOD),
        prediction=measure_lds(bank, scores, output="prediction", reference=DEFAULT_METHOD)
        if predicts(bank)
        else None,
        within=within_of(bank, tracks, scores, within),
        planted=planted_of(opened, chosen) if opened.sources else None,
        hubs={hub.method: hub for hub in measure_hubs(bank, scores, titles)},
        outcomes=measure_outcomes(trained, arms_of_scores(bank, scores, arms), LIKENESSES),
        groups={
            column: measure_groups(read_groups(opened, column), bank, groups_of(tracks, column), scores)[0]
            for column in grouped_by(bank)
        },
        seconds={name: opened.clip_scores(name, s).seconds / len(bank.queries) for name, s in chosen.items()},
        tracks=len(bank.tracks),
        tuning=len(bank.rows("tuning")),
        pairs=sum(len(run) > 1 for run in bank.runs()),
        trained=sum(len(run) for run in bank.runs()),
    )
