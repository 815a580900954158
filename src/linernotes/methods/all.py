"""All methods by name. A method turns (prepared model, queries, its settings, a folder of its own) into
``Scores``, and says beforehand what work that will be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType

import numpy as np

from linernotes.errors import LinernotesError, UsageError
from linernotes.methods import gradients, mucs, projected, readout, similarity, unlearning
from linernotes.methods.contract import FORWARD, Passes, Prepared, Query, Scores, Work
from linernotes.methods.rescoring import passes_of_rescoring
from linernotes.methods.room import in_room
from linernotes.models.contract import (
    POWERS,
    AnyReadout,
    GenerativeModel,
    HiddenStatesModel,
    PredictingModel,
)
from linernotes.settings.methods import MethodSettings


@dataclass(frozen=True)
class Method:
    """``score(prepared, queries, settings, folder)``, ``work(prepared, settings, query)``,
    ``passes(prepared, settings, queries)`` and ``reads(prepared, settings)``.
    """

    score: Callable[..., Scores]
    work: Callable[..., Work]
    # what passes it makes for so many queries, if any
    passes: Callable[..., Passes | None] = lambda _prepared, _settings, _queries: None
    # hash of what is read besides model and catalogue, if anything
    reads: Callable[..., str] = lambda _prepared, _settings: ""
    # what the model must be able to do beyond the contract
    power: type | UnionType | None = None
    shortlists: bool = False  # whether scoring fewer segments costs less


METHODS: dict[str, Method] = {
    "readout": Method(
        readout.score_readout,
        readout.work_of_readout,
        readout.passes_of_readout,
        power=AnyReadout,
        shortlists=True,
    ),
    "abu": Method(unlearning.score_abu, unlearning.work_of_abu, unlearning.passes_of_abu, shortlists=True),
    "abu-ekfac": Method(
        unlearning.score_abu_ekfac, unlearning.work_of_abu_ekfac, passes_of_rescoring, shortlists=True
    ),
    "mucs": Method(mucs.score_mucs, mucs.work_of_mucs, mucs.passes_of_mucs, shortlists=True),
    "forward-inf": Method(
        unlearning.score_forward_inf, unlearning.work_of_forward_inf, passes_of_rescoring, shortlists=True
    ),
    "grad-dot": Method(
        gradients.score_grad_dot, gradients.work_of_products, gradients.passes_of_products, shortlists=True
    ),
    "grad-cos": Method(
        gradients.score_grad_cos, gradients.work_of_products, gradients.passes_of_products, shortlists=True
    ),
    "tracin": Method(
        gradients.score_tracin,
        gradients.work_of_tracin,
        gradients.passes_of_products,
        gradients.checkpoints_hash,
        shortlists=True,
    ),
    "trak": Method(projected.score_trak, projected.work_of_gram, projected.passes_of_gram),
    "d-trak": Method(
        projected.score_dtrak, projected.work_of_gram, projected.passes_of_gram, power=PredictingModel
    ),
    "das": Method(projected.score_das, projected.work_of_das, projected.passes_of_das, power=PredictingModel),
    "ekfac": Method(
        gradients.score_ekfac, gradients.work_of_ekfac, gradients.passes_of_products, shortlists=True
    ),
    "latent": Method(similarity.score_latent, similarity.no_work),
    "timbre": Method(similarity.score_timbre, similarity.work_of_sound),
    "tonal": Method(similarity.score_tonal, similarity.work_of_sound),
    "activations": Method(
        similarity.score_activations,
        similarity.work_of_activations,
        similarity.passes_of_activations,
        power=HiddenStatesModel,
        shortlists=True,
    ),
    "clap": Method(
        similarity.score_clap,
        similarity.work_of_sound,
        reads=lambda _prepared, s: similarity.hash_clap(s.clap),
    ),
    "representer": Method(
        gradients.score_representer,
        gradients.work_of_products,
        gradients.passes_of_products,
        shortlists=True,
    ),
    "random": Method(similarity.score_random, similarity.no_work),
}


def runs_on(method: str, model: GenerativeModel) -> bool:
    """Whether the model has what the method needs."""
    power = METHODS[method].power
    return power is None or isinstance(model, power)


def require_runs_on(method: str, model: GenerativeModel) -> None:
    """Refuses a method for a model without the power it needs.

    Raises:
        UsageError: names the power, and the methods that do run.
    """
    power = METHODS[method].power
    if power is not None and not isinstance(model, power):
        others = ", ".join(name for name in METHODS if runs_on(name, model))
        raise UsageError(
            f"{model.name} lacks {POWERS[power]}, and the method {method} needs that: choose one of {others}"
        )


def those_that_run(
    model: GenerativeModel, chosen: Mapping[str, MethodSettings], named: bool
) -> dict[str, MethodSettings]:
    """Methods that a model has all it needs for.

    Args:
        named: somebody asked for them by name.

    Raises:
        UsageError: one of those that were named is not among them.
    """
    for method in chosen if named else ():
        require_runs_on(method, model)
    return {name: settings for name, settings in chosen.items() if runs_on(name, model)}


def require_layers(model: GenerativeModel, settings: MethodSettings) -> None:
    """Refuses settings that ask for layers of a kind the model does not have.

    Raises:
        UsageError: names the kinds it has.
    """
    kind = settings.layer_kind
    if kind not in model.layer_kinds:
        raise UsageError(
            f"{model.name} has no layers {kind!r}: choose --layers from {', '.join(model.layer_kinds)}"
        )


def with_room(
    method: str, prepared: Prepared, settings: MethodSettings, queries: Sequence[Query], count: int = 0
) -> MethodSettings:
    """The same settings with as many passes at once as memory holds beside what the method keeps.

    Args:
        queries: one of them at least; ``count``: how many there are to be, if more.

    Raises:
        LinernotesError: there is no room for the passes that must go together.
    """
    count = count or len(queries)
    passes = METHODS[method].passes(prepared, settings, count)
    if passes and passes.alone:  # its work is only known by doing some of it
        return in_room(prepared, in_room(prepared, settings, passes), FORWARD)
    work = METHODS[method].work(prepared, settings, queries[0])
    sets = 1 if settings.one_set else count
    return in_room(prepared, settings, passes, work.memory_bytes + sets * work.memory_bytes_per_query)


def score(
    method: str, prepared: Prepared, queries: list[Query], settings: MethodSettings, folder: Path
) -> Scores:
    """Scores of all segments for the queries, by the method of that name.

    Raises:
        UsageError: the model lacks what the method needs.
        LinernotesError: scores are not finite, and such are never ranked; memory does not hold the passes.
    """
    require_runs_on(method, prepared.model)
    require_layers(prepared.model, settings)
    settings = with_room(method, prepared, settings, queries)
    scores = METHODS[method].score(prepared, queries, settings, folder)
    if not np.isfinite(scores.scores_qn).all():
        raise LinernotesError(
            f"scores of {method} are not finite: use a smaller --step-size, or more --damping"
        )
    return scores
