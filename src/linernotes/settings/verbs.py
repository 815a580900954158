"""What can be set of every verb, besides methods and training: the one place from which its flags, its checks
and the keywords of its Python function come. Imports nothing heavy.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

Metric = Literal["self-influence", "lds"]
Sampler = Literal["grid", "tpe"]
Split = Literal["reporting", "tuning"]
Output = Literal["loss", "prediction"]

ClipSeed = Annotated[int, Field(ge=0, lt=2**32, description="Another seed, another clip.")]
Within = Annotated[
    str | None,
    Field(
        description="Metadata column: leave out what the mere number of tracks of each of its values "
        "explains."
    ),
]


class VerbSettings(BaseModel, frozen=True, extra="forbid"):
    """What can be set of a verb."""


class GenerateSettings(VerbSettings, frozen=True, extra="forbid"):
    """Which clip a prompt becomes."""

    seed: ClipSeed = 0
    seconds: Annotated[float | None, Field(gt=0, description="Duration; the model's own if left out.")] = None


class DemoSettings(VerbSettings, frozen=True, extra="forbid"):
    """The clip that the demo generates."""

    prompt: Annotated[str, Field(description="What to generate.")] = (
        "a jig in G major for flute, lively, 6/8 time"
    )
    seed: ClipSeed = 7


class VerifySettings(VerbSettings, frozen=True, extra="forbid"):
    """How an attribution is put to the test."""

    k: Annotated[int, Field(gt=0, description="How many of the first tracks are left out.")] = 10
    repeats: Annotated[
        int, Field(gt=0, description="Models trained without them, and as many without random ones.")
    ] = 2


class BankSettings(VerbSettings, frozen=True, extra="forbid"):
    """Which models a retrain bank has."""

    halves: Annotated[int, Field(ge=0, description="Models trained on random halves of the tracks.")] = 64
    again: Annotated[
        int, Field(ge=0, description="How many halves are trained again with other seeds: the ceiling.")
    ] = 16
    seeds: Annotated[
        int, Field(gt=0, description="How many models each of these halves has, the first included.")
    ] = 2
    full: Annotated[int, Field(gt=0, description="Models trained on all training tracks.")] = 4
    draws: Annotated[int, Field(gt=0, description="Draws each clip's loss is measured on.")] = 64
    seed: Annotated[int, Field(ge=0, description="Seed of halves, models and draws.")] = 0


class SelfInfluenceSettings(VerbSettings, frozen=True, extra="forbid"):
    """Which training segments are taken as queries."""

    segments: Annotated[
        int,
        Field(gt=0, description="Training segments to unlearn, each of another track as far as there are."),
    ] = 20


class IndexSettings(VerbSettings, frozen=True, extra="forbid"):
    """What an index keeps of each segment, and how it is put to the test."""

    moments: Annotated[
        int,
        Field(
            ge=0,
            description="Bytes a segment for what the model learns from it; 0: none, so that a clip is "
            "looked up without the model.",
        ),
    ] = 1024
    latents: Annotated[int, Field(gt=0, description="Bytes a segment for how it sounds.")] = 256
    queries: Annotated[
        int, Field(gt=0, description="Clips that recall is measured on, scored exactly on the way.")
    ] = 16
    seed: Annotated[int, Field(ge=0, lt=2**32, description="Seed of draws and clips.")] = 0


class PlanSettings(VerbSettings, frozen=True, extra="forbid"):
    """What a plan is for."""

    queries: Annotated[int, Field(gt=0, description="Clips to attribute in one run.")] = 1


class SearchSettings(VerbSettings, frozen=True, extra="forbid"):
    """How the settings of a method are searched."""

    metric: Annotated[
        Metric, Field(description="self-influence (small is good), or lds on a bank's tuning clips.")
    ] = "self-influence"
    sampler: Annotated[Sampler, Field(description="grid: all choices; tpe: look where it is promising.")] = (
        "grid"
    )
    trials: Annotated[int | None, Field(gt=0, description="How many; all of the grid if left out.")] = None
    segments: Annotated[
        int, Field(gt=0, description="Training segments that are taken as queries (self-influence).")
    ] = 40
    candidates: Annotated[
        int, Field(gt=1, description="Segments among which they are ranked (self-influence).")
    ] = 200


class LdsSettings(VerbSettings, frozen=True, extra="forbid"):
    """Which outcomes of retraining scores must predict."""

    split: Annotated[Split, Field(description="Which clips count.")] = "reporting"
    output: Annotated[
        Output, Field(description="What retrains are asked: their loss or their prediction.")
    ] = "loss"
    within: Within = None


class CounterfactualSettings(VerbSettings, frozen=True, extra="forbid"):
    """What is left out."""

    percent: Annotated[
        float,
        Field(gt=0, le=50, description="Share of the catalogue that is left out, if methods are named."),
    ] = 2.0
    pooled: Annotated[bool, Field(description="Leave out one set of tracks for all clips at once.")] = False


class GroupsSettings(VerbSettings, frozen=True, extra="forbid"):
    """What the groups are."""

    by: Annotated[
        str,
        Field(description="Metadata column whose values are the groups: artist, album, instrument, ..."),
    ] = "album"


class RepeatabilitySettings(VerbSettings, frozen=True, extra="forbid"):
    """How often everything is drawn anew."""

    seeds: Annotated[int, Field(gt=1, description="How many times the noise is drawn anew.")] = 2


class LeaderboardSettings(VerbSettings, frozen=True, extra="forbid"):
    """What else a leaderboard shows."""

    within: Within = None


class FidelitySettings(VerbSettings, frozen=True, extra="forbid"):
    """How much of the built-in model is heard."""

    clips: Annotated[int, Field(gt=0, description="Clips to generate.")] = 96
    every: Annotated[int, Field(gt=0, description="Hear every n-th track only, to see that it runs.")] = 1


VERB_SETTINGS: dict[str, type[VerbSettings]] = {
    "demo": DemoSettings,
    "generate": GenerateSettings,
    "verify": VerifySettings,
    "plan": PlanSettings,
    "search": SearchSettings,
    "bank build": BankSettings,
    "index build": IndexSettings,
    "evaluate self-influence": SelfInfluenceSettings,
    "evaluate model": FidelitySettings,
    "evaluate lds": LdsSettings,
    "evaluate counterfactual": CounterfactualSettings,
    "evaluate groups": GroupsSettings,
    "evaluate repeatability": RepeatabilitySettings,
    "evaluate leaderboard": LeaderboardSettings,
}
