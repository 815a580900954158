"""The built-in codec's latents as codes: residual vector quantisation, the audio codec of the small codec
language model.

Codebook k holds the centres of what the codebooks before it leave over (Zeghidour et al. 2021, alg. 1),
fitted by k-means in seconds. It stands where a MusicGen folder has its EnCodec and answers to the same calls,
so that transformers opens the small model as any other once this module is imported.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.models.encodec.modeling_encodec import EncodecDecoderOutput, EncodecEncoderOutput

from linernotes.models.codec import SpectrogramCodec, mel_bands

KIND = "linernotes_residual_codec"
K_MEANS_STEPS = 30


class ResidualCodecConfig(PreTrainedConfig):
    """Sizes of a residual codec, and those of the spectrogram codec under it."""

    model_type = KIND

    spectrogram: dict[str, Any] | None = None  # SpectrogramCodec's; its own defaults if None
    num_quantizers: int = 4
    codebook_size: int = 256
    sampling_rate: int = 22050
    hop_length: int = 2048
    audio_channels: int = 1


class ResidualCodec(PreTrainedModel):
    """Mono sound ``[B, 1, S]`` <-> codes ``[B, K, S / hop_length]``."""

    config_class = ResidualCodecConfig
    main_input_name = "input_values"

    def __init__(self, config: ResidualCodecConfig) -> None:
        super().__init__(config)
        self.spectrogram = SpectrogramCodec(**(config.spectrogram or {}))
        channels = self.spectrogram.config.latent_channels
        size = (config.num_quantizers, config.codebook_size, channels)
        self.register_buffer("codebook_kvc", torch.zeros(size))
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        # what no file holds: transformers loads into memory that is not set
        if isinstance(module, SpectrogramCodec):
            c = module.config
            init.copy_(module.bands, mel_bands(c.mels, c.n_fft, c.sampling_rate))
            init.copy_(module.window, torch.hann_window(c.n_fft))

    def encode(self, input_values: Tensor, **_: Any) -> EncodecEncoderOutput:
        """Sound -> codes, in the form of transformers' EnCodec: ``audio_codes`` [1, B, K, T]."""
        codes_bkt = self.quantise(self.spectrogram.encode(input_values).latents)
        return EncodecEncoderOutput(audio_codes=codes_bkt[None], audio_scales=[None])

    def decode(self, audio_codes: Tensor, audio_scales: Any = None, **_: Any) -> EncodecDecoderOutput:
        """Codes ``[1, B, K, T]`` -> sound, in the form of transformers' EnCodec."""
        return EncodecDecoderOutput(self.spectrogram.decode(self.latents(audio_codes[0])).sample)

    def quantise(self, latents_bct: Tensor) -> Tensor:
        """Codes ``[B, K, T]``: in each codebook the entry nearest to what is left of a frame."""
        left_btc, codes = latents_bct.transpose(1, 2), []
        for entries_vc in self.codebook_kvc:
            nearness_btv = left_btc @ entries_vc.T - entries_vc.square().sum(dim=1) / 2
            codes.append(nearness_btv.argmax(dim=2))
            left_btc = left_btc - entries_vc[codes[-1]]
        return torch.stack(codes, dim=1)

    def latents(self, codes_bkt: Tensor) -> Tensor:
        """Latents ``[B, C, T]``: the sum of the codebooks' entries."""
        entries = [entries_vc[codes_bkt[:, k]] for k, entries_vc in enumerate(self.codebook_kvc)]
        return torch.stack(entries).sum(dim=0).transpose(1, 2)

    def fit(self, latents_nc: Tensor, seed: int) -> float:
        """Sets the codebooks from frames of latents; returns the share of their variance that is kept."""
        left_nc = latents_nc.double().numpy()
        whole = left_nc.var(axis=0).sum()
        for k in range(self.config.num_quantizers):
            k_means = KMeans(
                self.config.codebook_size, n_init=1, max_iter=K_MEANS_STEPS, random_state=seed + k
            )
            with threadpool_limits(1):  # several threads add up in any order
                found = k_means.fit(left_nc)
            entries_vc = torch.from_numpy(found.cluster_centers_)
            self.codebook_kvc[k].copy_(entries_vc)
            left_nc = left_nc - found.cluster_centers_[found.labels_]
        return float(1 - np.square(left_nc).sum(axis=1).mean() / whole)


AutoConfig.register(KIND, ResidualCodecConfig, exist_ok=True)
AutoModel.register(ResidualCodecConfig, ResidualCodec, exist_ok=True)
