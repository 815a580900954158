"""Where long work runs: in this process, in several, or on a Ray cluster. None of it changes a result, so
none of it stands in a record.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field


class EngineSettings(BaseModel, frozen=True, extra="forbid"):
    """What every verb that has several workers lets you choose."""

    engine: Annotated[
        Literal["threads", "processes", "ray"],
        Field(description="What runs the work: threads of this process, processes, or a Ray cluster."),
    ] = "threads"
    address: Annotated[
        str,
        Field(description="HOST:PORT of a Ray cluster's head; RAY_ADDRESS, or this machine, if left out."),
    ] = ""
    workers: Annotated[int, Field(ge=0, description="How many; 0: one a core.")] = 0
    gpus_per_worker: Annotated[
        float, Field(ge=0, description="GPUs of each Ray worker; 0.25: four workers share one.")
    ] = 0.0


class RetrainEngineSettings(EngineSettings, frozen=True, extra="forbid"):
    """The same for retrains, each of which needs a process for itself."""

    engine: Annotated[
        Literal["processes", "ray"], Field(description="What runs the work: processes, or a Ray cluster.")
    ] = "processes"
