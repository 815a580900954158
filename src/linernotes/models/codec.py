"""The built-in codec: sound -> patches of a compressed mel spectrogram -> their principal components, and
back by Griffin-Lim.

It stands where a Stable Audio pipeline has its AutoencoderOobleck and answers to the same calls. Amplitudes
are compressed by a cube root, as loudness is heard (Stevens 1957); all else is linear, so the codec is fitted
in closed form, in seconds, and its encoder has no randomness. Why not a logarithm: dev/LOG.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

LOWEST_HZ = 30.0
MEL_INVERSION_STEPS = 20
GRIFFIN_LIM_STEPS = 32
GRIFFIN_LIM_MOMENTUM = 0.99


@dataclass(frozen=True)
class Encoded:
    """What ``encode`` returns, in the form of diffusers' autoencoders: a distribution that is a single
    point.
    """

    latents: Tensor

    @property
    def latent_dist(self) -> Encoded:
        return self

    def mode(self) -> Tensor:
        return self.latents

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        return self.latents


@dataclass(frozen=True)
class Decoded:
    """What ``decode`` returns, in the form of diffusers' autoencoders."""

    sample: Tensor


class SpectrogramCodec(ModelMixin, ConfigMixin):
    """Mono sound ``[B, 1, S]`` <-> latents ``[B, latent_channels, S / hop_length]``.

    A latent frame is a patch of ``patch`` spectrogram frames of ``mels`` bands: compressed amplitudes, minus
    their mean, on the leading principal components, each divided by its scale. The scale is the square root
    of the component's standard deviation (half-whitened), so that what is loud in the data stays the larger
    part of a diffusion loss.
    """

    @register_to_config
    def __init__(
        self,
        sampling_rate: int = 22050,
        n_fft: int = 2048,
        spectrogram_hop: int = 512,
        mels: int = 160,
        patch: int = 4,
        latent_channels: int = 64,
        exponent: float = 1 / 3,
        audio_channels: int = 1,
    ) -> None:
        super().__init__()
        size = mels * patch
        self.hop_length = spectrogram_hop * patch
        self.sampling_rate = sampling_rate
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("components", torch.eye(size)[:latent_channels].contiguous())
        self.register_buffer("scale", torch.ones(latent_channels))
        self.register_buffer("bands", mel_bands(mels, n_fft, sampling_rate), persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def encode(self, sound_b1s: Tensor) -> Encoded:
        """Sound whose length is a multiple of ``hop_length`` -> latents ``[B, C, T]``."""
        patches_btp = self.patches(sound_b1s)
        latents_btc = (patches_btp - self.mean) @ self.components.T / self.scale
        return Encoded(latents_btc.transpose(1, 2).contiguous())

    def decode(self, latents_bct: Tensor) -> Decoded:
        """Latents -> sound ``[B, 1, T * hop_length]``: mel amplitudes, linear amplitudes, then phases by
        Griffin-Lim.
        """
        patches_btp = (latents_bct.transpose(1, 2) * self.scale) @ self.components + self.mean
        batch, frames, _ = patches_btp.shape
        mels, patch = self.config.mels, self.config.patch
        level_bmf = (
            patches_btp.reshape(batch, frames, mels, patch)
            .transpose(1, 2)
            .reshape(batch, mels, frames * patch)
        )
        amplitude_bmf = level_bmf.clamp_min(0) ** (1 / self.config.exponent)
        return Decoded(self._griffin_lim(self._unmel(amplitude_bmf))[:, None])

    def patches(self, sound_b1s: Tensor) -> Tensor:
        """Sound -> compressed mel patches ``[B, T, mels * patch]``."""
        spectrum_bfn = self._stft(sound_b1s[:, 0])
        level_bmn = (self.bands @ spectrum_bfn.abs()) ** self.config.exponent
        batch, mels, frames = level_bmn.shape
        patch = self.config.patch
        split = level_bmn.reshape(batch, mels, frames // patch, patch).transpose(1, 2)
        return split.reshape(batch, frames // patch, mels * patch)

    def fit(self, sounds: Iterable[Tensor]) -> float:
        """Sets mean, components and scale from batches of sound ``[B, 1, S]``; returns the share of variance
        kept.
        """
        size = self.mean.numel()
        count, total, products = (
            0,
            torch.zeros(size, dtype=torch.float64),
            torch.zeros(size, size, dtype=torch.float64),
        )
        for sound_b1s in sounds:
            flat = self.patches(sound_b1s).flatten(0, 1).double()
            count += flat.shape[0]
            total += flat.sum(0)
            products += flat.T @ flat
        mean = total / count
        variances, vectors = torch.linalg.eigh(products / count - torch.outer(mean, mean))
        kept = self.config.latent_channels
        variances, vectors = variances.flip(0), vectors.flip(1)[:, :kept]
        # an eigenvector's sign is arbitrary: fix it, so that a refit gives the same latents
        vectors = vectors * vectors[vectors.abs().argmax(0), torch.arange(kept)].sign()
        deviations = variances[:kept].clamp_min(1e-12).sqrt()
        scale = deviations.sqrt()
        scale = scale * (deviations / scale).square().mean().sqrt()  # latents have mean square 1
        self.mean.copy_(mean)
        self.components.copy_(vectors.T)
        self.scale.copy_(scale)
        return float(variances[:kept].sum() / variances.sum())

    def _stft(self, sound_bs: Tensor) -> Tensor:
        hop, n_fft = self.config.spectrogram_hop, self.config.n_fft
        spectrum = torch.stft(
            sound_bs, n_fft, hop, window=self.window, center=True, pad_mode="constant", return_complex=True
        )
        return spectrum[..., : sound_bs.shape[-1] // hop]

    def _unmel(self, amplitude_bmf: Tensor) -> Tensor:
        """The non-negative spectrum whose bands are nearest: multiplicative updates (Lee & Seung 2001, eq.
        4).
        """
        spread = self.bands.T / self.bands.T.sum(1, keepdim=True).clamp_min(1e-8)
        spectrum = spread @ amplitude_bmf
        wanted = self.bands.T @ amplitude_bmf
        for _ in range(MEL_INVERSION_STEPS):
            spectrum = spectrum * wanted / (self.bands.T @ (self.bands @ spectrum) + 1e-8)
        return spectrum

    def _griffin_lim(self, spectrum_bfn: Tensor) -> Tensor:
        """Phases for an amplitude spectrum: fast Griffin-Lim (Perraudin et al. 2013), from fixed random
        phases.
        """
        n_fft, hop = self.config.n_fft, self.config.spectrogram_hop
        length = spectrum_bfn.shape[-1] * hop
        generator = torch.Generator().manual_seed(0)
        angles = (2 * math.pi * torch.rand(spectrum_bfn.shape[1:], generator=generator)).to(
            spectrum_bfn.device
        )
        phase = torch.polar(torch.ones_like(angles), angles).expand(spectrum_bfn.shape)
        previous = torch.zeros_like(phase)
        for _ in range(GRIFFIN_LIM_STEPS):
            sound = torch.istft(
                spectrum_bfn * phase, n_fft, hop, window=self.window, center=True, length=length
            )
            rebuilt = self._stft(sound)
            phase = torch.sgn(rebuilt - previous * (GRIFFIN_LIM_MOMENTUM / (1 + GRIFFIN_LIM_MOMENTUM)))
            previous = rebuilt
        return torch.istft(spectrum_bfn * phase, n_fft, hop, window=self.window, center=True, length=length)


def mel_bands(mels: int, n_fft: int, rate_hz: int) -> Tensor:
    """Triangular bands ``[mels, n_fft // 2 + 1]``, equally spaced in mel up to half the rate, each summing to
    1.
    """
    bins_hz = torch.linspace(0, rate_hz / 2, n_fft // 2 + 1, dtype=torch.float64)
    lowest, highest = (1127 * math.log(1 + hz / 700) for hz in (LOWEST_HZ, rate_hz / 2))
    edges_hz = 700 * (torch.exp(torch.linspace(lowest, highest, mels + 2, dtype=torch.float64) / 1127) - 1)
    low, centre, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising, falling = (bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre)
    bands = torch.minimum(rising, falling).clamp_min(0)
    return (bands / bands.sum(1, keepdim=True).clamp_min(1e-8)).float()
