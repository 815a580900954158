"""What can be asked of the worker: one model a kind, checked before it is queued."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from linernotes.errors import UsageError
from linernotes.settings.methods import DEFAULT_METHOD
from linernotes.settings.reading import settings_of

Id = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Prompt = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Period = Annotated[
    str, Field(pattern=r"^[0-9]{4}(-([0-9]{2}|Q[1-4]))?$", description="2026-11, 2026-Q4 or 2026.")
]
Method = Annotated[str, Field(max_length=40)]
MOST_METHODS = 8  # of a comparison


class Ask(BaseModel):
    """A job in words."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Generate(Ask):
    """Make a clip from a prompt, and attribute it."""

    prompt: Prompt
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    seconds: Annotated[float | None, Field(gt=0, le=600)] = None


class Attribute(Ask):
    """Attribute a clip by a method."""

    clip_id: Id
    method: Method = DEFAULT_METHOD


class Compare(Ask):
    """Attribute a clip by several methods, and say how far they agree."""

    clip_id: Id
    methods: Annotated[list[Method], Field(min_length=2, max_length=MOST_METHODS)]


class Verify(Ask):
    """Train again without the first tracks, and make the clip again."""

    attribution_id: Id
    k: Annotated[int, Field(gt=0, le=100)] = 10
    repeats: Annotated[int, Field(gt=0, le=5)] = 1


class Credit(Ask):
    """Say whose a clip is."""

    attribution_id: Id


class State(Ask):
    """Account for a period: credit what is not credited yet, sum up, sign, audit."""

    period: Period


class Audit(Ask):
    """Check a statement again."""

    statement_id: Id


class Sit(Ask):
    """Prepare the sounds of a blind test."""

    attribution_id: Id
    pairs: Annotated[int, Field(gt=0, le=20)] = 5
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class Measure(Ask):
    """Measure how well methods predict retraining, on the benchmark that comes with the package."""


KINDS: dict[str, type[Ask]] = {
    "generate": Generate,
    "attribute": Attribute,
    "compare": Compare,
    "verify": Verify,
    "credit": Credit,
    "state": State,
    "audit": Audit,
    "sit": Sit,
    "measure": Measure,
}
KIND_OF = {model: kind for kind, model in KINDS.items()}


class UnknownKindError(Exception):
    """A kind of job that this version does not know."""


def kind_of(ask: Ask) -> str:
    """The name under which a wish is queued."""
    return KIND_OF[type(ask)]


def read_ask(kind: str, asked: dict[str, Any]) -> Ask:
    """A wish as it was queued.

    Raises:
        UnknownKindError: there is no such kind.
        ValidationError: what is asked is not what this kind takes.
    """
    if kind not in KINDS:
        raise UnknownKindError(kind)
    return KINDS[kind].model_validate(asked)


def known_method(name: str) -> str:
    """A method's name.

    Raises:
        UsageError: there is none of that name.
    """
    settings_of(name)
    return name


def require_comparable(methods: list[str]) -> None:
    """Refuses too few or too many methods for a comparison.

    Raises:
        UsageError: says how many there may be.
    """
    if not 2 <= len(methods) <= MOST_METHODS:
        raise UsageError(f"a comparison takes 2 to {MOST_METHODS} methods: choose as many")
