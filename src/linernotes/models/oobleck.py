"""Runs Stable Audio's autoencoder on long sound in overlapping pieces: memory that does not grow with the
length, and the same latents, since the autoencoder is convolutional and sees no further than its margin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from diffusers import AutoencoderOobleck
from torch import Tensor

SAMPLES_AT_ONCE = 1 << 18  # in one piece, without its margins: about 1 GB for Stable Audio Open in stereo
UNIT_REACH = 3 * (1 + 3 + 9)  # a block's three residual units: width 7, dilated
WIDE, NARROW = 3, 1  # reach of a convolution of width 7, of 3


def encoder_margin(strides: Sequence[int]) -> int:
    """How many frames to either side a latent frame depends on."""
    reach, rate = WIDE, 1  # in samples; samples a step
    for stride in strides:
        # the strided convolution is 2 strides wide; the further of its two sides counts
        reach += rate * (UNIT_REACH + 2 * stride)
        rate *= stride
    return math.ceil(reach / rate) + NARROW


def decoder_margin(strides: Sequence[int]) -> int:
    """How many frames to either side a decoded sample depends on."""
    reach, rate = float(WIDE), 1  # in frames; steps a frame
    for stride in reversed(strides):
        reach += 2 / rate  # a transposed convolution 2 strides wide: two steps reach a sample
        rate *= stride
        reach += UNIT_REACH / rate
    return math.ceil(reach + WIDE / rate)


def encode(codec: AutoencoderOobleck, sound_bcs: Tensor, at_once: int = SAMPLES_AT_ONCE) -> Tensor:
    """Sound ``[B, channels, samples]``, whole frames long -> the posterior's means ``[B, C, T]``."""
    hop = int(codec.hop_length)

    def run(piece_1cs: Tensor) -> Tensor:
        return codec.encode(piece_1cs).latent_dist.mode()

    margin = encoder_margin(codec.config.downsampling_ratios)
    return _in_pieces(run, sound_bcs, max(1, at_once // hop), margin, hop, 1)


def decode(codec: AutoencoderOobleck, latents_bct: Tensor, at_once: int = SAMPLES_AT_ONCE) -> Tensor:
    """Latents -> sound ``[B, channels, samples]``."""
    hop = int(codec.hop_length)

    def run(piece_1ct: Tensor) -> Tensor:
        return codec.decode(piece_1ct).sample

    margin = decoder_margin(codec.config.downsampling_ratios)
    return _in_pieces(run, latents_bct, max(1, at_once // hop), margin, 1, hop)


def _in_pieces(
    run: Callable[[Tensor], Tensor], given: Tensor, frames: int, margin: int, taken: int, made: int
) -> Tensor:
    """``run`` on one item and ``frames`` frames at a time, with a margin that is then cut off. What lies
    beyond the sound's own ends is padded by the autoencoder itself, as in one piece.

    Args:
        taken: steps of ``given`` in a frame; ``made``: steps of the result.
    """
    total = given.shape[-1] // taken
    pieces = []
    for start in range(0, total, frames):
        low, high = max(0, start - margin), min(total, start + frames + margin)
        inside = slice((start - low) * made, (min(start + frames, total) - low) * made)
        # the last piece takes whatever is left of a frame, as the whole would
        end = high * taken if high < total else given.shape[-1]
        found = [run(given[i : i + 1, :, low * taken : end])[..., inside].clone() for i in range(len(given))]
        pieces.append(torch.cat(found))
    return torch.cat(pieces, dim=-1)
