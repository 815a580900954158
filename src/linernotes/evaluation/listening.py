"""A blind listening test: pairs of tracks, one that an attribution names and one that it does not, alike in
instrument or genre, to be told apart by ear; and what the answers say.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from linernotes.catalog.track import Track
from linernotes.errors import LinernotesError

ALIKE = ("instrument", "genre", "style")  # columns that make tracks alike, the first that a catalogue has
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Pair:
    """A named track and one that is not, by their places in the catalogue."""

    named: int
    other: int
    named_is: str  # a or b


@dataclass(frozen=True)
class Told:
    """How often the named track was told from the other one."""

    right: int
    answered: int

    @property
    def share(self) -> float:
        return self.right / self.answered if self.answered else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share, exact for a binomial (Clopper and Pearson 1934)."""
        if not self.answered:
            return 0.0, 1.0
        from scipy.stats import binomtest  # takes a second, and whoever only draws pairs needs none

        found = binomtest(self.right, self.answered).proportion_ci(CONFIDENCE, method="exact")
        return float(found.low), float(found.high)

    @property
    def sentence(self) -> str:
        """What the answers say, in words."""
        if not self.answered:
            return "Nothing was answered yet."
        low, high = self.interval
        told = f"The named track was chosen in {self.right} of {self.answered} pairs"
        span = f"{self.share:.0%} [{low:.0%}, {high:.0%}]"
        if low > 0.5:
            return f"{told}, {span}: more often than chance, which is 50 %."
        if high < 0.5:
            return f"{told}, {span}: less often than chance, which is 50 %."
        return f"{told}, {span}: that cannot be told from chance, which is 50 %."


def alike_by(tracks: Sequence[Track]) -> str:
    """The column by which the tracks of a pair are alike; empty where the catalogue has none."""
    return next((name for name in ALIKE if any(track.extra.get(name) for track in tracks)), "")


def draw_pairs(tracks: Sequence[Track], named: Sequence[int], wanted: int, seed: int) -> list[Pair]:
    """Pairs for the first named tracks, each with a training track that is not named, drawn at random among
    those alike; the same for the same seed.

    Args:
        named: places of all named tracks, first ones first.

    Raises:
        LinernotesError: no track is named, or there is none to hold it against.
    """
    if not named:
        raise LinernotesError(
            "no track of this clip is named, so there is nothing to hear: choose a clip with named tracks"
        )
    chance, column = random.Random(seed), alike_by(tracks)
    taken = set(named)
    pairs = []
    for place in named[:wanted]:
        value = tracks[place].extra.get(column, "") if column else ""
        free = [n for n, track in enumerate(tracks) if track.trained and n not in taken]
        alike = [n for n in free if not column or tracks[n].extra.get(column, "") == value]
        if not (alike or free):
            continue
        other = chance.choice(alike or free)
        taken.add(other)
        pairs.append(Pair(place, other, chance.choice("ab")))
    if not pairs:
        raise LinernotesError("every training track is named, so there is none to hold a named one against")
    chance.shuffle(pairs)
    return pairs
