"""What can be said of a clip in one plain sentence: which tracks can be named, and why not more.

A track is named if the 90 % interval of its expected effect lies above nothing, if its score stands above
what its own noise could make of one that is 0, and if clip, model and calibration are such that effects mean
what they say. Each named track is wrong with a probability of at most
5 %, so of all tracks named in a statement, over however many clips, at most 5 % are expected to be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from linernotes.attribution.effects import Calibration, Effects, effects_of
from linernotes.attribution.fitness import (
    GAP,
    STRANGER,
    Fitness,
    clip_loss,
    fitness_of,
    likely_own,
    loss_draws,
)
from linernotes.attribution.query import Clip
from linernotes.attribution.result import Effect, Verdict
from linernotes.methods.contract import Prepared

SURE = float(ndtri(0.95))  # standard errors that a named track's score stands above 0
ASKED_TRACKS = 1000  # how many of the first get an interval, more if more are named
UNLEARNED = 1.25  # times the loss of the model that was calibrated: one that has not learned its tracks


@dataclass(frozen=True)
class Judge:
    """A calibration, and whether it is of another model."""

    calibration: Calibration
    lent: bool

    def judge(
        self,
        clip: Clip,
        prepared: Prepared,
        scores_t: np.ndarray,
        weight_t: np.ndarray | None = None,
        error_t: np.ndarray | None = None,
    ) -> tuple[dict[int, Effect], Verdict]:
        """The effects on a clip of the training tracks that come first, and of all that are named, by their
        places among the catalogue's tracks; and what can be said of the clip.

        Args:
            scores_t: of all tracks of the catalogue.
            weight_t: of how many tracks each one speaks; of none if it was not scored, and then it cannot be
                named. Of itself if None.
            error_t: the scores' standard errors, nan where they are not known: a score that its own noise may
                have carried above 0 names no track, whatever it is worth on the whole.
        """
        model, catalogue = prepared.model, prepared.catalogue
        draws = loss_draws(model, 0)
        seconds = np.array([window.seconds for window in clip.windows])
        losses = [clip_loss(model, window, draws) for window in clip.windows]
        loss = float(np.average(losses, weights=seconds))
        trained = np.flatnonzero(catalogue.trained_t)
        squares_t = np.bincount(catalogue.track_n, prepared.weights_n**2, len(catalogue.tracks))[trained]
        found = effects_of(
            self.calibration, scores_t[trained], squares_t, loss, prepared.n_training, ASKED_TRACKS
        )
        fitness = fitness_of(prepared)
        own = None if clip.made_here else likely_own(model, clip.windows[0], loss, draws)
        why = why_none(self.calibration, fitness, prepared.vouched, own)
        weight_t = np.ones(len(trained)) if weight_t is None else weight_t[trained]
        error_t = np.full(len(scores_t), np.nan) if error_t is None else error_t
        noise = scores_t[trained] <= SURE * error_t[trained]
        named = (found.low_t > 0) & (not why) & (weight_t > 0) & ~noise
        effects = {
            int(t): Effect(expected=float(e), low=float(low), high=float(high), named=bool(is_named))
            for t, e, low, high, is_named in zip(
                trained, found.expected_t, found.low_t, found.high_t, named, strict=True
            )
            if low == low
        }
        first = int(trained[first_named(found, named)])
        title = catalogue.tracks[first].title or catalogue.tracks[first].track_id
        total, total_error = whole(np.maximum(found.expected_t, 0), weight_t)
        verdict = Verdict(
            sentence=sentence(why, found, named, (total, total_error), title, self.lent),
            named=int(named.sum()),
            total=total,
            total_error=total_error,
            expected_false=float(found.doubt_t[named].sum()),
            reasons=why,
            loss=loss,
            fitness=fitness.loss,
            own=own,
            random_track=self.calibration.whole / len(trained),
            retrain_sd=self.calibration.retrain_sd,
            lent=self.lent,
            calibration=(
                f"{self.calibration.models} models of {self.calibration.model} retrained on halves of its "
                f"{self.calibration.tracks} tracks, {self.calibration.clips} clips"
            ),
            calibration_hash=self.calibration.hash,
            unknown="mixed",
        )
        return effects, verdict


def whole(effect_t: np.ndarray, weight_t: np.ndarray) -> tuple[float, float]:
    """The effects of all tracks together, and half of its 95 % interval, from those that were scored exactly:
    of an even sample of the others (Horvitz and Thompson 1952), with Student's t.

    Args:
        weight_t: of how many tracks each one speaks; more than of itself if it is of the sample.
    """
    sample = weight_t > 1
    count, outside = int(sample.sum()), float(weight_t[sample].sum())
    total = float(weight_t @ effect_t)
    if count < 2:  # one is audited alone only where it is the only one
        return total, 0.0
    error = outside * np.sqrt(1 - count / outside) * effect_t[sample].std(ddof=1) / np.sqrt(count)
    return total, float(stdtrit(count - 1, 0.975) * error)


def why_none(calibration: Calibration, fitness: Fitness, vouched: bool, own: float | None) -> list[str]:
    """Why no track may be named whatever the scores are, one sentence each; empty if tracks may be."""
    why = []
    if own is not None and own < STRANGER:
        why.append(
            "The model did not make this clip: it fits the model worse than clips do that the model makes of "
            f"the same prompt (p = {own:.2g})."
        )
    if fitness.loss and calibration.fitness and fitness.loss > UNLEARNED * calibration.fitness:
        why.append(
            f"The model has not learned its tracks well enough: its loss of them is {fitness.loss:.0%} of "
            f"knowing nothing, where retraining was measured at {calibration.fitness:.0%}."
        )
    gap, error = fitness.gap, fitness.gap_error
    if not vouched and gap is not None and error is not None and gap < GAP * error:
        why.append(
            "Nothing shows that the model was trained on this catalogue: it knows its tracks no better than "
            f"the decoys ({gap:+.1%}, error {error:.1%})."
        )
    return why


def first_named(found: Effects, named: np.ndarray) -> int:
    """The place of the named track of the largest expected effect; of any, where none is named. The first of
    all may be unnamed: of how much a high score is worth least is known.
    """
    return int(np.argmax(np.where(named | ~named.any(), found.expected_t, -np.inf)))


def percent(share: float) -> str:
    """A share with one decimal, or two where it is small."""
    return f"{share:.1%}" if share >= 0.01 else f"{share:.2%}"


def sentence(
    why: list[str],
    found: Effects,
    named: np.ndarray,
    total: tuple[float, float],
    first: str,
    lent: bool,
) -> str:
    """The verdict.

    Args:
        total: the effects of all tracks together, and half of its interval.
    """
    if why:
        return "No track can be named. " + why[0]
    if not named.any():
        return (
            "No single track can be named: no track's expected effect can be told apart from that of an "
            "unrelated one."
        )
    top = first_named(found, named)
    count = int(named.sum())
    what = (
        "1 track can be named, and it carries" if count == 1 else f"{count} tracks can be named; they carry"
    )
    which = "it" if count == 1 else "the first of them"
    carried, (all_of_it, error) = float(found.expected_t[named].sum()), total
    between = ""
    if error:  # the others' were met by an audit alone
        most = carried / max(all_of_it - error, carried)
        between = f" ({carried / (all_of_it + error):.0%} to {most:.0%}, by what an audit of the others says)"
    said = (
        f"{what} {carried / all_of_it:.0%}{between} of what all tracks are expected to have done. "
        f"Without {which}, {first}, the clip's loss would be {percent(found.expected_t[top])} higher "
        f"({percent(max(found.low_t[top], 0))} to {percent(found.high_t[top])})."
    )
    return said + (" Measured on another model, and lent." if lent else "")
