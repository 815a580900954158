"""The model contract: all that linernotes asks of a generative model. To support a new one, write a class with these
methods; nothing else in linernotes knows which model it works on.

Sound is ``[B, channels, samples]`` float32 in -1..1; latents are ``[B, C, T]``; a *frame* is one latent step in time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from linernotes.settings.methods import LayerKind


@dataclass(frozen=True)
class Conditioning:
    """What the denoiser is told about each clip: named tensors whose first axis is the batch."""

    tensors: dict[str, Tensor]

    def __getitem__(self, index: slice | Tensor) -> Conditioning:
        return Conditioning({name: tensor[index] for name, tensor in self.tensors.items()})

    def repeat(self, times: int) -> Conditioning:
        """The whole batch ``times`` times over, one copy after the other."""
        return Conditioning({n: t.repeat(times, *(1,) * (t.ndim - 1)) for n, t in self.tensors.items()})


@dataclass(frozen=True)
class Shape:
    """Sizes of what a model hears and generates."""

    rate_hz: int
    channels: int
    latent_channels: int
    frames: int  # frames in one segment: the longest clip the model generates
    frame_samples: int  # samples in one frame

    @property
    def segment_samples(self) -> int:
        return self.frames * self.frame_samples

    @property
    def segment_s(self) -> float:
        return self.segment_samples / self.rate_hz


class GenerativeModel(Protocol):
    """A text-to-music model, ready in fp32, evaluation mode, without gradients."""

    name: str
    shape: Shape
    codec_hash: str  # of what turns sound into latents
    text_hash: str  # of what turns prompts into text embeddings
    weights_hash: str  # of the trained weights that item losses depend on
    denoiser: nn.Module  # holds every layer that can be unlearned

    def encode(self, sound_bcs: Tensor) -> Tensor:
        """Sound of one segment's length -> latents ``[B, C, T]``, without randomness (the posterior's mode)."""

    def decode(self, latents_bct: Tensor) -> Tensor:
        """Latents -> sound ``[B, channels, samples]``."""

    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        """Prompts -> text embeddings ``[B, L, D]`` of the frozen text encoder; what a catalogue stores."""

    def condition(self, text_bld: Tensor, seconds_b: Tensor) -> Conditioning:
        """Text embeddings and the clip's duration in seconds -> conditioning."""

    def loss_bt(self, latents_bct: Tensor, condition: Conditioning, t_b: Tensor, eps_bct: Tensor) -> Tensor:
        """The training loss of each item, one value per frame ``[B, T]``; its mean over frames is the item loss.

        The draw is an argument: ``t_b`` in (0, 1) and noise ``eps_bct``. Nothing else may be random, and no item's loss
        may depend on the others in its batch.
        """

    def layers(self, kind: LayerKind) -> dict[str, nn.Parameter]:
        """The denoiser's parameters of one kind, by their name in ``denoiser``."""

    def sample(self, prompt: str, seconds: float, seed: int, on_step: Callable[[int, int], None] | None = None) -> Tensor:
        """Generates latents ``[1, C, T]`` from a prompt. ``on_step(done, total)`` reports progress."""


@runtime_checkable
class DiffusionModel(GenerativeModel, Protocol):
    """A generative model that denoises along a path ``z_t = alpha_t z_0 + sigma_t eps``."""

    def path(self, t_b: Tensor) -> tuple[Tensor, Tensor]:
        """``(alpha_t, sigma_t)`` at times in (0, 1), each ``[B]``."""

    def target(self, latents_bct: Tensor, eps_bct: Tensor, alpha_b: Tensor, sigma_b: Tensor) -> Tensor:
        """What the denoiser is trained to predict, ``[B, C, T]``."""

    def predict(self, noisy_bct: Tensor, t_b: Tensor, condition: Conditioning) -> Tensor:
        """The denoiser's output, ``[B, C, T]``."""


@dataclass(frozen=True)
class Readout:
    """A linear layer between a model's last features and its output, and nothing but linear maps after it: changing the layer's
    weight by D changes the output by ``projection_co @ D @ given``, frame by frame, exactly.
    """

    layer: str  # its name in ``denoiser``
    projection_co: Tensor  # [latent channels, outputs of the layer]
    skipped: int  # positions that stand before the first frame


@runtime_checkable
class ReadoutModel(DiffusionModel, Protocol):
    """A diffusion model whose output is linear in the weights of one of its layers."""

    def readout(self) -> Readout:
        """That layer."""


def diffusion_loss_bt(
    model: DiffusionModel, latents_bct: Tensor, condition: Conditioning, t_b: Tensor, eps_bct: Tensor
) -> Tensor:
    """``loss_bt`` of a diffusion model: squared error of its prediction, averaged over channels, ``[B, T]``."""
    alpha_b, sigma_b = model.path(t_b)
    noisy_bct = alpha_b[:, None, None] * latents_bct + sigma_b[:, None, None] * eps_bct
    error_bct = model.predict(noisy_bct, t_b, condition) - model.target(latents_bct, eps_bct, alpha_b, sigma_b)
    return error_bct.square().mean(dim=1)


def best_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
