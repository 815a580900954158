"""Splits: the shares of the parties to one recording or work, as tables write them -> exact fractions of 1.

Tables round: three thirds are written as 33.33. A sum that misses 100 % by no more than ``ROUNDING`` is taken
in proportion, and said so; one that misses by more is a flaw.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from linernotes.errors import LinernotesError

ROUNDING = Fraction(6, 10_000)  # 0.06 points, what CWR allows the shares of a work to miss 100 % by
NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")
LARGEST_DIGITS = 30


def read_shares(texts: Sequence[str]) -> list[Fraction | None]:
    """The shares of a whole table, as fractions of 1; None where nothing stands.

    ``50``, ``50 %``, ``50,0``, ``0.5`` and ``1/2`` are all a half: numbers are percent if any of the table
    has a percent sign or is above 1, else fractions.

    Raises:
        LinernotesError: one of them is no number, or below 0; the sentence names it.
    """
    percent = any("%" in text or ("/" not in text and (_number(text) or 0) > 1) for text in texts)
    shares: list[Fraction | None] = []
    for text in texts:
        number = _number(text)
        shares.append(number / 100 if number is not None and percent and "/" not in text else number)
    return shares


def whole_splits(shares: Sequence[Fraction | None], about: str) -> tuple[list[Fraction], str]:
    """The shares of one recording or work in one right, to exactly 1, and a sentence if they were made to.

    Args:
        shares: one a party; ``about`` names what they are of.

    Raises:
        LinernotesError: they do not sum to 100 %, or only some are given.
    """
    given = [share for share in shares if share is not None]
    if not given and len(shares) == 1:
        return [Fraction(1)], ""
    if len(given) < len(shares):
        raise LinernotesError(
            f"{about}: {len(shares) - len(given)} of {len(shares)} parties have no share: write all of "
            "them, or one row with the party 'unknown' if nobody knows the split"
        )
    total = sum(given, Fraction(0))
    if abs(total - 1) > ROUNDING:
        if total > 1:
            raise LinernotesError(
                f"{about}: the shares sum to {percent(total)}, {percent(total - 1)} too much: correct them"
            )
        raise LinernotesError(
            f"{about}: the shares sum to {percent(total)}, {percent(1 - total)} missing: correct them (is a "
            "row of it under another name?), or give what is missing to the party 'unknown'"
        )
    note = f"{about}: the shares sum to {percent(total)} and are taken in proportion" if total != 1 else ""
    return [share / total for share in given], note


def read_share(text: str) -> Fraction:
    """One share of 1: ``0.001`` or ``0.1 %``.

    Raises:
        LinernotesError: it is none, or above 1.
    """
    number = _number(text)
    share = None if number is None else number / 100 if "%" in text else number
    if share is None or share > 1:
        raise LinernotesError(f"share {text!r} is none of 0 to 1: write 0.001 or 0.1 %")
    return share


def percent(share: Fraction) -> str:
    """A share as people read it: as many digits as it needs, at most six."""
    text = f"{float(100 * share):.6f}".rstrip("0").rstrip(".")
    return f"{text} %"


def _number(text: str) -> Fraction | None:
    bare = text.replace("%", "").replace("\u00a0", "").replace(" ", "")
    if not bare:
        return None
    over, slash, under = bare.partition("/")
    parts = [part.replace(",", ".") for part in ((over, under) if slash else (over,))]
    if len(bare) > LARGEST_DIGITS or not all(NUMBER.fullmatch(part) for part in parts):
        raise LinernotesError(f"share {text!r} is no number of 0 or more: write 50, 50 %, 0.5 or 1/2")
    if slash and not Fraction(parts[1]):
        raise LinernotesError(f"share {text!r} divides by 0: write 50, 50 %, 0.5 or 1/2")
    return Fraction(parts[0]) / Fraction(parts[1]) if slash else Fraction(parts[0])
