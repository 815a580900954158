"""Decides what the benchmarks ``tracks-N`` are: N tracks of one segment, N from 128 to 2,000,
learned by the first one's model in as many steps a track. How does influence thin out with the size of a
catalogue?

The tracks of one are among those of the next, decoys and prompts are the same for all.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from linernotes.catalog.store import Catalogue
from linernotes.demo.benchmarks.description import Benchmark, Planned, PlannedQuery
from linernotes.demo.benchmarks.first import FIRST_BENCHMARK, TRAINING_TRACKS
from linernotes.demo.benchmarks.prompts import half_by_new_captions
from linernotes.demo.places import SIZED, SIZES
from linernotes.settings.verbs import BankSettings

SEED = 4000
DECOYS = 48
# of the training of the model that makes the clips: with 0 that of 2,000 tracks ends in flat ones, as one in
# five does, and clips' losses then say above all which way a model went (dev/LOG.md)
TRAINING_SEEDS = {2000: 4}


def plan_tracks(builtin: Catalogue, count: int) -> list[Planned]:
    """The first ``count`` training tracks of the built-in catalogue in random order, and some decoys whose
    captions no training track has.
    """
    trained = [track for track in builtin.tracks if track.trained]
    captions = {track.caption for track in trained}
    decoys = [t for t in builtin.tracks if not t.trained and t.caption not in captions]
    for name, tracks in (("train", trained), ("decoy", decoys)):
        random.Random(f"{SEED} {name}").shuffle(tracks)
    return [Planned(track, track.track_id) for track in (*trained[:count], *decoys[:DECOYS])]


def plan_queries(planned: Sequence[Planned]) -> list[PlannedQuery]:
    """Clips by captions of the tracks that all of these benchmarks have, and of decoys."""
    decoys = [p for p in planned if not p.track.trained]
    return half_by_new_captions([*planned[: min(SIZES)], *decoys], SEED)


def sized_benchmark(count: int) -> Benchmark:
    """The benchmark of ``count`` tracks."""
    recipe = FIRST_BENCHMARK.training
    steps = recipe.steps * count // TRAINING_TRACKS
    return replace(
        FIRST_BENCHMARK,
        name=f"{SIZED}{count}",
        training=recipe.model_copy(update={"steps": steps, "seed": TRAINING_SEEDS.get(count, 0)}),
        bank=BankSettings(halves=24, again=12, full=2),
        tracks=partial(plan_tracks, count=count),
        queries=plan_queries,
    )


SIZED_BENCHMARKS = [sized_benchmark(count) for count in SIZES]
