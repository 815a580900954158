"""The autoencoder in overlapping pieces: the same numbers as in one, whatever the pieces."""

import pytest
import torch
from diffusers import AutoencoderOobleck

from linernotes.models import oobleck
from tools_folder import random_

SAME = {"rtol": 0, "atol": 1e-5}  # sums in another order
STRIDES = [[2, 4], [3, 2, 5], [2, 4, 4, 8, 8]]


def autoencoder(strides: list[int]) -> AutoencoderOobleck:
    codec = AutoencoderOobleck(
        encoder_hidden_size=4,
        downsampling_ratios=strides,
        channel_multiples=[1] * len(strides),
        decoder_channels=4,
        decoder_input_channels=2,
        audio_channels=2,
        sampling_rate=8000,
    )
    return random_(codec, 0)


@pytest.fixture(params=STRIDES, ids=str)
def codec(request: pytest.FixtureRequest) -> AutoencoderOobleck:
    return autoencoder(request.param)


@pytest.mark.parametrize("frames_at_once", [5, 12, 1000])
def test_pieces_are_the_whole(codec: AutoencoderOobleck, frames_at_once: int) -> None:
    hop, frames = codec.hop_length, 27
    generator = torch.Generator().manual_seed(1)
    sound = torch.randn(2, 2, frames * hop, generator=generator)
    latents = torch.randn(2, 2, frames, generator=generator)
    with torch.inference_mode():
        encoded = codec.encode(sound).latent_dist.mode()
        decoded = codec.decode(latents).sample
        torch.testing.assert_close(oobleck.encode(codec, sound, frames_at_once * hop), encoded, **SAME)
        torch.testing.assert_close(oobleck.decode(codec, latents, frames_at_once * hop), decoded, **SAME)


@pytest.mark.parametrize("strides", STRIDES, ids=str)
def test_the_margin_is_what_a_frame_can_see_and_not_much_more(strides: list[int]) -> None:
    """How far a change of the input moves the output is found by gradients."""
    codec = autoencoder(strides)
    hop, frames = codec.hop_length, 81
    sound = torch.randn(1, 2, frames * hop, requires_grad=True)
    codec.encode(sound).latent_dist.mode()[..., frames // 2].sum().backward()
    touched = sound.grad.abs().sum(dim=(0, 1)).nonzero()[:, 0] // hop
    seen = max(frames // 2 - int(touched.min()), int(touched.max()) - frames // 2)
    assert seen <= oobleck.encoder_margin(strides) <= seen + 2
    latents = torch.randn(1, 2, frames, requires_grad=True)
    first = frames // 2 * hop
    codec.decode(latents).sample[..., first : first + hop].sum().backward()
    touched = latents.grad.abs().sum(dim=(0, 1)).nonzero()[:, 0]
    seen = max(frames // 2 - int(touched.min()), int(touched.max()) - frames // 2)
    assert seen <= oobleck.decoder_margin(strides) <= seen + 3


def test_what_is_held_at_once_does_not_grow_with_the_length() -> None:
    codec = autoencoder([2, 4])
    sizes = []
    codec.encoder.conv1.register_forward_pre_hook(lambda _m, given: sizes.append(given[0].shape))
    for frames in (100, 400):
        sizes.clear()
        oobleck.encode(codec, torch.zeros(3, 2, frames * 8), 20 * 8)
        assert (
            max(batch * length for batch, _, length in sizes) <= (20 + 2 * oobleck.encoder_margin([2, 4])) * 8
        )
