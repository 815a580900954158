"""Figures as pages write them."""

from __future__ import annotations


def percent(share: float) -> str:
    """A share in percent, with digits enough to tell it from nothing."""
    near = 0 < abs(share) < 5e-5
    return f"{100 * share:.1g} %" if near else f"{100 * share:.2f} %"


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{round(seconds) // 60}:{round(seconds) % 60:02d}"
