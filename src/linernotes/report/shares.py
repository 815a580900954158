"""What of a clip the named tracks carry, and the remainder that nobody can be named for, as shares that sum
to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from linernotes.attribution.result import Attribution, TrackScore


@dataclass(frozen=True)
class Share:
    """One named track's share of what all training tracks are expected to have done; of a clip of an adapter,
    of the adapter's part.
    """

    number: int  # the track's place among training tracks, as on its card; 1 is first
    track: TrackScore
    share: float
    percent: str  # as shown; the percentages of a page sum to 100.0


@dataclass(frozen=True)
class Shares:
    """Named tracks, largest share first, and what is left."""

    named: list[Share]
    remainder: float
    remainder_percent: str
    base: float  # the part of the base model of an adapter
    base_percent: str
    unlisted: int  # named tracks beyond those that the record keeps: they are in the remainder

    @property
    def remainder_of_tracks(self) -> float:
        """The remainder, of what the tracks share."""
        return self.remainder / (1 - self.base) if self.base < 1 else 0.0


def shares_of(attribution: Attribution) -> Shares | None:
    """Shares of a verdict's total, or of what the named tracks come to where that is more, as in credits;
    None where scores have no calibration, or nothing is expected of any track.
    """
    verdict = attribution.verdict
    if verdict is None or verdict.total <= 0:
        return None
    trained = attribution.first_trained(len(attribution.tracks))
    named = [
        (t.effect.expected, number, t)
        for number, t in enumerate(trained, start=1)
        if t.effect and t.effect.named
    ]
    named.sort(key=lambda one: (-one[0], one[1]))
    own = attribution.adapter.share if attribution.adapter else None
    part = 1.0 if own is None else own
    whole = max(verdict.total, math.fsum(expected for expected, _, _ in named))
    shares = [part * expected / whole for expected, _, _ in named]
    remainder = max(0.0, part - math.fsum(shares))
    *percents, left, base = rounded_percents([*shares, remainder, 1 - part])
    return Shares(
        [
            Share(number, track, share, percent)
            for (_, number, track), share, percent in zip(named, shares, percents, strict=True)
        ],
        remainder,
        left,
        1 - part,
        base,
        verdict.named - len(named),
    )


def rounded_percents(shares: Sequence[float]) -> list[str]:
    """Percentages with one digit that sum to 100.0, for shares that sum to 1: the largest remainders are
    rounded up.
    """
    tenths = 1000 * np.asarray(shares, dtype=np.float64)
    whole = np.floor(tenths + 1e-9)
    missing = max(0, round(1000 - whole.sum()))
    for i in np.argsort(whole - tenths, kind="stable")[:missing]:
        whole[i] += 1
    return [f"{value / 10:.1f}" for value in whole]
