"""How influence thins out: effects by rank and their law, in worlds where both are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from linernotes.cli.app import app
from linernotes.errors import LinernotesError
from linernotes.evaluation.bank.store import Bank
from linernotes.evaluation.thinning import PLACES, Law, measure_thinning
from linernotes.report.thinning import thinning_page
from test_truth import bank_of

STRENGTH, BY_RANK, BY_SIZE = 0.02, 0.8, 0.6


def law_of(tracks: int) -> np.ndarray:
    """The effect of each rank, the same within a bin: the law's mean there."""
    effect_n = STRENGTH * np.arange(1, tracks + 1) ** -BY_RANK * (tracks / 512) ** -BY_SIZE
    ends = [high for _, high in PLACES if high <= tracks // 2]
    return np.concatenate([np.full(len(part), part.mean()) for part in np.split(effect_n, ends)])


def world(tracks: int, noise: float = 0.0, halves: int = 24, clips: int = 12) -> tuple[Bank, np.ndarray]:
    """Halves with their complements, so that the mean loss of every clip is 1 exactly; clips rank the tracks
    each in its own way.
    """
    random = np.random.default_rng(tracks)
    some = np.stack([random.permutation(tracks) < tracks // 2 for _ in range(halves // 2)])
    present_mn = np.concatenate([some, ~some])
    order = np.stack([random.permutation(tracks) for _ in range(clips)])
    effect_qn, scores_qn = np.empty((clips, tracks)), np.empty((clips, tracks))
    for q in range(clips):
        effect_qn[q, order[q]] = law_of(tracks)
        scores_qn[q, order[q]] = np.linspace(1, 0, tracks)
    loss_mq = 1 - (present_mn - 0.5) @ effect_qn.T + noise * random.standard_normal((halves, clips))
    names = [f"half-{i:03d}" for i in range(halves)]
    return bank_of(present_mn, loss_mq, ["half"] * halves, names), scores_qn


def test_effects_by_rank_are_found_exactly_where_nothing_is_noisy() -> None:
    tracks = 128
    bank, scores_qn = world(tracks)
    (size,) = measure_thinning("readout", [("small", bank, scores_qn)]).sizes
    effect_n = law_of(tracks) - law_of(tracks)[-1]
    assert [(each.first, each.last) for each in size.ranks] == [(1, 3), (4, 10), (11, 20), (21, 50)]
    for each in size.ranks:
        assert each.effect.value == pytest.approx(effect_n[each.first - 1], rel=1e-6)
    assert size.last == (51, 128) and size.told == 50
    assert size.together.value == pytest.approx(effect_n.sum(), rel=1e-6)
    for count, share in size.first.items():
        assert share.value == pytest.approx(effect_n[:count].sum() / effect_n.sum(), rel=1e-6)


def test_ranks_by_chance_are_worth_nothing() -> None:
    bank, scores_qn = world(128, noise=0.01)
    chance = np.random.default_rng(7).random(scores_qn.shape)
    (size,) = measure_thinning("random", [("small", bank, chance)]).sizes
    assert size.told == 0 and all(each.effect.low < 0 < each.effect.high for each in size.ranks)


def test_the_law_is_found_again_and_says_what_it_means_for_more_tracks() -> None:
    cases = [(f"of {n}", *world(n)) for n in (128, 256, 512)]
    law = measure_thinning("readout", cases).law
    assert law is not None
    found = (law.strength.value, law.by_rank.value, law.by_size.value)
    assert found == pytest.approx((STRENGTH, BY_RANK, BY_SIZE), rel=1e-3)
    effect_n = law.effects(np.arange(1, 10_001), 10_000)
    forecast = next(each for each in law.forecasts if each.tracks == 10_000)
    assert forecast.first_effect.value == pytest.approx(effect_n[:3].mean())
    assert forecast.first_share.value == pytest.approx(effect_n[:20].sum() / effect_n.sum())
    assert forecast.noticed.value == (effect_n >= 1e-3).sum()


def test_sizes_are_told_in_order_and_one_alone_has_no_law() -> None:
    large, small = ("large", *world(256)), ("small", *world(128))
    found = measure_thinning("readout", [large, small])
    assert [size.name for size in found.sizes] == ["small", "large"] and isinstance(found.law, Law)
    assert measure_thinning("readout", [large]).law is None
    page = thinning_page(found, "picture.svg", "command")
    assert "| ranks | 128 tracks (`small`) | 256 tracks (`large`) |" in page and "## A law" in page


def test_too_few_halves_are_refused() -> None:
    bank, scores_qn = world(128, halves=2)
    with pytest.raises(LinernotesError, match="2 halves, too few for an interval"):
        measure_thinning("readout", [("small", bank, scores_qn)])


def test_the_first_benchmark_s_effects_from_the_command_line(tmp_path: Path) -> None:
    words = ["evaluate", "thinning", "--benchmarks", "benchmark", "-o", str(tmp_path / "page.md"), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert [row["ranks"] for row in told["effects"]][:2] == ["1 to 3", "4 to 10"]
    assert told["effects"][0]["benchmark_low"] > 0 and told["sizes"][0]["tracks"] == 512
    assert {path.name for path in tmp_path.iterdir()} == {"page.md", "page.svg"}
