"""What ``linernotes methods`` says of every method, from its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from linernotes.settings.methods import METHOD_SETTINGS


@dataclass(frozen=True)
class MethodInfo:
    """What ``linernotes methods`` says of one method."""

    name: str
    family: str
    summary: str
    cost: str  # once per model; per query
    paper: str
    settings: dict[str, Any]  # with their defaults


def describe_methods() -> list[MethodInfo]:
    """All attribution methods, family by family."""
    return [
        MethodInfo(name, s.family, " ".join((s.__doc__ or "").split()), s.cost, s.paper, s().model_dump())
        for name, s in METHOD_SETTINGS.items()
    ]
