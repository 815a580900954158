"""How far an AutoencoderOobleck gets on two cores in a few minutes: python dev/oobleck_trial.py MINUTES (see dev/LOG.md)."""

import sys
import time

import numpy as np
import torch
from diffusers import AutoencoderOobleck

import linernotes
from linernotes.audio import Sound
from linernotes.demo.bundle import builtin_sound
from linernotes.evaluation.fidelity import chroma_correlation, fit_instrument_classifier, instrument_accuracy

minutes = float(sys.argv[1])
torch.manual_seed(0)
model, catalogue = linernotes.load_model(), linernotes.open_catalogue()
tracks = {split: [t for t in catalogue.tracks if t.split == split] for split in ("train", "decoy")}
hear = [builtin_sound(track, 0.0, model.shape) for track in tracks["train"][::4]]
held_out = [builtin_sound(track, 0.0, model.shape) for track in tracks["decoy"][:48]]
names = [track.extra["instrument"] for track in tracks["decoy"][:48]]
classifier = fit_instrument_classifier(hear, [track.extra["instrument"] for track in tracks["train"][::4]])

codec = AutoencoderOobleck(
    encoder_hidden_size=16, downsampling_ratios=[4, 8, 8, 8], channel_multiples=[1, 2, 4, 8], decoder_channels=16,
    decoder_input_channels=64, audio_channels=1, sampling_rate=model.shape.rate_hz,
)  # fmt: skip
optimiser = torch.optim.AdamW(codec.parameters(), 1e-3)
sounds = torch.from_numpy(np.stack([sound.samples for sound in hear]))
length, generator = 16384, torch.Generator().manual_seed(0)


def spectra(sound_bs: torch.Tensor) -> list[torch.Tensor]:
    return [torch.stft(sound_bs, n, n // 4, window=torch.hann_window(n), return_complex=True).abs() for n in (256, 1024, 2048)]


start, steps = time.time(), 0
while time.time() - start < 60 * minutes:
    rows = torch.randint(len(sounds), (8,), generator=generator)
    at = int(torch.randint(sounds.shape[-1] - length, (1,), generator=generator))
    clip = sounds[rows, :, at : at + length]
    made = codec.decode(codec.encode(clip).latent_dist.mode()).sample
    loss = sum(
        (torch.log(a + 1e-2) - torch.log(b + 1e-2)).abs().mean() + (a - b).abs().mean()
        for a, b in zip(spectra(clip[:, 0]), spectra(made[:, 0]), strict=True)
    )
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    steps += 1
    if steps % 50 == 0:
        print(steps, f"{float(loss):.3f}", f"{time.time() - start:.0f} s", flush=True)

with torch.inference_mode():
    decoded = [
        Sound(codec.decode(codec.encode(torch.from_numpy(s.samples)[None]).latent_dist.mode()).sample[0].numpy(), s.rate_hz)
        for s in held_out
    ]
print(f"{steps} steps in {minutes:g} min")
print(f"chroma correlation {np.mean([chroma_correlation(a, b) for a, b in zip(held_out, decoded, strict=True)]):.3f}")
before, after = (instrument_accuracy(classifier, heard, names) for heard in (held_out, decoded))
print(f"instrument: {before:.3f} -> {after:.3f}")
