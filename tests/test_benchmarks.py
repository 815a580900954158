"""The benchmarks beside the first one: what is planned, what names mean, what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

import linernotes
from linernotes.catalog.store import Catalogue
from linernotes.cli.app import app
from linernotes.demo.benchmarks import first
from linernotes.demo.benchmarks.all import benchmark_of
from linernotes.demo.benchmarks.description import Planned
from linernotes.demo.benchmarks.long import FEWEST, MOST, OF_A_SPLIT
from linernotes.demo.places import BENCHMARKS, CATALOGUE, require_bank
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.bank.store import read_prompts

FURTHER = ("deep", "long")


@pytest.fixture(scope="module")
def builtin() -> Catalogue:
    return Catalogue(CATALOGUE)


@pytest.fixture(scope="module")
def planned(builtin: Catalogue) -> dict[str, list[Planned]]:
    return {name: benchmark_of(name).tracks(builtin) for name in FURTHER}


def test_no_work_of_a_decoy_is_trained_on(planned: dict[str, list[Planned]]) -> None:
    for name, tracks in planned.items():
        works = {split: {p.track.work_id for p in tracks if p.track.split == split} for split in OF_A_SPLIT}
        related = {p.track.work_id for p in tracks if p.track.extra.get("relation")}
        assert works["train"] & works["decoy"] <= related, name  # the first one's planted relatives
        assert len({p.track.track_id for p in tracks}) == len(tracks)


def test_long_has_whole_tunes_of_two_to_twelve_segments(
    builtin: Catalogue, planned: dict[str, list[Planned]]
) -> None:
    """One of each work, as many as are asked for, and not too many of one length."""
    segment_s, tracks = builtin.encoding.segment_s, [p.track for p in planned["long"]]
    assert all(p.origin is None for p in planned["long"])
    assert len({track.work_id for track in tracks}) == len(tracks)
    for split, (count, of_a_length) in OF_A_SPLIT.items():
        seconds = [float(track.extra["seconds"]) for track in tracks if track.split == split]
        assert len(seconds) == count
        assert (FEWEST - 1) * segment_s < min(seconds) and max(seconds) < (MOST + 0.1) * segment_s
        assert max(Counter(int(s / segment_s) for s in seconds).values()) <= of_a_length + 2
    assert sum(s > 9 * segment_s for s in seconds) and sum(s < 5 * segment_s for s in seconds)


def test_half_of_the_clips_are_by_new_captions_and_none_is_for_tuning(
    planned: dict[str, list[Planned]],
) -> None:
    for name, tracks in planned.items():
        queries = benchmark_of(name).queries(tracks)
        trained = {p.track.caption for p in tracks if p.track.split == "train"}
        assert Counter(query.kind for query in queries) == {"caption": 12, "recombined": 12}
        assert all((query.prompt in trained) == (query.kind == "caption") for query in queries)
        assert {query.split for query in queries} == {"reporting"}
        for distinct in ("name", "seed", "prompt"):
            assert len({getattr(query, distinct) for query in queries}) == 24
        assert Counter(query.kind for query in queries if query.heard) == {"caption": 3, "recombined": 3}


def test_deep_asks_for_nothing_that_methods_were_developed_on(planned: dict[str, list[Planned]]) -> None:
    seen = {query.prompt for query in first.plan_queries(planned["deep"])}
    assert not seen & {query.prompt for query in benchmark_of("deep").queries(planned["deep"])}


def test_a_plan_is_the_same_every_time(builtin: Catalogue, planned: dict[str, list[Planned]]) -> None:
    deep = benchmark_of("deep")
    assert deep.tracks(builtin) == planned["deep"]
    assert deep.queries(planned["deep"]) == deep.queries(planned["deep"])
