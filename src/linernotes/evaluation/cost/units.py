"""Seconds of the unit jobs that methods are made of, measured now on a few real segments.

A unit is one pass over one (segment, draw) pair, one segment's sound described, or 10^9 float64 operations.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
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
from linernotes.models.workers import in_order
from linernotes.settings.methods import (
    AbuEkfacSettings,
    ClapSettings,
    EkfacSettings,
    MethodSettings,
    ProjectedSettings,
)

SEGMENTS, DRAWS = 32, 8
MATRIX = 1024


def seconds_of_units(
    prepared: Prepared, settings: MethodSettings, query: Query, names: set[str]
) -> dict[str, float]:
    """Seconds of one of each named unit. Each is run once to warm up and once to be timed."""
    units = Units(prepared, settings, query)
    seconds = {}
    for name in sorted(names):
        run = UNITS[name]
        run(units)
        start = time.perf_counter()
        count = run(units)
        seconds[name] = (time.perf_counter() - start) / count
    return seconds


@dataclass(frozen=True)
class Units:
    """Each method runs its unit a number of times, as an attribution with
    ``settings`` does it, and says how often.
    """

    prepared: Prepared
    settings: MethodSettings
    query: Query

    @property
    def rows(self) -> np.ndarray:
        return np.resize(self.prepared.catalogue.training_rows, SEGMENTS)

    @property
    def names(self) -> list[str]:
        module = self.prepared.model.network
        own = self.prepared.model.layers(self.settings.layer_kind)
        return [f"{name}.weight" for name in matrix_layers(module, own.keys())]

    def forward(self) -> int:
        draws = self.prepared.draws(DRAWS, 0)
        with TemporaryDirectory() as folder:
            model, catalogue = self.prepared.model, self.prepared.catalogue
            item_losses(
                model, catalogue, draws, {"base": {}}, Path(folder), self.rows, self.settings.batch_size
            )
        return SEGMENTS * DRAWS

    def gradient(self) -> int:
        weights = dict(self.prepared.model.layers(self.settings.layer_kind))
        draws = self.prepared.model.draw(SEGMENTS * DRAWS, random_for("units", 0))
        query_gradient(self.prepared.model, self.query, weights, draws, False, self.settings.batch_size)
        return SEGMENTS * DRAWS

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
        return self._projection(item_loss_b, DRAWS)

    def single_projection(self) -> int:
        return self._projection(item_loss_b, 1)

    def output_projection(self) -> int:
        return self._projection(squared_output_b, DRAWS)

    def activation(self) -> int:
        return self._pass(lambda worker, pairs: block_outputs(worker, pairs).sum(dim=1))

    def sound(self) -> int:
        return self._describe(describe_both)

    def clap(self) -> int:
        assert isinstance(self.settings, ClapSettings)
        return self._describe(load_clap(self.settings.clap)[0])

    def gigaflop(self) -> float:
        square = torch.ones(MATRIX, MATRIX, dtype=torch.float64)
        for _ in range(4):
            square @ square
        return 4 * 2e-9 * MATRIX**3

    def _pass(self, look: Callable[[GenerativeModel, Pairs], object], draws: int = DRAWS) -> int:
        model = self.prepared.model
        items = items_of(model, self.prepared.catalogue, np.resize(self.rows, SEGMENTS * DRAWS // draws))
        pairs = whole_items(model, items, self.prepared.draws(draws, 0), self.settings.batch_size)
        for _ in in_order(model, pairs, look):
            pass
        return SEGMENTS * DRAWS

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
            gradient_products(
                some, some.draws(DRAWS, 0), self.settings.batch_size, [nothing], {}, Path(folder)
            )
        return SEGMENTS * DRAWS

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
        return SEGMENTS


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
