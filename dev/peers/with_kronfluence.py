"""kronfluence's side: EK-FAC influence. The library is imported only in the process that runs it."""

from __future__ import annotations

import logging
import tempfile
from typing import Any

import numpy as np
from plain import Folded, Score, as_items, folded_names
from torch import Tensor, nn
from world import World

from linernotes.settings.methods import EkfacSettings


def kronfluence_ekfac(world: World, settings: EkfacSettings) -> Score:
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    losses = as_items(world, settings, lambda _name, layer, whole: Folded(layer, whole))
    tracked = folded_names(losses)

    class ItemTask(Task):
        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
            return model(*batch).sum()

        def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
            return model(*batch).sum()

        def get_influence_tracked_modules(self) -> list[str]:
            return tracked

    task = ItemTask()
    model = prepare_model(losses, task)
    fit, items, queries = (
        world.fitting_items(settings),
        world.items(settings),
        world.gradient_queries(settings),
    )
    factor_arguments = FactorArguments(strategy="ekfac", use_empirical_fisher=True)
    # no damping factor means 0.1 times a layer's mean eigenvalue
    score_arguments = ScoreArguments(
        damping_factor=None, query_gradient_accumulation_steps=world.extent.queries
    )

    def run() -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            analyzer = Analyzer(
                "peers", model, task, cpu=True, disable_tqdm=True, output_dir=folder, log_level=logging.ERROR
            )
            analyzer.fit_all_factors("factors", fit, settings.batch_size, factor_args=factor_arguments)
            analyzer.compute_pairwise_scores(
                "scores",
                "factors",
                queries,
                items,
                per_device_query_batch_size=1,
                per_device_train_batch_size=settings.batch_size // settings.draws,
                score_args=score_arguments,
            )
            return analyzer.load_pairwise_scores("scores")["all_modules"].double().numpy()

    return run
