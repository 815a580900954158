"""How influence thins out: effects by rank and their law, in worlds where both are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from linernotes.cli.app import app
from linernotes.errors import LinernotesError
from linernotes.evaluation.thinning import STARTS, Law, Sized, measure_thinning
from linernotes.report.thinning import thinning_page
from test_truth import bank_of

STRENGTH, BY_RANK, BY_SIZE = 0.02, 0.8, 0.6


def law_of(tracks: int, by_size: float = BY_SIZE) -> np.ndarray:
    """The effect of each rank, the same within a bin: the law's mean there."""
    effect_n = STRENGTH * np.arange(1, tracks + 1) ** -BY_RANK * (tracks / 512) ** -by_size
    *inner, _ = (low - 1 for low in STARTS[1:] if low - 1 <= tracks // 2)  # the last bin goes to the half
    return np.concatenate(
        [np.full(len(part), part.mean()) for part in np.split(effect_n, [*inner, tracks // 2])]
    )


def world(
    tracks: int,
    noise: float = 0.0,
    halves: int = 24,
    clips: int = 12,
    again: int = 4,
    by_size: float = BY_SIZE,
    times: float = 1.0,
) -> Sized:
    """Halves with their complements, so that the mean loss of every clip is 1 exactly, some of them twice;
    clips rank the tracks each in its own way.
    """
    random = np.random.default_rng(tracks)
    some = np.stack([random.permutation(tracks) < tracks // 2 for _ in range(halves // 2)])
    present_mn = np.concatenate([some, ~some])
    order = np.stack([random.permutation(tracks) for _ in range(clips)])
    effect_qn, scores_qn = np.empty((clips, tracks)), np.empty((clips, tracks))
    for q in range(clips):
        effect_qn[q, order[q]] = times * law_of(tracks, by_size)
        scores_qn[q, order[q]] = np.linspace(1, 0, tracks)
    present_mn = np.concatenate([present_mn, present_mn[:again]])
    loss_mq = 1 - (present_mn - 0.5) @ effect_qn.T
    loss_mq += noise * random.standard_normal(loss_mq.shape)
    names = [f"half-{i:03d}" for i in range(halves)] + [f"half-{i:03d}-again" for i in range(again)]
    bank = bank_of(present_mn, loss_mq, ["half"] * halves + ["again"] * again, names)
    bank.header["training"] = {"steps": 2 * tracks, "batch_size": 16}
    return Sized(f"of {tracks}", bank, {"readout": scores_qn})


def test_effects_by_rank_are_found_exactly_where_nothing_is_noisy() -> None:
    tracks = 128
    (size,) = measure_thinning([world(tracks)]).sizes["readout"]
    effect_n = law_of(tracks) - law_of(tracks)[-1]
    assert [(each.first, each.last) for each in size.ranks] == [(1, 3), (4, 10), (11, 20), (21, 64)]
    for each in size.ranks:
        assert each.effect.value == pytest.approx(effect_n[each.first - 1], rel=1e-6)
    assert (size.told, size.halves, size.models) == (64, 24, 28)
    assert size.together.value == pytest.approx(effect_n.sum(), rel=1e-6)
    for count, share in size.first.items():
        assert share.value == pytest.approx(effect_n[:count].sum() / effect_n.sum(), rel=1e-6)
    assert list(size.first) == [3, 10, 20]  # of all there are shares none is said


def test_ranks_by_chance_are_worth_nothing() -> None:
    case = world(128, noise=0.01)
    chance = np.random.default_rng(7).random(case.scores["readout"].shape)
    found = measure_thinning([replace(case, scores={**case.scores, "random": chance})])
    (size,) = found.sizes["random"]
    assert found.methods == ["readout", "random"] and found.sizes["readout"][0].told > 0
    assert not size.first and found.sizes["readout"][0].first  # a share of nothing is none
    assert size.told == 0 and all(each.effect.low < 0 < each.effect.high for each in size.ranks)


def test_the_law_is_found_again_and_says_what_it_means_for_more_tracks() -> None:
    law = measure_thinning([world(n) for n in (128, 256, 512)]).law
    assert law is not None
    found = (law.strength.value, law.by_rank.value, law.by_size.value)
    assert found == pytest.approx((STRENGTH, BY_RANK, BY_SIZE), rel=1e-3)
    effect_n = law.effects(2 * np.arange(1, 10_001), 20_000)  # a model of half of these has every second
    forecast = next(each for each in law.forecasts if each.learned == 10_000)
    assert forecast.first_effect.value == pytest.approx(effect_n[:3].mean())
    assert forecast.noticed.value == (effect_n >= 1e-3).sum()


@pytest.mark.parametrize("by_size", [-0.3, 0.0])
def test_influence_that_does_not_thin_out_is_found_as_such(by_size: float) -> None:
    law = measure_thinning([world(n, noise=0.005, by_size=by_size) for n in (128, 256, 512)]).law
    assert law is not None and law.by_size.low < by_size < law.by_size.high
    assert law.by_size.low < 0


def test_a_law_that_does_not_hold_is_said_to_miss_and_is_the_less_sure_for_it() -> None:
    sizes = (128, 256, 512, 1024)
    held = measure_thinning([world(n, noise=0.002) for n in sizes]).law
    # the largest catalogue's tracks are worth ten times what the others would have them be
    broken = measure_thinning([world(n, noise=0.002, times=10 if n == 1024 else 1) for n in sizes]).law
    assert held is not None and broken is not None
    # of every size with two smaller ones, and only the largest breaks the law
    assert [[each.tracks for each in law.foretold] for law in (held, broken)] == [[512, 1024]] * 2
    assert held.foretold[0].probability == broken.foretold[0].probability > 0.01
    assert held.misfit < 2 < broken.misfit
    assert held.foretold[-1].probability > 0.01 > broken.foretold[-1].probability
    width = [law.by_size.high - law.by_size.low for law in (held, broken)]
    assert width[1] > 2 * width[0]
    found, said = held.foretold[-1].ranks[0]
    assert said.low < found.effect.value < said.high
    page = [thinning_page(measure_thinning([world(n, noise=0.002) for n in sizes]), "picture.svg", "command")]
    assert "Does it carry over to more tracks?" in page[0]


def test_sizes_are_told_in_order_and_one_alone_has_no_law() -> None:
    small, large = world(128), world(256)
    found = measure_thinning([large, small])
    assert [size.name for size in found.sizes["readout"]] == ["of 128", "of 256"]
    assert isinstance(found.law, Law) and not found.law.foretold
    assert measure_thinning([large]).law is None
    twice = replace(world(256), name="the same again")
    two_sizes = measure_thinning([small, large, twice]).law
    assert two_sizes is not None and not two_sizes.foretold  # nothing is foretold from one size
    page = thinning_page(found, "picture.svg", "command")
    assert "| ranks | 128 tracks (`of 128`) | 256 tracks (`of 256`) |" in page and "## A law" in page
    assert "| `21 to 64` |" in page and "| `51 to 128` |" in page


def test_too_few_halves_or_tracks_are_refused() -> None:
    with pytest.raises(LinernotesError, match="2 halves, too few for an interval"):
        measure_thinning([world(128, halves=2, again=1)])
    with pytest.raises(LinernotesError, match="6 tracks, too few for an interval"):
        measure_thinning([world(6)])


def test_models_that_differ_in_more_than_size_are_refused() -> None:
    one, other = world(128), world(256)
    other.bank.header["training"] = {"steps": 128, "batch_size": 16}
    with pytest.raises(LinernotesError, match=r"of 256 was trained otherwise than of 128 \(steps a track\)"):
        measure_thinning([one, other])


def test_a_model_without_a_loss_is_named() -> None:
    case = world(128)
    case.bank.loss_mqk[3] = np.nan
    with pytest.raises(LinernotesError, match=r"without a loss \(half-003\)"):
        measure_thinning([case])


def test_the_first_benchmark_s_effects_from_the_command_line(tmp_path: Path) -> None:
    words = ["evaluate", "thinning", "--benchmarks", "benchmark", "-o", str(tmp_path / "page.md"), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert [row["ranks"] for row in told["effects"]][:2] == ["1 to 3", "4 to 10"]
    assert told["effects"][0]["benchmark_low"] > 0 and told["sizes"][0]["tracks"] == 512
    assert {path.name for path in tmp_path.iterdir()} == {"page.md", "page.svg"}
