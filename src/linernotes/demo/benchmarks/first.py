"""Decides what the first benchmark is: 512 training tracks and 144 decoys, most drawn from the built-in
catalogue, some planted so that it is known what resembles what, and the prompts of its query clips. Small
enough for its model to be trained in 100 seconds on one core, and so to be trained again without any of its
tracks.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from linernotes.catalog.store import Catalogue
from linernotes.catalog.track import Split, Track
from linernotes.demo.benchmarks.description import Benchmark, Planned, PlannedQuery
from linernotes.demo.bundle import write_template
from linernotes.demo.places import BENCHMARK
from linernotes.demo.recipe import INSTRUMENTS
from linernotes.models.small import SmallModel
from linernotes.settings.training import TrainingSettings
from linernotes.settings.verbs import BankSettings

SEED = 2611
TRAINING_TRACKS = 512
PLAIN_DECOYS = 96

# One instrument belongs to a small group alone: what a clip with it was learned from is known.
RARE_INSTRUMENT = "xylophone"
RARE_TRACKS = 10

# How many works stand in the catalogue as a source that is never trained on and a relative that is: the same
# tune on another instrument, transposed, stretched, played by another hand, or as another collection has it.
# Duplicates are both trained on.
RELATIONS = {
    "duplicate": 8,
    "instrument": 8,
    "transposed": 8,
    "stretched": 8,
    "performance": 8,
    "version": 16,
}

SHORT_PROMPTS = (
    "flute",
    "a slow air",
    "a hornpipe for accordion",
    "church organ",
    "a waltz in D major",
    "banjo, fast",
    "something in a minor key for violin",
    "a chorale",
)
QUERIES = {"caption": 10, "recombined": 10, "short": 8, "rare": 6, "duplicated": 6}
TUNING_SHARE = 0.4
HEARD = {
    "caption": 2,
    "recombined": 2,
    "short": 1,
    "rare": 1,
    "duplicated": 2,
}  # clips that are made again by every retrain


def plan_tracks(builtin: Catalogue) -> list[Planned]:
    """All tracks of the benchmark, training tracks first. The same everywhere: it depends on the built-in
    catalogue alone.
    """
    draw = random.Random(SEED)
    works: dict[str, list[Track]] = defaultdict(list)
    for track in builtin.tracks:
        if track.trained:
            works[track.work_id].append(track)
    common = [m for m in works.values() if all(t.extra["instrument"] != RARE_INSTRUMENT for t in m)]
    alone = [members[0] for members in common if len(members) == 1]
    versions = [members[:2] for members in common if len({t.album for t in members[:2]}) == 2]
    rare = [m[0] for m in works.values() if len(m) == 1 and m[0].extra["instrument"] == RARE_INSTRUMENT]
    for pool in (alone, versions, rare):
        draw.shuffle(pool)

    training: list[Planned] = []
    decoys: list[Planned] = []
    used: set[str] = set()
    for relation, count in RELATIONS.items():
        for number in range(count):
            if relation == "version":
                source, relative = versions.pop()
                planted = Planned(_related(relative, relation, source), relative.track_id)
            else:
                source = alone.pop()
                planted = _plant(source, relation, number, draw)
            training.append(planted)
            if relation == "duplicate":
                training.append(Planned(_related(source, relation, planted.track), source.track_id))
            else:
                decoys.append(Planned(_related(source, relation, planted.track, "decoy"), source.track_id))
            used.add(source.work_id)
    training += [Planned(_marked(track, "rare"), track.track_id) for track in rare[:RARE_TRACKS]]
    rest = [t for members in common if members[0].work_id not in used for t in members]
    draw.shuffle(rest)
    training += [Planned(track, track.track_id) for track in rest[: TRAINING_TRACKS - len(training)]]
    plain = [t for t in builtin.tracks if not t.trained and t.extra["instrument"] != RARE_INSTRUMENT]
    decoys += [Planned(track, track.track_id) for track in draw.sample(plain, PLAIN_DECOYS)]
    return sorted(training, key=_identifier) + sorted(decoys, key=_identifier)


def plan_queries(planned: Sequence[Planned]) -> list[PlannedQuery]:
    """The prompts of the benchmark's clips: captions of training tracks and of decoys, a few words, the rare
    instrument, and captions of tracks that stand twice in the catalogue.
    """
    draw = random.Random(SEED + 1)
    tracks = [p.track for p in planned]
    plain = [t for t in tracks if not t.extra.get("relation")]
    trained = {t.caption for t in tracks if t.trained}
    pools = {
        "caption": sorted({t.caption for t in plain if t.trained}),
        "recombined": sorted({t.caption for t in plain} - trained),
        "short": list(SHORT_PROMPTS),
        "rare": [t.caption for t in tracks if t.extra.get("relation") == "rare"],
        "duplicated": sorted({t.caption for t in tracks if t.extra.get("relation") == "duplicate"}),
    }
    queries: list[PlannedQuery] = []
    for kind, count in QUERIES.items():
        prompts = draw.sample(pools[kind], count)
        tuning = round(TUNING_SHARE * count)
        for i, prompt in enumerate(prompts):
            split = "tuning" if i < tuning else "reporting"
            heard = tuning <= i < tuning + HEARD[kind]
            queries.append(PlannedQuery(f"{kind}-{i:02d}", prompt, 1000 + len(queries), kind, split, heard))
    return queries


def _plant(source: Track, relation: str, number: int, draw: random.Random) -> Planned:
    """A relative of ``source``."""
    extra, caption = dict(source.extra), source.caption
    if relation == "instrument":
        others = [name for name in INSTRUMENTS if name not in (RARE_INSTRUMENT, extra["instrument"])]
        extra["instrument"] = draw.choice(others)
        caption = caption.replace(f"for {source.extra['instrument']}", f"for {extra['instrument']}")
    elif relation == "transposed":
        extra["transpose"] = str(draw.choice([-1, 1]) * (1 + number % 6))
    elif relation == "stretched":
        by = draw.uniform(0.05, 0.20)
        extra["stretch"] = f"{1 + by if number % 2 else 1 / (1 + by):.3f}"
    elif relation == "performance":
        extra["performance"] = str(1 + number)
    identifier = f"planted-{relation}-{number:02d}"
    track = replace(
        source,
        track_id=identifier,
        file_name=f"{identifier}.flac",
        caption=caption,
        extra=extra,
        split="train",
    )
    return Planned(_related(track, relation, source), source.track_id if relation == "duplicate" else None)


def _related(track: Track, relation: str, other: Track, split: Split = "train") -> Track:
    return replace(
        _marked(track, relation),
        split=split,
        extra={**_marked(track, relation).extra, "related_to": other.track_id},
    )


def _marked(track: Track, relation: str) -> Track:
    return replace(track, extra={**track.extra, "relation": relation})


def _identifier(planned: Planned) -> str:
    return planned.track.track_id


SIZE = SmallModel(layers=2, heads=4)

FIRST_BENCHMARK = Benchmark(
    name=BENCHMARK,
    untrained=partial(write_template, SIZE),
    training=TrainingSettings(steps=1000, batch_size=16, learning_rate=6e-3, ema=0.99),
    bank=BankSettings(),
    tracks=plan_tracks,
    queries=plan_queries,
    rendered_with=BENCHMARK,
)
