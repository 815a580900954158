"""What a diffusion or flow model was trained to predict, and at which noise levels: the path from a clean
latent to noise, the target on it, and the distribution of times that training drew.

Times t run from 0 (clean) to 1 (noise). They are made from a *rank* in 0..1, the share of training's draws
that were less noisy: equal parts of the ranks are equally frequent in training, whatever its sampler. With
the uniform sampler rank and time are one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from linernotes.draws import EVERY_LEVEL, Levels, stratified_times
from linernotes.errors import UsageError

PathKind = Literal["v", "flow"]
CUT_SHARE = 0.075  # stable-audio-tools' trunc_logit_normal leaves out logistic-normal values below it
LEAST_TIME = 1e-4  # and its log_snr keeps so far away from either end


@dataclass(frozen=True)
class Objective:
    """How a model was trained.

    ``path``: ``"v"``: z_t = cos(pi t / 2) z_0 + sin(pi t / 2) eps, target cos(pi t / 2) eps - sin(pi t / 2)
    z_0 (Salimans & Ho 2022, sec. 4); ``"flow"``: z_t = (1 - t) z_0 + t eps, target eps - z_0 (Liu et al.
    2022, eq. 1).

    Raises:
        UsageError: a path or sampler that is not known, or a number out of its range.
    """

    path: PathKind = "v"
    sampler: str = "uniform"  # of SAMPLERS: times before the shift
    mean: float = 0.0  # of what the sampler's normal variable is: logits of t, or log-SNR
    deviation: float = 1.0
    shift: float = 1.0  # s in t' = s t / (1 + (s - 1) t), Esser et al. 2024, eq. 23
    sine: bool = False  # whether training then took sin(pi t' / 2)
    pure_noise: float = 0.0  # share of draws that training set to t = 1

    def __post_init__(self) -> None:
        if self.path not in ("v", "flow"):
            raise UsageError(f"there is no objective {self.path!r}: choose v or flow")
        if self.sampler not in SAMPLERS:
            raise UsageError(
                f"there is no time sampler {self.sampler!r}: choose one of {', '.join(SAMPLERS)}"
            )
        if not (self.deviation > 0 and self.shift > 0 and 0 <= self.pure_noise < 1):
            raise UsageError(
                f"deviation {self.deviation} and shift {self.shift} of times must be above 0, and the share "
                f"of pure noise {self.pure_noise} from 0 to less than 1: mend them"
            )

    def times(self, draws: int, generator: torch.Generator, levels: Levels = EVERY_LEVEL) -> Tensor:
        """``draws`` times ``[K]``, one in each equal part of the ranks in ``levels``, in increasing order."""
        return self.time_at(stratified_times(draws, generator, levels))

    def time_at(self, rank_k: Tensor) -> Tensor:
        """The times that have these shares of training's draws below them, ``[K]`` in 0..1."""
        drawn_k = rank_k / (1 - self.pure_noise) if self.pure_noise else rank_k
        t_k = self.shifted(SAMPLERS[self.sampler](drawn_k.clamp(max=1), self.mean, self.deviation))
        return torch.where(drawn_k < 1, t_k, 1.0) if self.pure_noise else t_k

    def shifted(self, t_k: Tensor) -> Tensor:
        """Times as the shift leaves them; 0 and 1 stay where they are."""
        if self.shift != 1:
            t_k = self.shift * t_k / (1 + (self.shift - 1) * t_k)
        return torch.sin(t_k * math.pi / 2) if self.sine else t_k

    def schedule(self, steps: int) -> Tensor:
        """The ``steps + 1`` times, from 1 down to 0, between which a sampler goes."""
        return self.shifted(torch.linspace(1, 0, steps + 1))

    def noised(self, clean_bct: Tensor, eps_bct: Tensor, t_b: Tensor) -> Tensor:
        """Latents at the times ``t_b``, ``[B, C, T]``."""
        clean_b11, noise_b11 = self._weights(t_b)
        return clean_b11 * clean_bct + noise_b11 * eps_bct

    def target(self, clean_bct: Tensor, eps_bct: Tensor, t_b: Tensor) -> Tensor:
        """What the network is to predict there, ``[B, C, T]``."""
        if self.path == "flow":
            return eps_bct - clean_bct
        clean_b11, noise_b11 = self._weights(t_b)
        return clean_b11 * eps_bct - noise_b11 * clean_bct

    def ends(self, noisy_bct: Tensor, predicted_bct: Tensor, t_b: Tensor) -> tuple[Tensor, Tensor]:
        """The clean latent and the noise that a prediction amounts to, each ``[B, C, T]``."""
        clean_b11, noise_b11 = self._weights(t_b)
        if self.path == "flow":
            return noisy_bct - noise_b11 * predicted_bct, noisy_bct + clean_b11 * predicted_bct
        return (
            clean_b11 * noisy_bct - noise_b11 * predicted_bct,
            noise_b11 * noisy_bct + clean_b11 * predicted_bct,
        )

    def _weights(self, t_b: Tensor) -> tuple[Tensor, Tensor]:
        """How much of the clean latent and of noise there is at each time, each ``[B, 1, 1]``."""
        t_b11 = t_b[:, None, None]
        if self.path == "flow":
            return 1 - t_b11, t_b11
        angle_b11 = t_b11 * math.pi / 2
        return torch.cos(angle_b11), torch.sin(angle_b11)


def shift_of_length(
    frames: int, base: float = 0.5, most: float = 1.15, longest: int = 4096, shortest: int = 256
) -> float:
    """The shift s of stable-audio-tools' ``distribution_shift`` (and of FLUX) for latents of so many frames:
    log s goes linearly from ``base`` to ``most`` between the two lengths.
    """
    share = (min(max(frames, shortest), longest) - shortest) / (longest - shortest)
    return math.exp(base + (most - base) * share)


def _uniform(rank_k: Tensor, mean: float, deviation: float) -> Tensor:
    return rank_k


def _logit_normal(rank_k: Tensor, mean: float, deviation: float) -> Tensor:
    """The logit of t is normal."""
    return torch.sigmoid(mean + deviation * _quantile(rank_k))


def _cut_logit_normal(rank_k: Tensor, mean: float, deviation: float) -> Tensor:
    """1 - x, where the logit of x is normal, x below ``CUT_SHARE`` is left out and the rest stretched to
    0..1.
    """
    cut = torch.special.ndtr((torch.logit(torch.tensor(CUT_SHARE, dtype=torch.float64)) - mean) / deviation)
    x_k = torch.sigmoid(mean + deviation * _quantile(cut + (1 - cut) * (1 - rank_k.double())))
    return (1 - (x_k - CUT_SHARE) / (1 - CUT_SHARE)).clamp(0, 1).to(rank_k.dtype)


def _log_snr(rank_k: Tensor, mean: float, deviation: float) -> Tensor:
    """ln((1 - t) / t) is normal."""
    t_k = torch.sigmoid(deviation * _quantile(rank_k) - mean)
    return t_k.clamp(LEAST_TIME, 1 - LEAST_TIME)


def _quantile(rank_k: Tensor) -> Tensor:
    """Of the standard normal distribution."""
    return torch.special.ndtri(rank_k.double()).to(rank_k.dtype)


SAMPLERS: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "uniform": _uniform,
    "logit_normal": _logit_normal,
    "trunc_logit_normal": _cut_logit_normal,
    "log_snr": _log_snr,
}
