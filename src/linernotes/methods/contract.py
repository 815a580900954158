"""What every method is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from linernotes.catalog.gathering import ALL_COUNT, Gatherer, gatherer, seen_by, trained_of
from linernotes.catalog.store import Catalogue
from linernotes.catalog.workplace import Workplace, workplace
from linernotes.draws import EVERY_LEVEL, Batch, Draws, Levels, random_for
from linernotes.errors import UsageError
from linernotes.index.store import Index
from linernotes.jobs.executor import Executor
from linernotes.models.contract import GenerativeModel, placed_items
from linernotes.settings.methods import Gather, MethodSettings
from linernotes.settings.training import Drawn

SILENCE_DB = -60.0  # frames quieter than this are not unlearned when silence is masked

Progress = Callable[[str, int, int], None]  # what is being done, done, total


@dataclass(frozen=True)
class Query:
    """The clip in question, as the model takes it."""

    name: str
    latents_ct: Tensor
    prompt: str
    text_ld: Tensor
    seconds: float
    heard_t: Tensor  # bool: frames with content that is not silence
    place: tuple[float, float] | None = None  # of a segment: where it begins in a track, how long that is

    def items(self, model: GenerativeModel, copies: int = 1) -> Batch:
        """The clip as the model takes it, so many times over."""
        place = self.place and (torch.tensor([self.place[0]]), torch.tensor([self.place[1]]))
        one = placed_items(
            model, self.latents_ct[None], self.text_ld[None], torch.tensor([self.seconds]), place
        )
        return one.repeat(copies)


@dataclass(frozen=True)
class Prepared:
    """A model and a catalogue, and the folder where a method keeps what it computes once for all queries."""

    model: GenerativeModel
    catalogue: Catalogue
    folder: Path
    on_progress: Progress | None = None
    model_folder: Path | None = None  # where the model lies: some methods look for what its training kept
    vouched: bool = False  # whether the model says that it was trained on the catalogue
    only: tuple[int, ...] | None = None  # which segments are scored; all if None
    drawn: Drawn = "segments"  # what the model's training drew evenly
    executor: Executor | None = None  # what runs passes over the catalogue; this process if None
    shipped: Path | None = None  # where the package keeps what is ready of its own model and catalogue
    index: Index | None = None  # what shortlists are taken from; everything is scored exactly if None
    listed: int | None = None  # how many tracks they have; as many as the index says if None
    audited: int | None = None  # how many of the others are drawn and scored as well; about as many if None

    @property
    def rows(self) -> np.ndarray:
        """The segments that are scored, in the order of the scores."""
        return np.arange(len(self.catalogue)) if self.only is None else np.array(self.only)

    @property
    def weights_n(self) -> np.ndarray:
        """How often training saw each segment (``catalog.gathering``)."""
        return seen_by(self.catalogue.track_n, trained_of(self.catalogue), self.drawn)

    def as_seen(self, scores_n: np.ndarray, gather: Gather) -> np.ndarray:
        """Scores of segments ``[..., N]`` before they become a track's: where all of them count, each does as
        often as training saw it.
        """
        return scores_n * self.weights_n[self.rows] if gather in ALL_COUNT else scores_n

    def gatherer(self, gather: Gather) -> Gatherer:
        """How scores of segments become their tracks'."""
        return gatherer(self.catalogue, gather, self.weights_n)

    @property
    def workplace(self) -> Workplace:
        """Model and catalogue as workers open them."""
        return workplace(self.model, self.catalogue, self.model_folder)

    @property
    def n_training(self) -> int:
        return len(self.catalogue.training_rows)

    def draws(self, count: int, seed: int, levels: Levels = EVERY_LEVEL) -> Draws:
        """The draws that items are scored on: one for a model whose loss owes nothing to chance."""
        return draw(self.model, count, random_for("noise bank", seed), levels)

    def made_from(self, draws: Draws) -> dict[str, str]:
        """What a file that was computed of all this on some draws says of itself."""
        return {
            "model": self.model.weights_hash,
            "catalogue": self.catalogue.hash,
            "noise": draws.hash,
        }

    def progress(self, what: str) -> Callable[[int, int], None] | None:
        """Progress of one job, for what counts (done, total)."""
        report = self.on_progress
        return (lambda done, total: report(what, done, total)) if report else None


def draw(
    model: GenerativeModel, count: int, generator: torch.Generator, levels: Levels = EVERY_LEVEL
) -> Draws:
    """``count`` draws; one for a model whose loss owes nothing to chance.

    Raises:
        UsageError: such a model has no noise levels, of which a part is asked for.
    """
    if not model.random and levels != EVERY_LEVEL:
        raise UsageError(f"{model.name} has no noise levels to divide: leave out --noise-bands")
    return model.draw(count if model.random else 1, generator, levels)


Changed = tuple[Draws, dict[str, Tensor]]


@dataclass(frozen=True)
class Deviations:
    """How far scores would lie elsewhere had other noise been drawn: independent deviations, R of them, whose
    squares sum to the variance of a segment's score. One noise is drawn for all segments and windows, so they
    err together, sign and all.
    """

    items_rqn: np.ndarray  # float32; by the draws that items are scored on
    # by the draws that the clip's gradient is a mean over; None: not known without unlearning it again
    clip_rqn: np.ndarray | None = None
    rows: np.ndarray | None = None  # the segments they are of, by their places in the catalogue; None: all


@dataclass(frozen=True)
class Scores:
    """``scores_qn`` [queries, segments]; higher = removing the segment hurts the query more.

    Methods that compare item losses under two sets of weights say which, for evidence of *where* in a track.
    """

    scores_qn: np.ndarray
    draws: Draws | None = None  # those that items were scored on, if any
    # of each query: other weights, and the draws they are for
    changed: list[list[Changed]] = field(default_factory=list)
    sign: int = 1  # -1 where a loss that falls speaks for a track
    deviations: Deviations | None = None  # of methods that compare losses, on two draws or more
    # of each query: what its cells contribute to what is unlearned, if the method knows pairs of passages and
    # there was room to keep it
    cells: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Work:
    """What a method has to do, as counts of unit jobs (``evaluation/cost/units.py`` measures their seconds),
    and bytes.
    """

    once: Mapping[str, float] = field(default_factory=dict)  # once per model and catalogue
    per_run: Mapping[str, float] = field(default_factory=dict)  # shared by all queries of a run
    per_query: Mapping[str, float] = field(default_factory=dict)
    disk_bytes: float = 0.0  # what is kept for the next query
    memory_bytes: float = 0.0  # beyond a running model
    memory_bytes_per_query: float = 0.0


@dataclass(frozen=True)
class Passes:
    """What passes a method makes, a pass being one segment's on one draw."""

    kind: Literal["forward", "hidden", "backward"]  # hidden: forward, and every block's output is kept
    layers: str = ""  # that a backward pass leads to
    formed: bool = False  # whether gradients of whole weights are held
    together: int = 1  # passes that only go at once: all draws of a segment that is looked at whole
    alone: bool = False  # one batch at a time, however many cores there are
    fewer: str = "--draws"  # what makes them fewer


FORWARD = Passes("forward")


def draws_together(prepared: Prepared, settings: MethodSettings) -> int:
    """Passes of a segment that is looked at on all its draws at once."""
    return settings.item_draws if prepared.model.random else 1


TENSOR_BYTES = 4


def weight_bytes(prepared: Prepared, layers: str) -> int:
    """Bytes of the parameters of one kind."""
    return TENSOR_BYTES * sum(p.numel() for p in prepared.model.layers(layers).values())
