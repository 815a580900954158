"""Stable Audio 3 in the layout of diffusers' ``StableAudio3Pipeline``: flow matching, a SAME autoencoder,
T5Gemma's words, one duration.

The network takes latents of any length; a folder says in ``generation.json`` how many ``frames`` a segment
has. As in the pipeline, nothing is given for inpainting.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderSAME, StableAudio3DiTModel, StableAudio3Pipeline
from diffusers.pipelines.stable_audio_3 import StableAudio3DurationEmbedder
from diffusers.schedulers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn
from transformers import T5GemmaEncoderModel

from linernotes.artefacts import hash_json
from linernotes.draws import EVERY_LEVEL, Batch, Draws, Levels
from linernotes.errors import LinernotesError, UsageError
from linernotes.models.contract import OnStep, Readout, exact_device
from linernotes.models.encoding import Encoding
from linernotes.models.folder import STABLE_AUDIO_3, check_folder, kind_of
from linernotes.models.hidden import outputs_of
from linernotes.models.objectives import Objective
from linernotes.models.parts import (
    FAILURES,
    hash_parts,
    not_loaded,
    quiet_libraries,
    read_objective,
    read_part,
    read_sampling,
    read_tokenizer,
)
from linernotes.models.squared_error import draw_times, sampled_error_b, squared_loss_bt, white_noise

TRAINED = ("transformer", "duration_embedder")
EPS_IN_TRAINING = 1e-5  # of the blocks' norms, in the code that trains these models; diffusers has 1e-6
TEXT_TOKENS = 256  # the pipeline gives no more, whatever the tokenizer could
# the pipeline's own steps where "steps" is None: 8 of a distilled model, 100 of another
DEFAULT_SAMPLING = {"steps": None, "guidance": 1.0, "frames": 512}
LAYER_PATTERNS: dict[str, tuple[str, ...]] = {
    "all": ("self_attn.to_", "cross_attn.to_", "ff.proj_"),
    "self-attention": ("self_attn.to_",),
    "cross-attention": ("cross_attn.to_",),
    "cross-attention-kv": ("cross_attn.to_kv.",),
    "mlp": ("ff.proj_",),
    "last-mlp": ("ff.proj_out.",),
    "output": (),
}
# names in Stable Audio 3's own code, and here
OWN_NAMES = {
    "transformer.project_in": "proj_in",
    "transformer.project_out": "proj_out",
    "transformer.layers.": "transformer_blocks.",
    "transformer.global_cond_embedder.": "global_cond_embedder.",
    "ff.ff.0.proj": "ff.proj_in",
    "ff.ff.2": "ff.proj_out",
}


class StableAudio3:
    """A ``GenerativeModel`` with all powers. See ``models/contract.py`` for the methods."""

    random = True
    layer_kinds: Sequence[str] = tuple(LAYER_PATTERNS)

    @staticmethod
    def holds(folder: Path) -> bool:
        """Whether the folder is of this family."""
        return kind_of(folder) == STABLE_AUDIO_3

    def __init__(self, folder: Path, device: torch.device | None = None) -> None:
        check_folder(folder)
        quiet_libraries()
        self.device, self.name = exact_device(device), folder.resolve().name
        try:
            self.tokenizer = read_tokenizer(folder / "tokenizer")
            self.codec = self._ready(read_part(AutoencoderSAME, folder / "vae"))
            self.text_encoder = self._ready(read_part(T5GemmaEncoderModel, folder / "text_encoder"))
            self.duration = self._ready(read_part(StableAudio3DurationEmbedder, folder / "duration_embedder"))
            self.network: nn.Module = self._ready(read_part(StableAudio3DiTModel, folder / "transformer"))
            blocks: Any = self.network.transformer_blocks
            for block in blocks:
                for norm in (block.pre_norm, block.cross_attend_norm, block.ff_norm):
                    norm.eps = EPS_IN_TRAINING
            self.scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(
                folder / "scheduler", local_files_only=True
            )
        except FAILURES as error:
            raise not_loaded(folder, error, "Stable Audio 3") from error
        config: Any = self.network.config
        if config.patch_size != 1:
            raise LinernotesError(
                f"{folder}'s transformer has patch_size {config.patch_size}, and only 1 is known: give "
                "another model"
            )
        self._blocks = [f"transformer_blocks.{i}" for i in range(config.depth)]
        self.objective = read_objective(folder, Objective("flow"))
        self.sampling = read_sampling(folder, DEFAULT_SAMPLING)
        self.encoding = Encoding(
            model=self.name,
            codec_hash=hash_parts(folder, "vae"),
            text_hash=hash_parts(folder, "text_encoder", "tokenizer"),
            rate_hz=self.codec.config.sampling_rate,
            channels=self.codec.config.audio_channels,
            latent_channels=config.io_channels,
            frames=int(self.sampling["frames"]),
            frame_samples=self.codec.downsampling_ratio,
            text_tokens=min(self.tokenizer.model_max_length, TEXT_TOKENS),
            text_dim=config.cond_token_dim,
        )
        self.weights_hash = hash_json([hash_parts(folder, *TRAINED), asdict(self.objective)])

    def _ready(self, part: Any) -> Any:
        return part.to(self.device).eval().requires_grad_(False)

    def encode(self, sound_bcs: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.codec.encode(sound_bcs.to(self.device)).latents.clone()

    def rescaled(self, latents_bct: Tensor) -> Tensor:
        return latents_bct

    def decode(self, latents_bct: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.codec.decode(latents_bct.to(self.device)).sample.clone()

    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.encoding.text_tokens,
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        with torch.inference_mode():
            hidden_bld = self.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        return (hidden_bld * tokens.attention_mask[:, :, None]).clone()

    def items(self, latents_bct: Tensor, text_bld: Tensor, seconds_b: Tensor) -> Batch:
        text_bld = text_bld.to(self.device)
        duration_bd = self.duration(seconds_b.to(self.device))
        # the network puts its own embedding where the mask says that there is no word
        worded_bl = (text_bld != 0).any(-1)
        return Batch(
            {
                "latents": latents_bct.to(self.device),
                "tokens": torch.cat([text_bld, duration_bd[:, None]], dim=1),
                "mask": torch.cat([worded_bl, torch.ones_like(worded_bl[:, :1])], dim=1),
                "duration": duration_bd,
            }
        )

    def draw(
        self,
        count: int,
        generator: torch.Generator,
        levels: Levels = EVERY_LEVEL,
        order: Tensor | None = None,
    ) -> Draws:
        return draw_times(self.objective, self.encoding, count, generator, levels, order)

    def prediction(self, items: Batch, draws: Draws) -> Tensor:
        x, t_b = items.tensors, draws.tensors["t"]
        noisy_bct = self.objective.noised(x["latents"], draws.tensors["eps"], t_b)
        return self.network(noisy_bct, t_b, x["tokens"], x["duration"], x["mask"], return_dict=False)[0]

    def target(self, items: Batch, draws: Draws) -> Tensor:
        return self.objective.target(items.tensors["latents"], draws.tensors["eps"], draws.tensors["t"])

    def loss_bt(self, items: Batch, draws: Draws) -> Tensor:
        return squared_loss_bt(self, items, draws)

    def draw_targets(self, count: int, generator: torch.Generator) -> Batch:
        return Batch({"noise": white_noise(self.encoding, count, generator)})

    def sampled_loss_b(self, items: Batch, draws: Draws, targets: Batch) -> Tensor:
        return sampled_error_b(self.prediction(items, draws), targets.tensors["noise"])

    def layers(self, kind: str) -> dict[str, nn.Parameter]:
        """Linear layers alone: the norms are of a class of their own, and the modulation of the blocks is no
        layer.
        """
        if kind not in LAYER_PATTERNS:
            raise UsageError(f"there are no layers {kind!r}: choose one of {', '.join(LAYER_PATTERNS)}")
        if kind == "output":
            return {n: p for n, p in self.network.named_parameters() if n.startswith("proj_out.")}
        within = f"{self._blocks[-1]}." if kind == "last-mlp" else "transformer_blocks."
        return {
            n: p
            for n, p in self.network.named_parameters()
            if n.startswith(within) and any(pattern in n for pattern in LAYER_PATTERNS[kind])
        }

    def hidden_states(self, items: Batch, draws: Draws) -> list[Tensor]:
        return outputs_of(self.network, self._blocks, lambda: self.prediction(items, draws))

    def readout(self) -> Readout:
        """The output projection, which has no normalisation before it; a convolution of width 1 follows. The
        last MLP is no read-out here: what it gives is weighted by the time.
        """
        denoiser: Any = self.network
        mixed_cc = denoiser.postprocess_conv.weight[:, :, 0]
        return Readout("proj_out", torch.eye(len(mixed_cc), device=mixed_cc.device) + mixed_cc, skipped=0)

    def sample(self, prompt: str, seconds: float, seed: int, on_step: OnStep | None = None) -> Tensor:
        """Latents ``[1, C, T]`` by the pipeline's own sampler. Noise is drawn on the CPU: a seed means the
        same anywhere.
        """
        pipeline = StableAudio3Pipeline(
            self.codec, self.text_encoder, self.tokenizer, self.duration, self.network, self.scheduler
        )
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(seed)
        start = white_noise(self.encoding, 1, generator).to(self.device)

        def count(_pipeline: Any, step: int, _t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if on_step:
                on_step(step + 1, pipeline.num_timesteps)
            return tensors

        return pipeline(
            prompt,
            duration=seconds,
            num_inference_steps=self.sampling["steps"],
            guidance_scale=self.sampling["guidance"],
            latents=start,
            generator=generator,
            output_type="latent",
            callback_on_step_end=count,
        ).audios.clone()

    def trained_parts(self) -> nn.ModuleDict:
        return nn.ModuleDict(dict(zip(TRAINED, (self.network, self.duration), strict=True)))

    def training_items(
        self, latents_bct: Tensor, text_bld: Tensor, seconds_b: Tensor, unconditional_b: Tensor
    ) -> Batch:
        """Without conditioning, words and the duration beside them are zero, and not padding."""
        x = self.items(latents_bct, text_bld, seconds_b).tensors
        dropped_b = unconditional_b.to(self.device)
        tokens = x["tokens"].masked_fill(dropped_b[:, None, None], 0)
        return Batch({**x, "tokens": tokens, "mask": x["mask"] | dropped_b[:, None]})

    def save_parts(self, folder: Path) -> None:
        for name, part in self.trained_parts().items():
            part.save_pretrained(folder / name)  # type: ignore[operator]

    @staticmethod
    def write_untrained(model: Path, folder: Path, seed: int) -> None:
        shutil.copytree(model, folder, ignore=shutil.ignore_patterns(*TRAINED, "training*", "checkpoints"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name, kind in zip(TRAINED, (StableAudio3DiTModel, StableAudio3DurationEmbedder), strict=True):
                kind.from_config(kind.load_config(model / name)).save_pretrained(folder / name)

    def conditioner_layers(self) -> dict[str, nn.Linear]:
        """The layers outside the network that Stable Audio 3's own adapters change, by their names there."""
        return {"conditioners.seconds_total.embedder.embedding.1": self.duration.linear}

    def renamed(self, name: str) -> tuple[str, Tensor | None]:
        """Where a layer that Stable Audio 3's own code names stands in the network, and which of its rows
        stand where: self-attention there gives q, k, v, q2, k2, and here q, q2, k, k2, v.
        """
        name = re.sub(r"^(model\.)+", "", name)
        for theirs, own in OWN_NAMES.items():
            name = name.replace(theirs, own)
        config: Any = self.network.config
        if not name.endswith("self_attn.to_qkv") or not config.use_differential_attention:
            return name, None
        q, k, v, q2, k2 = torch.arange(5 * config.embed_dim).chunk(5)
        return name, torch.cat([q, q2, k, k2, v])
