"""All settings, typed, in one place: they feed the flags, a settings file, and the saved record that can be replayed."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from linernotes.errors import LinernotesError, UsageError
from linernotes.version import SCHEMA_VERSION, __version__

LayerKind = Literal["all", "self-attention", "cross-attention", "cross-attention-kv", "mlp"]


class TrainingSettings(BaseModel, frozen=True, extra="forbid"):
    """How a model is trained."""

    steps: Annotated[int, Field(gt=0, description="Optimiser steps.")] = 5000
    batch_size: Annotated[int, Field(gt=0, description="Segments in one step.")] = 64
    learning_rate: Annotated[float, Field(gt=0, description="AdamW's highest learning rate.")] = 1e-3
    weight_decay: Annotated[float, Field(ge=0, description="AdamW's weight decay.")] = 0.01
    ema: Annotated[float, Field(ge=0, lt=1, description="Decay of the moving average of the weights.")] = 0.999
    drop_condition: Annotated[float, Field(ge=0, lt=1, description="Share of segments trained without their prompt.")] = 0.1
    seed: Annotated[int, Field(ge=0, lt=2**32, description="Seed of initial weights, batches and noise.")] = 0


class UnlearningSettings(BaseModel, frozen=True, extra="forbid"):
    """How a query is unlearned."""

    step_size: Annotated[float, Field(gt=0, description="a in theta' = theta + (a/N) (F + damping)^-1 grad L(query).")] = 1e-4
    steps: Annotated[int, Field(gt=0, description="Number of such steps, each with a fresh gradient.")] = 1
    layers: Annotated[LayerKind, Field(description="Which transformer layers are unlearned.")] = "all"
    damping: Annotated[float, Field(ge=0, description="Damping, as a multiple of each layer's mean Fisher.")] = 0.1
    gradient_draws: Annotated[int, Field(gt=0, description="Draws the query's gradient is averaged over.")] = 1024
    mask_silence: Annotated[bool, Field(description="Leave silent frames out of what is unlearned.")] = True


class AttributionSettings(UnlearningSettings, frozen=True, extra="forbid"):
    """How an attribution is made."""

    draws: Annotated[int, Field(gt=0, description="Draws in the noise bank on which items are scored.")] = 16
    fisher_draws: Annotated[int, Field(gt=0, description="Draws per training segment for the Fisher.")] = 2
    seed: Annotated[int, Field(ge=0, lt=2**32, description="Seed of the noise bank and of all gradients.")] = 0
    batch_size: Annotated[int, Field(gt=0, description="Forward passes at once; does not change the result.")] = 32


def read_settings(path: Path | None, flags: dict[str, Any]) -> AttributionSettings:
    """Settings of a TOML file, or of the record in an ``attribution.json`` (a replay), with ``flags`` that are set on top.

    Raises:
        UsageError: an unknown setting or a value out of range.
        LinernotesError: the file is missing or cannot be read.
    """
    values = _from_file(path) if path else {}
    checked(AttributionSettings, values, f" in {path}")
    return checked(AttributionSettings, values | {name: value for name, value in flags.items() if value is not None})


SettingsT = TypeVar("SettingsT", bound=BaseModel)


def checked(settings: type[SettingsT], values: dict[str, Any], where: str = "") -> SettingsT:
    """``settings(**values)``, with the first mistake as one sentence; ``where`` says which file the values come from.

    Raises:
        UsageError: an unknown setting or a value out of range.
    """
    try:
        return settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        known = f"; the settings are {', '.join(settings.model_fields)}" if first["type"] == "extra_forbidden" else ""
        raise UsageError(f"setting {name} = {first.get('input')!r}{where} is refused: {first['msg'].lower()}{known}") from None


def _from_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            record = json.loads(text)
            if not isinstance(record, dict) or not isinstance(record.get("settings"), dict):
                raise LinernotesError(f"{path} is no attribution.json: give one, or a TOML file with settings")
            if record.get("schema_version") != SCHEMA_VERSION:
                raise LinernotesError(
                    f"{path} has schema version {record.get('schema_version')}, this linernotes ({__version__}) reads "
                    f"{SCHEMA_VERSION}: attribute the clip anew"
                )
            return dict(record["settings"])
        return tomllib.loads(text)
    except OSError as error:
        raise LinernotesError(f"{path} cannot be read ({error.strerror}): check the path") from None
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LinernotesError(f"{path} is not a settings file ({error}): write TOML, or give an attribution.json") from None
