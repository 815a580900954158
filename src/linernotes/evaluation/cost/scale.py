"""How the cost of an index grows: of real catalogues, by building indexes of their parts, and, beyond these,
of the search alone, by vectors that are made up in the likeness of real ones.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from linernotes.artefacts import read_json, write_json
from linernotes.attribution.generating import generate_clip
from linernotes.attribution.indexing import build_index, unfinished
from linernotes.attribution.prepare import prepare
from linernotes.attribution.query import load_clip
from linernotes.attribution.run import attribute_clips
from linernotes.catalog.store import Catalogue, copy_tracks
from linernotes.evaluation.cost.bench import seconds_of
from linernotes.evaluation.cost.likeness import Likeness, make_up
from linernotes.evaluation.cost.planning import forget_peak, held_bytes
from linernotes.index.search import look_up
from linernotes.index.store import EXACT_UP_TO, RECORD, Index
from linernotes.index.vectors import Vectors, resemblance
from linernotes.methods.contract import Prepared, Progress
from linernotes.models.contract import GeneratingModel
from linernotes.settings.methods import METHOD_SETTINGS
from linernotes.settings.verbs import GenerateSettings, IndexSettings

LONGEST_LIST = 5000  # segments that the search is asked for
ASKED = 4  # made-up clips
COST = "cost.json"  # what building an index took, beside it
MIB = 1 << 20


@dataclass(frozen=True)
class Growth:
    """What an index of so many segments costs; None where that was not measured."""

    segments: int
    real: bool  # False: vectors in the likeness of real ones
    bytes_each: int  # of one vector
    disk_mib: float  # the index
    product_s: float  # a clip's products with all vectors; from the disk if they are many
    product_mib: float  # the most that this process held meanwhile
    codes_s: float | None = None  # the same by codes
    codes_mib: float | None = None
    found: float | None = None  # of the first by product, those that codes found
    build_s: float | None = None
    build_mib: float | None = None
    clip_s: float | None = None  # to attribute a clip, model and catalogue being open
    scored: int | None = None  # segments that were scored exactly for it
    every_s: float | None = None  # to attribute it by scoring everything exactly
    listed: float | None = None  # the share of all tracks that a shortlist has
    # of held clips' exact first tracks and of their summed score, what shortlists of so many tracks hold
    held: float | None = None  # of as many as the other clips ask for
    held_half: float | None = None  # of 0.5 %
    summed_half: float | None = None
    held_two: float | None = None  # of 2 %
    summed_two: float | None = None


def measure_scale(
    prepared: Prepared,
    index: Path | None,
    real: Sequence[int],
    made_up: Sequence[int],
    settings: IndexSettings,
    folder: Path,
    every_up_to: int,
    on_progress: Progress | None = None,
) -> list[Growth]:
    """Indexes of parts of a catalogue, of all of it, and of made-up vectors, smallest first.

    Args:
        index: where the whole catalogue's is; built there if there is none yet, and in ``folder`` if None.
            Building that was stopped goes on, and what it cost is not known.
        real: segments of the parts; those that the catalogue has no more than are left out.
        made_up: how many vectors are made up, in the likeness of the whole catalogue's.
        folder: an empty one, on a disk with room for the largest index.
        every_up_to: segments of a catalogue of which all are scored exactly, too: more takes hours.

    Raises:
        LinernotesError: there is not so much room.
    """
    report = on_progress or (lambda what, done, total: None)
    whole = prepared.catalogue
    parts = [count for count in sorted(real) if count < len(whole)]
    steps = len(parts) + 1 + len(made_up)
    found: list[Growth] = []
    report("sizes", 0, steps)
    place = folder / "whole"  # first: a run that is stopped later has it
    there = index is not None and (index / RECORD).is_file()
    own = prepared if there else _anew(prepared, whole, place)
    built, of_whole = _built(own, settings, place, every_up_to, index)
    for i, count in enumerate(parts, start=1):
        report("sizes", i, steps)
        place = folder / f"part-{i}"
        part = part_of(whole, count, place / "catalogue")
        found.append(_built(_anew(prepared, part, place), settings, place, every_up_to)[1])
    found.append(of_whole)
    for i, count in enumerate(made_up, start=len(parts) + 1):
        report("sizes", i, steps)
        large = make_up(built, count, folder / "made-up")
        found.append(searched(large, Likeness(built, seed=1).drawn(ASKED)))
        shutil.rmtree(large.path)
    report("sizes", steps, steps)
    return sorted(found, key=lambda growth: growth.segments)


def _anew(prepared: Prepared, catalogue: Catalogue, folder: Path) -> Prepared:
    """With nothing computed beforehand."""
    return prepare(
        model=prepared.model,
        catalogue=catalogue,
        cache=folder / "cache",
        on_progress=prepared.on_progress,
        model_folder=prepared.model_folder,
        vouched=prepared.vouched,
        drawn=prepared.drawn,
    )


def _built(
    prepared: Prepared, settings: IndexSettings, folder: Path, every_up_to: int, path: Path | None = None
) -> tuple[Index, Growth]:
    """The index at ``path``, and what it cost if it was built here, from nothing."""
    path = path or folder / "index"
    if (path / RECORD).is_file():
        index = Index(path)
        index.require(prepared.model.weights_hash, prepared.catalogue)
    else:
        anew = not unfinished(path).exists()
        forget_peak()
        start = time.perf_counter()
        index = build_index(prepared, settings, path)
        if anew:
            cost = {"build_s": time.perf_counter() - start, "build_mib": held_bytes() / MIB}
            write_json(path / COST, cost)
    folder.mkdir(parents=True, exist_ok=True)
    growth = _with_clip(searched(index, index.vectors[:ASKED]), prepared, index, folder, every_up_to)
    growth = _recalled(growth, index)
    return index, replace(growth, **read_json(path / COST, "a cost")) if (path / COST).exists() else growth


def _recalled(growth: Growth, index: Index) -> Growth:
    """With what shortlists hold."""
    recall = index.recall
    half, two = (max(1, round(share * recall.tracks)) for share in (0.005, 0.02))
    return replace(
        growth,
        listed=recall.size_for() / recall.tracks,
        held=recall.of_chosen()[0],
        held_half=recall.of(half)[0],
        summed_half=recall.of_score(half)[0],
        held_two=recall.of(two)[0],
        summed_two=recall.of_score(two)[0],
    )


def part_of(catalogue: Catalogue, segments: int, path: Path) -> Catalogue:
    """Whole tracks of a catalogue, drawn evenly, until there are so many segments."""
    size_t = np.bincount(catalogue.track_n, minlength=len(catalogue.tracks))
    order = [t for t in np.random.default_rng(0).permutation(len(size_t)) if size_t[t]]
    count = int(np.searchsorted(np.cumsum(size_t[order]), segments)) + 1
    chosen = [(catalogue, int(t), catalogue.tracks[t]) for t in sorted(order[:count])]
    return copy_tracks(path, chosen, {"source": catalogue.record["source"]})


def searched(index: Index, asked: Vectors) -> Growth:
    """What it costs to look for one clip at a time, once all that is kept in memory is there; and whether
    codes find what the products do.
    """
    wanted = min(LONGEST_LIST, max(1, len(index) // 4))
    few = len(index) <= EXACT_UP_TO

    def products(clips: Vectors) -> np.ndarray:
        blocks = [fresh.vectors] if few else fresh.blocks()
        return np.concatenate([resemblance(clips, block) for block in blocks], axis=1)

    def by_codes(q: int) -> np.ndarray:
        return first_of(look_up(fresh, asked[q : q + 1], wanted)[0], wanted)

    each = range(len(asked))
    coded_s, coded_mib, lists = None, None, []
    fresh = Index(index.path)
    if fresh.codes:
        forget_peak()
        lists = [by_codes(q) for q in each]
        coded_s = seconds_of(lambda: [by_codes(q) for q in each]) / len(asked)
        coded_mib = held_bytes() / MIB
        fresh = Index(index.path)
    forget_peak()
    if few:
        _ = fresh.vectors
    product_s, product_mib = seconds_of(lambda: products(asked[:1])), held_bytes() / MIB
    firsts = [first_of(product_n, wanted) for product_n in products(asked)] if lists else []
    shares = [np.isin(first, own).mean() for first, own in zip(firsts, lists, strict=True)]
    return Growth(
        segments=len(index),
        real=False,
        bytes_each=index.bytes_each,
        disk_mib=sum(path.stat().st_size for path in index.path.rglob("*") if path.is_file()) / MIB,
        product_s=product_s,
        product_mib=product_mib,
        codes_s=coded_s,
        codes_mib=coded_mib,
        found=float(np.mean(shares)) if shares else None,
    )


def first_of(said_n: np.ndarray, count: int) -> np.ndarray:
    """The places of the ``count`` largest."""
    return np.argpartition(-said_n, min(count, len(said_n) - 1))[:count]


def _with_clip(growth: Growth, prepared: Prepared, index: Index, folder: Path, every_up_to: int) -> Growth:
    """With the seconds of attributing a clip of the model's own, the second one, how many segments were
    scored exactly, and the seconds of scoring all; without them for a model that makes no clips.
    """
    model, method = prepared.model, index.recall.method
    growth = replace(growth, real=True)
    if not isinstance(model, GeneratingModel):
        return growth
    caption = next(track.caption for track in prepared.catalogue.tracks if track.trained)
    for seed in (0, 1):
        path = folder / f"clip{seed}.flac"
        generate_clip(model, caption, path, GenerateSettings(seed=seed))
        clip = load_clip(path, model, caption)
        own = replace(prepared, index=index)
        start = time.perf_counter()
        (done,) = attribute_clips([clip], own, method, METHOD_SETTINGS[method](), folder / f"clip{seed}")
        seconds = time.perf_counter() - start
    every_s = None
    if len(prepared.catalogue) <= every_up_to:
        start = time.perf_counter()
        attribute_clips([clip], prepared, method, METHOD_SETTINGS[method](), folder / "every")
        every_s = time.perf_counter() - start
    return replace(growth, clip_s=seconds, scored=done.attribution.segments, every_s=every_s)
