"""What a benchmark is: its tracks, its model, the clips it is asked about, and how often its model is trained
again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from linernotes.catalog.store import Catalogue
from linernotes.catalog.track import Track
from linernotes.models.encoding import Encoding
from linernotes.settings.training import TrainingSettings
from linernotes.settings.verbs import BankSettings

BASE = "base"  # the model that a benchmark's own is an adapter to: a folder beside it


@dataclass(frozen=True)
class Planned:
    """One track of a benchmark: ``origin`` is the built-in track whose segments it takes; None if it is
    rendered anew.
    """

    track: Track
    origin: str | None


@dataclass(frozen=True)
class PlannedQuery:
    """One clip to be generated: what kind of prompt it has, and what it may be used for (``tuning`` or
    ``reporting``).
    """

    name: str
    prompt: str
    seed: int
    kind: str
    split: str
    heard: bool


@dataclass(frozen=True)
class Benchmark:
    """One benchmark. All of it depends on the built-in catalogue alone, so that it is the same everywhere."""

    name: str  # what --model, --catalog and --bank call it
    # (folder, seed): writes what training starts from, if it is not there
    untrained: Callable[[Path, int], None]
    training: TrainingSettings
    bank: BankSettings  # what its retrain bank has if nothing else is asked for
    # the built-in catalogue -> its tracks, training tracks first
    tracks: Callable[[Catalogue], list[Planned]]
    # its tracks -> its clips
    queries: Callable[[Sequence[Planned]], list[PlannedQuery]]
    rendered_with: str  # the benchmark whose rendered tracks it has too; its own name where it has its own
    base: str | None = None  # the benchmark whose model its own is an adapter to
    # what training starts from -> what latents become, and their encoding then; None: they stay as they are
    recode: Callable[[Path], tuple[Encoding, Callable[[Tensor], Tensor]]] | None = None
