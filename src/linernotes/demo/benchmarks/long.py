"""Decides what the benchmark ``long`` is: 256 training tracks and 48 decoys of 2 to 12 segments, whole tunes
as they are written, of which training draws segments evenly. Is a track's score the norm of its segments',
their sum, their mean, or the highest of them?
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from linernotes.catalog.store import Catalogue
from linernotes.catalog.track import Track
from linernotes.demo.benchmarks.description import Benchmark, Planned, PlannedQuery
from linernotes.demo.benchmarks.first import SIZE
from linernotes.demo.benchmarks.prompts import half_by_new_captions
from linernotes.demo.bundle import write_template
from linernotes.demo.places import LONG
from linernotes.demo.render import whole_seconds
from linernotes.models.encoding import Encoding
from linernotes.settings.training import TrainingSettings
from linernotes.settings.verbs import BankSettings

SEED = 6000
FEWEST, MOST = 2, 12  # segments of a track
# Tracks in all, and at most so many of one length: most tunes have 4 to 8 segments.
OF_A_SPLIT = {"train": (256, 36), "decoy": (48, 7)}


def plan_tracks(builtin: Catalogue) -> list[Planned]:
    """All tracks of the benchmark, training tracks first; each says in ``seconds`` how long it is."""
    planned = []
    for split, (count, of_a_length) in OF_A_SPLIT.items():
        lengths: Counter[int] = Counter()
        chosen: list[Track] = []
        for track in _shuffled_works(builtin, split):
            seconds = whole_seconds(track.source, track.extra["tempo"])
            length = segments_in(seconds, builtin.encoding)
            if FEWEST <= length <= MOST and lengths[length] < of_a_length:
                lengths[length] += 1
                extra = {**track.extra, "seconds": f"{seconds:.3f}"}
                chosen.append(replace(track, extra=extra))
            if len(chosen) == count:
                break
        planned += [Planned(track, None) for track in sorted(chosen, key=lambda track: track.track_id)]
    return planned


def plan_queries(planned: Sequence[Planned]) -> list[PlannedQuery]:
    """Clips of one segment by captions of training tracks, and by captions that only decoys have."""
    return half_by_new_captions(planned, SEED)


def _shuffled_works(builtin: Catalogue, split: str) -> Iterator[Track]:
    """One track of each work, in random order."""
    tracks = [track for track in builtin.tracks if track.split == split]
    random.Random(f"{SEED} {split}").shuffle(tracks)
    works: set[str | None] = set()
    for track in tracks:
        if track.work_id not in works:
            works.add(track.work_id)
            yield track


def segments_in(seconds: float, encoding: Encoding) -> int:
    """Segments of a recording; a rest shorter than one latent frame is none."""
    whole, rest = divmod(round(seconds * encoding.rate_hz), encoding.segment_samples)
    return whole + (rest >= encoding.frame_samples)


LONG_BENCHMARK = Benchmark(
    name=LONG,
    untrained=partial(write_template, SIZE),
    training=TrainingSettings(steps=2000, batch_size=16, learning_rate=6e-3, ema=0.99),
    bank=BankSettings(halves=24, again=12, full=2),
    tracks=plan_tracks,
    queries=plan_queries,
    rendered_with=LONG,
)
