"""How a small model or an adapter is trained, and what is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator

Drawn = Literal["segments", "tracks"]  # what a training draws evenly


class TrainingSettings(BaseModel, frozen=True, extra="forbid"):
    """How a model is trained."""

    steps: Annotated[int, Field(gt=0, description="Optimiser steps.")] = 5000
    batch_size: Annotated[int, Field(gt=0, description="Segments in one step.")] = 64
    learning_rate: Annotated[float, Field(gt=0, description="AdamW's highest learning rate.")] = 1e-3
    weight_decay: Annotated[float, Field(ge=0, description="AdamW's weight decay.")] = 0.01
    ema: Annotated[float, Field(ge=0, lt=1, description="Decay of the moving average of the weights.")] = (
        0.999
    )
    drop_condition: Annotated[
        float, Field(ge=0, lt=1, description="Share of segments trained without their prompt.")
    ] = 0.1
    checkpoints: Annotated[
        int, Field(ge=0, description="States kept on the way, evenly spaced; tracin uses them.")
    ] = 0
    seed: Annotated[int, Field(ge=0, lt=2**32, description="Seed of initial weights, batches and noise.")] = 0
    drawn: Annotated[
        Drawn,
        Field(description="What is drawn evenly: segments, or tracks and then one of a track's segments."),
    ] = "segments"

    def recipe(self) -> dict[str, Any]:
        """What trained models have in common that differ in their seeds alone. What is drawn stands there
        only where it is tracks: a recipe that was written down before it could be chosen is the same one.
        """
        said = self.model_dump(exclude={"seed", "checkpoints"})
        return said if self.drawn == "tracks" else {k: v for k, v in said.items() if k != "drawn"}


class NewModelSettings(BaseModel, frozen=True, extra="forbid"):
    """What is trained: a model anew, or an adapter to one."""

    objective: Annotated[
        Literal["v", "flow"] | None,
        Field(description="What a new model predicts, v or a flow; as the model of --init if left out."),
    ] = None
    adapter: Annotated[
        Literal["lora", "dora"] | None,
        Field(description="Train an adapter to the model of --init, which stays as it is."),
    ] = None
    rank: Annotated[int, Field(gt=0, description="Rank of an adapter's matrices.")] = 16

    @field_validator("rank")
    @classmethod
    def _is_of_an_adapter(cls, rank: int, info: ValidationInfo) -> int:
        if info.data.get("adapter") is None:
            raise ValueError("it is an adapter's: add --adapter lora or --adapter dora, or leave it out")
        return rank
