"""Objectives: paths, targets and the times that training drew."""

import math

import pytest
import torch
from scipy.stats import kstest

from linernotes.draws import stratified_times
from linernotes.errors import UsageError
from linernotes.models.objectives import CUT_SHARE, Objective, shift_of_length
from linernotes.models.sampling import descend

EXACT = 1e-12  # in float64
SPEED = {"v": math.pi / 2, "flow": 1.0}  # of the path, in units of the target
SAMPLERS = {
    "uniform": Objective(),
    "logit_normal": Objective("flow", "logit_normal", mean=-0.4, deviation=1.2),
    "trunc_logit_normal": Objective("flow", "trunc_logit_normal"),
    "log_snr": Objective("flow", "log_snr", mean=-1.2, deviation=2.0),
}


def latents(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("path", ["v", "flow"])
def test_the_target_is_the_direction_in_which_the_path_goes(path):
    objective, clean, eps = Objective(path), latents(0), latents(1)
    t = torch.tensor([0.1, 0.5, 0.93], dtype=torch.float64)
    _, moved = torch.func.jvp(lambda t: objective.noised(clean, eps, t), (t,), (torch.ones_like(t),))
    torch.testing.assert_close(moved, SPEED[path] * objective.target(clean, eps, t), rtol=0, atol=EXACT)


@pytest.mark.parametrize("path", ["v", "flow"])
def test_a_path_goes_from_the_latent_to_noise(path):
    objective, clean, eps = Objective(path), latents(0), latents(1)
    for t, end in ((0.0, clean), (1.0, eps)):
        at = objective.noised(clean, eps, torch.full((3,), t, dtype=torch.float64))
        torch.testing.assert_close(at, end, rtol=0, atol=EXACT)


@pytest.mark.parametrize("path", ["v", "flow"])
def test_a_right_prediction_gives_back_latent_and_noise(path):
    objective, clean, eps = Objective(path), latents(0), latents(1)
    t = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
    found = objective.ends(objective.noised(clean, eps, t), objective.target(clean, eps, t), t)
    torch.testing.assert_close(found, (clean, eps), rtol=0, atol=EXACT)


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("path", ["v", "flow"])
def test_a_sampler_that_is_told_the_way_arrives(path, fresh):
    """Where all latents are one and the same, the right prediction is known in closed form."""
    objective, clean = Objective(path, shift=2.0), latents(0)

    def predict(noisy, t):
        if path == "flow":  # eps = (z_t - (1 - t) z_0) / t
            return (noisy - clean) / t[:, None, None]
        angle = t[:, None, None] * math.pi / 2
        return (torch.cos(angle) * noisy - clean) / torch.sin(angle)

    seen = []
    found = descend(
        predict,
        latents(1),
        objective,
        steps=5,
        fresh=torch.Generator().manual_seed(0) if fresh else None,
        on_step=lambda done, steps: seen.append((done, steps)),
    )
    torch.testing.assert_close(found, clean, rtol=0, atol=1e-6)  # the schedule is in float32
    assert seen == [(i, 5) for i in range(1, 6)]


def test_uniform_times_are_the_stratified_ones_to_the_last_bit():
    times = Objective().times(16, torch.Generator().manual_seed(3), (0.25, 0.5))
    assert torch.equal(times, stratified_times(16, torch.Generator().manual_seed(3), (0.25, 0.5)))


def drawn_as_in_training(name, objective, count, generator):
    """Times as stable-audio-tools' training draws them, written out naively."""
    z = torch.randn(count, generator=generator, dtype=torch.float64)
    match name:
        case "uniform":
            t = torch.rand(count, generator=generator, dtype=torch.float64)
        case "logit_normal":
            t = torch.sigmoid(objective.mean + objective.deviation * z)
        case "trunc_logit_normal":
            x = torch.sigmoid(z)
            t = 1 - (x[x >= CUT_SHARE] - CUT_SHARE) / (1 - CUT_SHARE)
        case "log_snr":
            t = 1 / (1 + torch.exp(objective.mean + objective.deviation * z))
    return t


@pytest.mark.parametrize("name", SAMPLERS)
def test_times_have_the_distribution_that_training_drew_from(name):
    objective, count = SAMPLERS[name], 4000
    drawn = drawn_as_in_training(name, objective, count, torch.Generator().manual_seed(0))
    ours = objective.times(20_000, torch.Generator().manual_seed(1)).double()
    assert bool((ours.diff() >= 0).all())
    # 20,000 stratified times are their distribution to 1 in 20,000; what is left is the 4,000 drawn ones'
    assert kstest(drawn.numpy(), ours.numpy()).pvalue > 0.01


@pytest.mark.parametrize("name", SAMPLERS)
def test_bands_are_parts_of_the_whole(name):
    objective = SAMPLERS[name]
    ends = objective.time_at(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
    for band in range(4):
        times = objective.times(8, torch.Generator().manual_seed(band), (band / 4, (band + 1) / 4))
        assert bool((times >= ends[band] - 1e-6).all())
        assert bool((times <= ends[band + 1] + 1e-6).all())
    assert 0 <= ends[0] < ends[2] < ends[4] <= 1


def test_shifts_follow_one_another_as_their_product_would():
    t = torch.linspace(0, 1, 33, dtype=torch.float64)
    twice = Objective(shift=3.0).shifted(Objective(shift=0.5).shifted(t))
    torch.testing.assert_close(twice, Objective(shift=1.5).shifted(t), rtol=0, atol=EXACT)


@pytest.mark.parametrize("frames", [100, 256, 1024, 9999])
def test_the_shift_of_a_length_is_stable_audio_tools_own(frames):
    t = torch.linspace(0.01, 0.99, 17, dtype=torch.float64)
    base, most, longest, shortest = 0.5, 1.15, 4096, 256
    mu = -(base + (most - base) * (min(max(frames, shortest), longest) - shortest) / (longest - shortest))
    expected = 1 - math.exp(mu) / (math.exp(mu) + 1 / (1 - t) - 1)
    torch.testing.assert_close(Objective(shift=shift_of_length(frames)).shifted(t), expected)
    sine = Objective(shift=shift_of_length(frames), sine=True).shifted(t)
    torch.testing.assert_close(sine, torch.sin(expected * math.pi / 2))


@pytest.mark.parametrize("sampler", ["logit_normal", "log_snr"])
def test_a_share_of_pure_noise_is_the_noisiest_part(sampler):
    objective = Objective("flow", sampler, pure_noise=0.25)
    times = objective.times(400, torch.Generator().manual_seed(0))
    assert int((times == 1).sum()) == 100
    rest = Objective("flow", sampler).time_at(torch.tensor([0.5]))
    torch.testing.assert_close(objective.time_at(torch.tensor([0.375])), rest)


def test_a_schedule_goes_from_noise_to_clean():
    schedule = Objective("flow", shift=2.0).schedule(10)
    assert len(schedule) == 11
    assert (schedule[0], schedule[-1]) == (1, 0)
    assert bool((schedule.diff() < 0).all())


@pytest.mark.parametrize(
    "wrong",
    [{"path": "eps"}, {"sampler": "cosine"}, {"shift": 0.0}, {"deviation": -1.0}, {"pure_noise": 1.0}],
)
def test_what_is_not_known_is_refused(wrong):
    with pytest.raises(UsageError):
        Objective(**wrong)
