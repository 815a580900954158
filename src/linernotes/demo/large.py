"""Decides what the large catalogue is, and makes it and its model: whole tunes of every ABC collection that
music21 brings and of Bach's chorales, played, and then once more on another instrument, until there are
100,000 segments to train on. It is not shipped: it is what large scale is measured on.

Sound is rendered as it is encoded, and never written.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from linernotes.catalog.ingest import build_catalogue
from linernotes.catalog.source import Source
from linernotes.catalog.store import Catalogue
from linernotes.catalog.track import Track
from linernotes.demo.bundle import builtin_model, write_template
from linernotes.demo.places import BUILTIN, MODEL
from linernotes.demo.recipe import INSTRUMENTS, TEMPOS, caption_of, group_works, identifier_of, melody_of
from linernotes.demo.render import seconds_of
from linernotes.demo.sounds import builtin_sound
from linernotes.demo.tunes import (
    COLLECTIONS,
    Tune,
    read_chorales,
    read_notes,
    read_tunes,
)
from linernotes.errors import UsageError
from linernotes.jobs.executor import Executor
from linernotes.models.encoding import Encoding
from linernotes.models.small import SmallModel
from linernotes.settings.training import TrainingSettings

SEED = 1150
SEGMENTS = 100_000  # to train on, but for the few that turn out to be the same sound as another
DECOY_SHARE = 0.02
PERFORMANCES = 2
SHORTEST_NOTES = 16
LONGEST_S = 120.0
MORE_COLLECTIONS = {"essenFolksong": "Essen Folksong Collection", "miscFolk": "Folk tunes of many lands"}

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Tunes(Source):
    """Tracks that are played, not read: they are what their rows say."""

    def content_of(self, track: Track) -> list[Any]:
        return [track.source, track.extra]


@dataclass(frozen=True)
class Played:
    """``Recordings`` of whole tunes, played as they are asked for."""

    paths: Sequence[Path] = ()

    def size(self, track: Track) -> int | None:
        return 0

    def blocks(self, track: Track, encoding: Encoding) -> Iterable[np.ndarray]:
        yield builtin_sound(track, 0.0, encoding).samples


def plan_large(
    segments: int = SEGMENTS,
    segment_s: float = 5.944,
    on_progress: Callable[[int, int], None] | None = None,
    names: Mapping[str, str] | None = None,
) -> list[Track]:
    """The tracks of the large catalogue, training tracks first. The same everywhere: it depends on the
    packages, ``SEED``, the two numbers and the names alone.

    Every tune is played once before any is played again; decoys are whole works, with all that is played of
    them.

    Args:
        segments: how many there are at least to train on.
        segment_s: how long one is.
        names: the collections that tunes are taken from; all if None.

    Raises:
        UsageError: there are fewer with each tune played ``PERFORMANCES`` times, which is the most.
    """
    names = names or COLLECTIONS | MORE_COLLECTIONS
    tunes = [t for c in names for t in (read_chorales() if c == "bach" else read_tunes(c))]
    notes = []
    for i, tune in enumerate(tunes, start=1):
        notes.append(read_notes(tune.collection, tune.source))
        if on_progress:
            on_progress(i, len(tunes))
    usable = [i for i in range(len(tunes)) if len(notes[i]) >= SHORTEST_NOTES]
    works = group_works(
        [tunes[i].title for i in usable], [[n.pitch for n in melody_of(notes[i])] for i in usable]
    )
    members: dict[int, list[int]] = defaultdict(list)
    for place, i in enumerate(usable):
        members[works[place]].append(i)
    groups = list(members.values())
    draw = random.Random(SEED)
    draw.shuffle(groups)
    decoys: set[int] = set()
    for group in groups:
        if len(decoys) < DECOY_SHARE * len(usable):
            decoys |= set(group)
    work_of = {i: f"work-{identifier_of(tunes[group[0]])}" for group in groups for i in group}
    order = list(usable)
    draw.shuffle(order)
    tracks: list[Track] = []
    count = 0
    for number in range(PERFORMANCES):
        for i in order:
            track = _track(tunes[i], work_of[i], number, i in decoys, names)
            seconds = min(LONGEST_S, seconds_of(notes[i], TEMPOS[track.extra["tempo"]]))
            count += 0 if i in decoys else max(1, math.ceil(seconds / segment_s - 0.02))
            tracks.append(replace(track, extra={**track.extra, "seconds": f"{seconds:.3f}"}))
            if count >= segments:
                break
        if count >= segments:
            break
    if count < segments:
        raise UsageError(f"--segments {segments}: the tunes give {count}, so ask for as many at most")
    return sorted(tracks, key=lambda track: (not track.trained, track.track_id))


def _track(tune: Tune, work_id: str, number: int, decoy: bool, names: Mapping[str, str]) -> Track:
    """The ``number``-th performance of a tune: each on another instrument."""
    draw = random.Random(f"{SEED}:{identifier_of(tune)}")
    instrument = draw.sample(list(INSTRUMENTS), PERFORMANCES)[number]
    tempo = [draw.choice(list(TEMPOS)) for _ in range(PERFORMANCES)][number]
    identifier = f"{identifier_of(tune)}-{number + 1}"
    return Track(
        track_id=identifier,
        file_name=f"{identifier}.flac",
        title=tune.title,
        artist=tune.composer or f"Traditional ({names[tune.collection]})",
        album=names[tune.collection],
        source=f"{tune.collection}/{tune.source}",
        work_id=work_id,
        caption=caption_of(tune, instrument, tempo),
        split="decoy" if decoy else "train",
        extra={"instrument": instrument, "tempo": tempo, "key": tune.key, "rhythm": tune.rhythm},
    )


def rebuild_large(
    out: Path,
    settings: TrainingSettings,
    train: Callable[..., None],
    on_progress: Progress | None = None,
    executor: Executor | None = None,
    segments: int = SEGMENTS,
) -> None:
    """Makes the large catalogue and a model of the built-in architecture, with the built-in codec and text
    encoder, in ``out``: ``catalogue`` and ``model``.

    Each step is skipped when its result stands in ``out`` already.

    Args:
        train: ``train(catalogue, template, folder, settings)``.
        executor: what renders and encodes; this process if None.
    """
    model = builtin_model()
    catalogue, template = out / "catalogue", out / "untrained"
    if not catalogue.exists():
        report = partial(on_progress, "reading tunes") if on_progress else None
        tracks = plan_large(segments, model.encoding.segment_s, report)
        build_catalogue(
            Tunes(out, tracks, []),
            catalogue,
            model,
            source_name=BUILTIN,
            on_track=partial(on_progress, "playing and encoding tunes") if on_progress else None,
            executor=executor,
            model_folder=MODEL,
            recordings=Played(),
        )
    write_template(SmallModel(), template, settings.seed)
    if not (out / "model").exists():
        train(Catalogue(catalogue), template, out / "model", settings)
