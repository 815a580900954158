"""Decides what the benchmark ``deep`` is: the first one's tracks, learned by a model four times as deep and
half as wide, which costs about as much to train. Is what was found on two layers true of eight?
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from linernotes.demo.benchmarks import first
from linernotes.demo.benchmarks.description import Benchmark, Planned, PlannedQuery
from linernotes.demo.benchmarks.prompts import half_by_new_captions
from linernotes.demo.bundle import write_template
from linernotes.demo.places import BENCHMARK, DEEP
from linernotes.models.small import SmallModel
from linernotes.settings.training import TrainingSettings
from linernotes.settings.verbs import BankSettings

SEED = 8000


def plan_queries(planned: Sequence[Planned]) -> list[PlannedQuery]:
    """Clips by prompts that none of the first benchmark's has, since methods were developed on those."""
    return half_by_new_captions(planned, SEED, {query.prompt for query in first.plan_queries(planned)})


DEEP_BENCHMARK = Benchmark(
    name=DEEP,
    untrained=partial(write_template, SmallModel(layers=8, heads=2)),
    training=TrainingSettings(steps=1500, batch_size=16, learning_rate=8e-3, ema=0.99),
    bank=BankSettings(halves=24, again=12, full=2),
    tracks=first.plan_tracks,
    queries=plan_queries,
    rendered_with=BENCHMARK,
)
