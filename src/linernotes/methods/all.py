"""All methods by name. A method turns (prepared model, queries, its settings, a folder of its own) into ``Scores``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from linernotes.errors import LinernotesError
from linernotes.methods.contract import Prepared, Query, Scores
from linernotes.methods.gradients import score_ekfac, score_grad_cos, score_grad_dot, score_representer, score_tracin
from linernotes.methods.mucs import score_mucs
from linernotes.methods.projected import score_das, score_dtrak, score_trak
from linernotes.methods.similarity import (
    score_activations,
    score_clap,
    score_latent,
    score_random,
    score_timbre,
    score_tonal,
)
from linernotes.methods.unlearning import score_abu, score_abu_ekfac, score_forward_inf
from linernotes.settings.methods import MethodSettings

METHODS: dict[str, Callable[..., Scores]] = {
    "abu": score_abu,
    "abu-ekfac": score_abu_ekfac,
    "mucs": score_mucs,
    "forward-inf": score_forward_inf,
    "grad-dot": score_grad_dot,
    "grad-cos": score_grad_cos,
    "tracin": score_tracin,
    "trak": score_trak,
    "d-trak": score_dtrak,
    "das": score_das,
    "ekfac": score_ekfac,
    "latent": score_latent,
    "timbre": score_timbre,
    "tonal": score_tonal,
    "activations": score_activations,
    "clap": score_clap,
    "representer": score_representer,
    "random": score_random,
}


def score(method: str, prepared: Prepared, queries: list[Query], settings: MethodSettings, folder: Path) -> Scores:
    """Scores of all segments for the queries, by the method of that name.

    Raises:
        LinernotesError: scores are not finite; such are never ranked.
    """
    scores = METHODS[method](prepared, queries, settings, folder)
    if not np.isfinite(scores.scores_qn).all():
        raise LinernotesError(f"scores of {method} are not finite: use a smaller step, or more --damping")
    return scores
