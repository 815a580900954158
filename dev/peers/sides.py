"""What is compared with what: each method's settings, the peer's side and what had to be set for the two to
be the same.

The side of linernotes is here too; those of the peers are in ``with_*.py``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from plain import Score
from with_captum import captum_tracin
from with_dattri import DATTRI_ITEMS, dattri_tracin, dattri_trak_own, dattri_trak_same, trak_unprojected
from with_kronfluence import kronfluence_ekfac
from world import World

from linernotes.methods import all as methods
from linernotes.settings.methods import EkfacSettings, MethodSettings, TracinSettings, TrakSettings


@dataclass(frozen=True)
class Comparison:
    """A method of linernotes and the same of a peer."""

    method: str
    settings: MethodSettings
    peer: str
    side: Callable[[World, MethodSettings], Score]
    aligned: str  # what had to be set for the two to compute the same
    differs: str  # what is left
    barred: bool = True  # whether the scores must agree
    # scores that both only approximate
    reference: Callable[[World, MethodSettings], np.ndarray] | None = None


def own_side(world: World, method: str, settings: MethodSettings) -> Score:
    def run() -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:  # nothing is kept from one run to the next
            return methods.score(
                method, world.prepared(Path(folder)), world.queries, settings, Path(folder)
            ).scores_qn

    return run


DRAWS = {"draws": 8, "gradient_draws": 32}
WHOLE = {**DRAWS, "mask_silence": False}  # projected gradients are always of the whole query
AT_ONCE = f"dattri holds the passes of {DATTRI_ITEMS} items at once"
COMPARISONS = [
    Comparison(
        "ekfac",
        EkfacSettings(**WHOLE, fisher="empirical"),
        "kronfluence",
        kronfluence_ekfac,
        "empirical Fisher on both sides; damping_factor=None (0.1 x mean eigenvalue); the same draws",
        "rounding",
    ),
    Comparison(
        "trak",
        TrakSettings(**DRAWS),
        "dattri, same projection",
        dattri_trak_same,
        "linernotes' projections as adapters in the model, dattri's projector off; damping / number of "
        "parameters; Q = 1",
        f"rounding: linernotes solves in float64, dattri in float32; {AT_ONCE}",
    ),
    Comparison(
        "trak",
        TrakSettings(**DRAWS),
        "dattri, own projection",
        dattri_trak_own,
        "the same layers, number of dimensions, damping and Q = 1",
        "two random projections: linernotes' of both sides of each layer, dattri's of the whole gradient; "
        f"{AT_ONCE}",
        barred=False,
        reference=trak_unprojected,
    ),
    Comparison(
        "tracin",
        TracinSettings(**WHOLE, layers="mlp"),
        "captum",
        captum_tracin,
        "layers=mlp: captum's gradients of a batch at once know no LayerNorm; the same checkpoints and draws",
        "rounding",
    ),
    Comparison(
        "tracin",
        TracinSettings(**WHOLE),
        "dattri",
        dattri_tracin,
        "dattri's projector off; the same checkpoints and draws",
        f"rounding; {AT_ONCE}",
    ),
]
