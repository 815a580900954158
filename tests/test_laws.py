"""Laws of what all else rests on: where noise levels lie, what an interval holds, what padding may say."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableAudioPipeline, StableAudioProjectionModel
from scipy.stats import binom, norm, t
from torch import Tensor

from conftest import draws_of, query_of
from linernotes.catalog.store import Catalogue
from linernotes.demo.places import BENCHMARK, MODEL, benchmark_parts
from linernotes.draws import Batch, Draws, levels_of, random_for, stratified_times
from linernotes.evaluation.bank.store import read_bank
from linernotes.evaluation.intervals import LEVEL, Interval, bootstrap_mean, interval, share
from linernotes.methods import readout
from linernotes.methods.contract import Prepared
from linernotes.methods.gradients import gradient_of_query
from linernotes.models.codec import LOWEST_HZ, SpectrogramCodec, mel_bands
from linernotes.models.stable_audio import StableAudio
from linernotes.models.workers import twin
from linernotes.settings.methods import METHOD_SETTINGS

BANDS, DRAWS = 4, 12  # draws in a band
CHANCE = 1e-4  # of a right interval to be called wrong, on either side
ROUNDING = {"rtol": 1e-5, "atol": 1e-6}  # float32, sums in another order


def parts_of(times: Tensor, count: int) -> list[int]:
    """In which of ``count`` equal parts of (0, 1) each time lies."""
    return (times.double() * count).floor().long().tolist()


@pytest.mark.parametrize("bands", [1, 2, 8])
def test_the_bands_of_the_noise_levels_are_their_equal_parts(bands: int) -> None:
    """Band b of n has one time in each equal part of [b/n, (b+1)/n): one after the other, bands are all
    levels, each once.
    """
    generator = random_for("a law", 0)
    times = torch.cat([stratified_times(DRAWS, generator, levels_of((b, bands))) for b in range(bands)])
    assert parts_of(times, bands * DRAWS) == list(range(bands * DRAWS))


def test_draws_are_their_seed(model: StableAudio) -> None:
    assert (
        draws_of(model, 8, seed=5).hash == draws_of(model, 8, seed=5).hash != draws_of(model, 8, seed=6).hash
    )


def test_there_is_one_draw_in_each_part_and_bands_are_neighbours(model: StableAudio) -> None:
    draws = draws_of(model, BANDS * DRAWS)
    assert parts_of(draws.tensors["t"], len(draws)) == list(range(len(draws)))
    assert [parts_of(part.tensors["t"], BANDS) for part in draws.bands(BANDS)] == [
        [b] * DRAWS for b in range(BANDS)
    ]
    assert torch.equal(torch.cat([part.tensors["eps"] for part in draws.bands(BANDS)]), draws.tensors["eps"])


def test_the_noisiest_quarter_is_the_upper_end(model: StableAudio) -> None:
    """Among the noisiest quarter of (0, 1), one draw in each equal part of it."""
    draws = model.draw(DRAWS, random_for("a law", 0), (0.75, 1.0))
    assert parts_of((draws.tensors["t"] - 0.75) * 4, DRAWS) == list(range(DRAWS))


def test_an_order_gives_noise_levels_to_draws(model: StableAudio) -> None:
    order = torch.tensor([2, 0, 3, 1])
    draws = model.draw(4, random_for("a law", 0), order=order)
    assert parts_of(draws.tensors["t"], 4) == order.tolist()


@pytest.mark.parametrize("method", ["readout", "grad-dot"])
def test_a_query_is_heard_at_every_noise_level_once(
    model: StableAudio, catalogue: Catalogue, tmp_path: Path, method: str
) -> None:
    """The query's draws of all bands, taken together, are one in each equal part of (0, 1), and each in the
    band it is for.
    """
    heard: list[Tensor] = []

    def target(items: Batch, draws: Draws) -> Tensor:
        heard.append(draws.tensors["t"])
        return model.target(items, draws)

    listening = copy.copy(model)
    listening.target = target  # type: ignore[method-assign]
    prepared, query = Prepared(listening, catalogue, tmp_path), query_of(catalogue, 2)
    settings = METHOD_SETTINGS[method](draws=BANDS, gradient_draws=BANDS * DRAWS, noise_bands=BANDS)
    if method == "readout":
        features = model.network.get_submodule(model.readout().layer).in_features + 1
        curvature_bff = torch.eye(features).expand(BANDS, -1, -1)
        readout.unlearning_steps(prepared, [query], curvature_bff, settings)
    else:
        for b in range(BANDS):
            gradient_of_query(prepared, query, settings, None, (b, BANDS))
    times = torch.cat(heard)
    assert parts_of(times, BANDS) == [b for b in range(BANDS) for _ in range(DRAWS)]
    assert sorted(parts_of(times, BANDS * DRAWS)) == list(range(BANDS * DRAWS))


def test_an_interval_leaves_out_a_fortieth_on_either_side() -> None:
    """Of resamples 0, 1, ..., 1000, whose quantiles are known; those without a value do not count, those
    without a bound do: where they are more than a fortieth the interval has none.
    """
    found = interval(7, np.concatenate([[np.nan], np.arange(1001.0)]))
    assert (found.value, found.low, found.high) == (7, pytest.approx(25), pytest.approx(975))
    assert math.isnan(interval(7, np.full(3, np.nan)).low)
    few, many = (interval(7, np.concatenate([np.arange(1000.0), np.full(n, np.inf)])) for n in (20, 30))
    assert (
        few.high == pytest.approx(994, abs=1) and many.high == np.inf and many.low == pytest.approx(26, abs=1)
    )
    assert share(np.array([1.0, 1.0]), np.array([2.0, 0.0]), np.inf).tolist() == [0.5, np.inf]


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    """The bootstrap's 95 % interval of the mean of n normal values is mean -+ 1.96 s sqrt((n - 1) / n) /
    sqrt(n): it misses as often as Student's t exceeds 1.96 sqrt((n - 1) / n), give or take what chance does
    to so many trials.
    """
    n, trials, truth = 50, 400, 0.3
    random = np.random.default_rng(0)
    found = [bootstrap_mean(truth + random.standard_normal(n), seed) for seed in range(trials)]
    reach = norm.ppf((1 + 0.95) / 2) * math.sqrt((n - 1) / n)
    expected = 1 - 2 * t.sf(reach, n - 1)
    least, most = binom.ppf([CHANCE, 1 - CHANCE], trials, expected)
    assert LEVEL == 0.95
    assert least <= sum(i.low <= truth <= i.high for i in found) <= most
    missed = binom.ppf([CHANCE, 1 - CHANCE], trials, (1 - expected) / 2)
    for side in (sum(i.low > truth for i in found), sum(i.high < truth for i in found)):
        assert missed[0] <= side <= missed[1]


def test_an_interval_is_said_without_leading_noughts() -> None:
    assert str(Interval(0.5, -0.25, 1.0)) == "0.50 [-.25,1.00]"


def test_padding_is_silent_whatever_the_projection_adds(model: StableAudio) -> None:
    """A projection with a bias gives padding a value; in the pipeline and here it is exactly zero, and the
    words are kept.
    """
    prompts = ["tone 1", "a low tone", ""]
    torch.manual_seed(0)
    size = model.embed_text([""]).shape[2]
    projection = StableAudioProjectionModel(
        text_encoder_dim=size, conditioning_dim=size // 2, min_value=0, max_value=512
    ).requires_grad_(False)
    projection.text_projection.bias.fill_(1.0)
    other = copy.copy(model)
    other.projection = projection
    text_nld = other.embed_text(prompts)
    latents_nct = torch.zeros(3, other.encoding.latent_channels, other.encoding.frames)
    ours_nld = other.items(latents_nct, text_nld, torch.full((3,), 0.5)).tensors["tokens"][
        :, : text_nld.shape[1]
    ]
    padding_nl = (
        torch.tensor(
            model.tokenizer(prompts, padding="max_length", max_length=text_nld.shape[1], truncation=True)[
                "attention_mask"
            ]
        )
        == 0
    )
    assert padding_nl.any() and not padding_nl.all(dim=1).any()
    assert (ours_nld[padding_nl] == 0).all()
    assert (ours_nld[~padding_nl] != 0).any(dim=1).all()
    pipeline = StableAudioPipeline(
        other.codec, other.text_encoder, projection, other.tokenizer, other.network, other.scheduler
    )
    with torch.inference_mode():
        torch.testing.assert_close(ours_nld, pipeline.encode_prompt(prompts, "cpu", False), **ROUNDING)


def test_a_twin_shares_every_weight_and_no_parameter(model: StableAudio) -> None:
    """Weights of one worker can be exchanged unseen by the others, and none is held twice."""
    other = twin(model)
    pairs = list(zip(model.network.parameters(), other.network.parameters(), strict=True))
    assert pairs
    assert all(mine is not theirs and mine.data_ptr() == theirs.data_ptr() for mine, theirs in pairs)


def test_mel_bands_are_equally_wide_in_mel() -> None:
    """mel = 1127 ln(1 + hz / 700): the bands' peaks lie at equal steps from the lowest frequency to half the
    rate.
    """
    bands, rate_hz, n_fft = 12, 16000, 1 << 14  # bins of 1 Hz
    peaks_hz = mel_bands(bands, n_fft, rate_hz).argmax(dim=1).double().numpy() * rate_hz / n_fft
    mel = 1127 * np.log1p(peaks_hz / 700)
    ends = 1127 * np.log1p(np.array([LOWEST_HZ, rate_hz / 2]) / 700)
    np.testing.assert_allclose(
        np.diff([ends[0], *mel, ends[1]]), (ends[1] - ends[0]) / (bands + 1), rtol=0.02
    )  # a bin


def test_a_louder_sound_is_decoded_louder_by_as_much() -> None:
    """With all components kept, coding is homogeneous: compression by a power and its inverse leave a gain as
    it is.
    """
    codec = SpectrogramCodec(8000, n_fft=256, spectrogram_hop=128, mels=8, patch=2, latent_channels=16)
    sound = torch.randn(1, 1, 2048, generator=torch.Generator().manual_seed(0)) * 0.1
    one, loud = (
        codec.decode(codec.encode(gain * sound).latents).sample[..., 256:-256] for gain in (1.0, 4.0)
    )
    # the floors that keep divisions finite do not scale
    assert float((loud - 4 * one).norm() / (4 * one).norm()) < 0.01


def test_noise_is_still_what_the_shipped_bank_was_made_with() -> None:
    """A seed means the same draws for ever: stored losses would be compared with others under the same
    name.
    """
    shipped = read_bank(benchmark_parts(BENCHMARK))
    model = StableAudio(MODEL)  # its latents are of the shape that the benchmark's model has
    assert (
        draws_of(model, shipped.header["draws"], shipped.header["noise_seed"]).hash == shipped.header["noise"]
    )
