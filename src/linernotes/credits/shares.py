"""Shares that sum to exactly 1: whole numbers of a smallest unit, rounded by largest remainders, and the
rules by which named tracks share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Literal

PARTS = 10**9  # a whole in smallest units: a share of 1 is a thousand million parts
RESOLUTION = (
    10**12
)  # effects are compared to this part of the whole, far below a float's own rounding of them

Rule = Literal["proportion", "equal"]
RULES: dict[Rule, str] = {
    "proportion": "In proportion to the expected effects: for paying, since whoever shaped the clip more "
    "gets more.",
    "equal": "Equal among the named tracks, which together get what they get in proportion: for credits by "
    "name, and where a contract pays by the head. A recording that is cut into many tracks gets more.",
}


@dataclass(frozen=True)
class Portion:
    """A share in parts of ``PARTS``, with its 90 % interval."""

    parts: int
    low: int
    high: int


def apportion(weights: Sequence[Fraction], parts: int) -> list[int]:
    """Whole numbers in proportion to ``weights`` that sum to exactly ``parts`` (largest remainders,
    Hamilton).

    Each is within one of its exact value. Of equal remainders the earlier one gets the unit.

    Args:
        weights: 0 or more; not all 0 unless ``parts`` is.
    """
    total = sum(weights, Fraction(0))
    if not parts:
        return [0] * len(weights)
    exact = [weight * parts / total for weight in weights]
    whole = [floor(value) for value in exact]
    order = sorted(range(len(exact)), key=lambda i: (whole[i] - exact[i], i))
    for i in order[: parts - sum(whole)]:
        whole[i] += 1
    return whole


def weigh(effects: Sequence[float], whole: float, rule: Rule) -> list[Fraction]:
    """Which fraction of the whole each named recording or work gets.

    Args:
        effects: expected effects, above 0; ``whole`` is what all training tracks' come to, at least their
            sum.
    """
    weights = [Fraction(round(effect / whole * RESOLUTION), RESOLUTION) for effect in effects]
    total = sum(weights, Fraction(0))
    if total > 1:  # by the rounding above
        weights = [weight / total for weight in weights]
    if rule == "equal" and weights:
        return [sum(weights, Fraction(0)) / len(weights)] * len(weights)
    return weights


def bounds(
    lows: Sequence[float], highs: Sequence[float], whole: float, rule: Rule
) -> list[tuple[Fraction, Fraction]]:
    """The intervals of ``weigh``'s fractions, between 0 and 1, from those of the effects; the whole is taken
    as known.
    """
    low = [Fraction(max(0, round(value / whole * RESOLUTION)), RESOLUTION) for value in lows]
    high = [Fraction(max(0, round(value / whole * RESOLUTION)), RESOLUTION) for value in highs]
    if rule == "equal" and low:
        low = [sum(low, Fraction(0)) / len(low)] * len(low)
        high = [sum(high, Fraction(0)) / len(high)] * len(high)
    return [(min(a, Fraction(1)), min(b, Fraction(1))) for a, b in zip(low, high, strict=True)]


def portion(parts: int, low: Fraction, high: Fraction) -> Portion:
    """A share with its interval, rounded outwards so that the share lies inside."""
    return Portion(parts, min(parts, floor(low * PARTS)), max(parts, min(PARTS, ceil(high * PARTS))))
