"""Seconds of the unit jobs that methods are made of, measured now on a few real segments.

A unit is one pass over one (segment, draw) pair, one segment's sound described, or 10^9 float64 operations.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from linernotes.curvature.diagonal import squared_gradients
from linernotes.curvature.ekfac import Ekfac, add_covariances, add_values, look_at
from linernotes.curvature.fitting import Drawn
from linernotes.curvature.per_item import SeeLayer, item_loss_b, matrix_layers, sides, squared_output_b
from linernotes.curvature.projection import draw_projection, projected_gradients
from linernotes.draws import random_for
from linernotes.losses import item_losses, items_of
from linernotes.methods.contract import Prepared, Query
from linernotes.methods.items import Pairs, gradient_products, whole_items
from linernotes.methods.query_gradient import query_gradient
from linernotes.methods.similarity import block_outputs, describe_both, describe_sound, load_clap
from linernotes.models.contract import GenerativeModel, device_of
from linernotes.models.workers import at_once, in_order
from linernotes.settings.methods import (
    AbuEkfacSettings,
    ClapSettings,
    EkfacSettings,
    MethodSettings,
    ProjectedSettings,
)

SEGMENTS, DRAWS = 32, 8  # at most
ENOUGH_S = 1.5  # how long a unit is measured, where so many take longer
LONG_S = 10.0  # a first measurement that is not repeated
MATRIX = 1024


def seconds_of_units(
    prepared: Prepared, settings: MethodSettings, query: Query, names: set[str]
) -> dict[str, float]:
    """Seconds of one of each named unit: of one batch a worker, after one to warm up, and of more and more
    until that takes long enough. Of a large model the first is all.
    """
    workers, most = at_once(prepared.model), DRAWS if prepared.model.random else 1
    seconds = {}
    for name in sorted(names):
        few = min(workers, SEGMENTS)
        sizes = [(few, 1), (few, 1), (few, most), (min(4 * few, SEGMENTS), most), (SEGMENTS, most)]
        for i, (segments, draws) in enumerate(sizes):
            units = Units(prepared, settings, query, segments, draws, workers)
            start = time.perf_counter()
            count = UNITS[name](units)
            taken = time.perf_counter() - start
            seconds[name] = taken / count
            if taken > (ENOUGH_S if i else LONG_S):  # the first one loads what it needs, too
                break
    return seconds


@dataclass(frozen=True)
class Units:
    """Each method runs its unit a number of times, as an attribution with
    ``settings`` does it, and says how often.
    """

    prepared: Prepared
    settings: MethodSettings
    query: Query
    segments: int
    draws: int
    workers: int

    @property
    def pairs(self) -> int:
        return self.segments * self.draws

    @property
    def batch_size(self) -> int:
        """As large as it is asked for and leaves no worker idle."""
        return min(self.settings.batch_size, max(1, self.pairs // self.workers))

    @property
    def rows(self) -> np.ndarray:
        return np.resize(self.prepared.catalogue.training_rows, self.segments)

    @property
    def names(self) -> list[str]:
        module = self.prepared.model.network
        own = self.prepared.model.layers(self.settings.layer_kind)
        return [f"{name}.weight" for name in matrix_layers(module, own.keys())]

    def forward(self) -> int:
        draws = self.prepared.draws(self.draws, 0)
        with TemporaryDirectory() as folder:
            model, catalogue = self.prepared.model, self.prepared.catalogue
            item_losses(model, catalogue, draws, {"base": {}}, Path(folder), self.rows, self.batch_size)
        return self.pairs

    def gradient(self) -> int:
        weights = dict(self.prepared.model.layers(self.settings.layer_kind))
        draws = self.prepared.model.draw(self.pairs, random_for("units", 0))
        query_gradient(self.prepared.model, self.query, weights, draws, False, self.batch_size)
        return self.pairs

    def square(self) -> int:
        return self._pass(lambda worker, pairs: squared_gradients(worker, *pairs))

    def covariance(self) -> int:
        return self._curvature(add_covariances)

    def value(self) -> int:
        layers = matrix_layers(self.prepared.model.network, self.names)
        inputs = {name: torch.eye(sides(layer)[0]) for name, layer in layers.items()}
        outputs = {name: torch.eye(sides(layer)[1]) for name, layer in layers.items()}
        factors = Ekfac(inputs, outputs, {})
        return self._curvature(lambda sums: add_values(sums, factors.input_ij, factors.output_ij))

    def product(self) -> int:
        return self._product("all" if self.settings.layer_kind == "output" else self.settings.layer_kind)

    def output_product(self) -> int:
        return self._product("output")

    def projection(self) -> int:
        return self._projection(item_loss_b, self.draws)

    def single_projection(self) -> int:
        return self._projection(item_loss_b, 1)

    def output_projection(self) -> int:
        return self._projection(squared_output_b, self.draws)

    def activation(self) -> int:
        return self._pass(lambda worker, pairs: block_outputs(worker, pairs).sum(dim=1))

    def sound(self) -> int:
        return self._describe(describe_both)

    def clap(self) -> int:
        assert isinstance(self.settings, ClapSettings)
        return self._describe(_clap(self.settings.clap)[0])

    def gigaflop(self) -> float:
        square = torch.ones(MATRIX, MATRIX, dtype=torch.float64)
        for _ in range(4):
            square @ square
        return 4 * 2e-9 * MATRIX**3

    def _pass(self, look: Callable[[GenerativeModel, Pairs], object], draws: int | None = None) -> int:
        model, draws = self.prepared.model, draws or self.draws
        items = items_of(model, self.prepared.catalogue, np.resize(self.rows, self.pairs // draws))
        pairs = whole_items(model, items, self.prepared.draws(draws, 0), self.batch_size)
        for _ in in_order(model, pairs, look):
            pass
        return self.pairs

    def _curvature(self, adding: Callable[[dict[str, Tensor]], SeeLayer]) -> int:
        assert isinstance(self.settings, AbuEkfacSettings | EkfacSettings)
        names, fisher = self.names, self.settings.fisher

        def look(worker: GenerativeModel, pairs: Pairs) -> None:
            targets = worker.draw_targets(len(pairs[0]), random_for("units", 1)).to(device_of(worker))
            look_at(worker, names, adding({}), fisher, Drawn(*pairs, targets, 0))

        return self._pass(look)

    def _product(self, kind: str) -> int:
        model = self.prepared.model
        some = Prepared(
            model, self.prepared.catalogue, self.prepared.folder, only=tuple(int(row) for row in self.rows)
        )
        nothing = {name: torch.zeros_like(p) for name, p in model.layers(kind).items()}
        with TemporaryDirectory() as folder:
            draws = some.draws(self.draws, 0)
            gradient_products(some, draws, self.batch_size, [nothing], {}, Path(folder))
        return self.pairs

    def _projection(self, measured: Any, draws: int) -> int:
        assert isinstance(self.settings, ProjectedSettings)
        drawn = draw_projection(self.prepared.model.network, self.names, self.settings.projection, 0)
        return self._pass(
            lambda worker, pairs: projected_gradients(worker, drawn, measured, draws, *pairs), draws
        )

    def _describe(self, describe: Callable[[Any], np.ndarray]) -> int:
        catalogue = self.prepared.catalogue
        jobs = zip(catalogue.latents(self.rows), catalogue.seconds_n[self.rows], strict=True)
        for _ in in_order(
            self.prepared.model, jobs, lambda worker, job: describe_sound(worker, *job, describe)
        ):
            pass
        return self.segments


_clap = cache(load_clap)  # a method loads it once, too


UNITS: dict[str, Callable[[Units], float]] = {
    "forward": Units.forward,
    "gradient": Units.gradient,
    "square": Units.square,
    "covariance": Units.covariance,
    "value": Units.value,
    "product": Units.product,
    "output product": Units.output_product,
    "projection": Units.projection,
    "single projection": Units.single_projection,
    "output projection": Units.output_projection,
    "activation": Units.activation,
    "sound": Units.sound,
    "clap": Units.clap,
    "gigaflop": Units.gigaflop,
}
