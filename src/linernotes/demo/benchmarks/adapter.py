"""Decides what the benchmark ``adapter`` is: 128 tracks that the first one's model has never heard, learned
by a LoRA adapter to it. Which of *my* clips shaped this, where a model was trained on others' before?
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

from linernotes.artefacts import replace_folder
from linernotes.catalog.store import Catalogue
from linernotes.demo.benchmarks import first
from linernotes.demo.benchmarks.description import BASE, Benchmark, Planned, PlannedQuery
from linernotes.demo.benchmarks.prompts import half_by_new_captions
from linernotes.demo.places import ADAPTER, BENCHMARK
from linernotes.models.starts import write_start
from linernotes.settings.training import NewModelSettings, TrainingSettings
from linernotes.settings.verbs import BankSettings

SEED = 5100
TRACKS, DECOYS = 128, 48


def plan_tracks(builtin: Catalogue) -> list[Planned]:
    """Built-in tracks of works that the base model knows nothing of, and decoys whose captions none of them
    has.
    """
    known = {planned.track.work_id for planned in first.plan_tracks(builtin)}
    trained = [t for t in builtin.tracks if t.trained and t.work_id not in known]
    random.Random(f"{SEED} train").shuffle(trained)
    trained = trained[:TRACKS]
    works, captions = ({getattr(t, name) for t in trained} for name in ("work_id", "caption"))
    decoys = [
        t
        for t in builtin.tracks
        if not t.trained and t.caption not in captions and t.work_id not in known | works
    ]
    random.Random(f"{SEED} decoy").shuffle(decoys)
    return [Planned(track, track.track_id) for track in (*trained, *decoys[:DECOYS])]


def plan_queries(planned: Sequence[Planned]) -> list[PlannedQuery]:
    """Clips by captions of the adapter's tracks, and by captions that only decoys have."""
    return half_by_new_captions(planned, SEED)


def write_untrained(folder: Path, seed: int) -> None:
    """Writes an adapter that changes nothing yet to the model that lies beside it, if it is not there."""
    if folder.exists():
        return
    work = folder.with_name(folder.name + ".partial")
    shutil.rmtree(work, ignore_errors=True)
    write_start(folder.with_name(BASE), work, NewModelSettings(adapter="lora"), seed, BENCHMARK)
    replace_folder(work, folder)


ADAPTER_BENCHMARK = Benchmark(
    name=ADAPTER,
    untrained=write_untrained,
    base=BENCHMARK,
    training=TrainingSettings(steps=800, batch_size=16, learning_rate=6e-3, ema=0.99),
    bank=BankSettings(halves=24, again=12, full=2),
    tracks=plan_tracks,
    queries=plan_queries,
    rendered_with=BENCHMARK,
)
