"""What every method is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from linernotes.catalog.store import Catalogue
from linernotes.models.contract import GenerativeModel
from linernotes.noise import NoiseBank

SILENCE_DB = -60.0  # frames quieter than this are not unlearned when silence is masked


@dataclass(frozen=True)
class Query:
    """The clip in question, as the model takes it."""

    name: str
    latents_ct: Tensor
    prompt: str
    text_ld: Tensor
    seconds: float
    heard_t: Tensor  # bool: frames with content that is not silence


@dataclass(frozen=True)
class Prepared:
    """A model and a catalogue with what is computed once for all queries."""

    model: GenerativeModel
    catalogue: Catalogue
    bank: NoiseBank
    base_loss_nk: Tensor  # item losses of all segments under the base weights
    fisher: dict[str, Tensor]  # diagonal Fisher by parameter name


@dataclass(frozen=True)
class Scores:
    """``scores_qn`` [queries, segments]; higher = removing the segment hurts the query more."""

    scores_qn: np.ndarray
    changed: list[dict[str, Tensor]]  # the unlearned weights of each query, for evidence; empty for other families


Progress = Callable[[str, int, int], None]  # what is being done, done, total
