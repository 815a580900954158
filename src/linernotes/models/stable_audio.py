"""Stable Audio: the built-in model, Stable Audio Open, and what people train with stable-audio-tools.

The class is the function; its parts are read from a folder in the layout of diffusers or of
stable-audio-tools.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderOobleck, StableAudioPipeline
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch import Tensor, nn

from linernotes.draws import EVERY_LEVEL, Batch, Draws, Levels
from linernotes.errors import UsageError
from linernotes.models import oobleck
from linernotes.models.contract import OnStep, Readout, exact_device
from linernotes.models.folder import training_record
from linernotes.models.hidden import outputs_of
from linernotes.models.objectives import PathKind
from linernotes.models.parts import quiet_libraries
from linernotes.models.sampling import descend
from linernotes.models.squared_error import draw_times, sampled_error_b, squared_loss_bt, white_noise
from linernotes.models.stable_audio_folder import TRAINED, DiffusersFolder
from linernotes.models.stable_audio_tools import ToolsFolder

LAYOUTS = (DiffusersFolder, ToolsFolder)
LAYER_PATTERNS: dict[str, tuple[str, ...]] = {
    "all": ("",),
    "self-attention": ("attn1.",),
    "cross-attention": ("attn2.",),
    "cross-attention-kv": ("attn2.to_k.", "attn2.to_v."),
    "mlp": ("ff.",),
    "last-mlp": ("ff.net.2.",),
    "output": (),
}


class StableAudio:
    """A ``GenerativeModel`` with all powers, over the parts of a Stable Audio pipeline. See
    ``models/contract.py`` for the methods.
    """

    random = True
    layer_kinds: Sequence[str] = tuple(LAYER_PATTERNS)

    @staticmethod
    def holds(folder: Path) -> bool:
        """Whether the folder is of this family."""
        return any(layout.holds(folder) for layout in LAYOUTS)

    def __init__(self, folder: Path, device: torch.device | None = None) -> None:
        quiet_libraries()
        self.device = exact_device(device)
        with warnings.catch_warnings():
            # diffusers' Oobleck has weights normalised in a way that torch calls old
            warnings.filterwarnings("ignore", module=r"torch\.nn\.utils\.weight_norm")
            parts = _layout(folder).read(folder)
        self.encoding, self.weights_hash = parts.encoding, parts.weights_hash
        self.name = self.encoding.model
        self.placed = not training_record(folder)  # linernotes trains each segment as a clip of its own
        self.tokenizer = parts.tokenizer
        self.codec = self._ready(parts.codec)
        self.text_encoder = self._ready(parts.text_encoder)
        self.projection = self._ready(parts.projection)
        self.network: nn.Module = self._ready(parts.network)
        self.scheduler, self.objective, self.sampling = parts.scheduler, parts.objective, parts.sampling
        self._latent_scale, self._ends_in_tanh = parts.latent_scale, parts.ends_in_tanh
        self._save = parts.save
        self.rotary = self._rotary(parts.rotary)

    def _ready(self, part: Any) -> Any:
        return part.to(self.device).eval().requires_grad_(False)

    def _rotary(self, features: int) -> tuple[Tensor, Tensor]:
        positions = self.encoding.frames + 1  # the global token stands before the frames
        cos, sin = get_1d_rotary_pos_embed(features, positions, use_real=True, repeat_interleave_real=False)
        return cos.to(self.device), sin.to(self.device)

    def encode(self, sound_bcs: Tensor) -> Tensor:
        sound_bcs = sound_bcs.to(self.device)
        with torch.inference_mode():
            if isinstance(self.codec, AutoencoderOobleck):
                latents = oobleck.encode(self.codec, sound_bcs)
            else:
                latents = self.codec.encode(sound_bcs).latent_dist.mode()
            return self.rescaled(latents).clone()

    def rescaled(self, latents_bct: Tensor) -> Tensor:
        return latents_bct / self._latent_scale

    def decode(self, latents_bct: Tensor) -> Tensor:
        latents_bct = latents_bct.to(self.device) * self._latent_scale
        with torch.inference_mode():
            if isinstance(self.codec, AutoencoderOobleck):
                sound = oobleck.decode(self.codec, latents_bct)
            else:
                sound = self.codec.decode(latents_bct).sample
            return torch.tanh(sound) if self._ends_in_tanh else sound.clone()

    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        with torch.inference_mode():
            hidden_bld = self.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        return (hidden_bld * tokens.attention_mask[:, :, None]).clone()

    def items(self, latents_bct: Tensor, text_bld: Tensor, seconds_b: Tensor) -> Batch:
        return self._items(latents_bct, text_bld, torch.zeros_like(seconds_b), seconds_b)

    def items_at(self, latents_bct: Tensor, text_bld: Tensor, start_b: Tensor, whole_b: Tensor) -> Batch:
        """As stable-audio-tools trains: where a crop begins in whole seconds, rounded down, and how long its
        recording is, rounded up.
        """
        return self._items(latents_bct, text_bld, start_b.floor(), whole_b.ceil())

    def _items(self, latents_bct: Tensor, text_bld: Tensor, start_b: Tensor, whole_b: Tensor) -> Batch:
        condition = project(self.projection, *(x.to(self.device) for x in (text_bld, start_b, whole_b)))
        return Batch({"latents": latents_bct.to(self.device), **condition})

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
        return self._predicted(noisy_bct, t_b, x["tokens"], x["summary"])

    def _predicted(self, noisy_bct: Tensor, t_b: Tensor, tokens: Tensor, summary: Tensor) -> Tensor:
        return self.network(noisy_bct, t_b, tokens, summary, self.rotary, return_dict=False)[0]

    def target(self, items: Batch, draws: Draws) -> Tensor:
        return self.objective.target(items.tensors["latents"], draws.tensors["eps"], draws.tensors["t"])

    def loss_bt(self, items: Batch, draws: Draws) -> Tensor:
        return squared_loss_bt(self, items, draws)

    def draw_targets(self, count: int, generator: torch.Generator) -> Batch:
        return Batch({"noise": white_noise(self.encoding, count, generator)})

    def sampled_loss_b(self, items: Batch, draws: Draws, targets: Batch) -> Tensor:
        return sampled_error_b(self.prediction(items, draws), targets.tensors["noise"])

    def layers(self, kind: str) -> dict[str, nn.Parameter]:
        if kind not in LAYER_PATTERNS:
            raise UsageError(f"there are no layers {kind!r}: choose one of {', '.join(LAYER_PATTERNS)}")
        if kind == "output":
            return {n: p for n, p in self.network.named_parameters() if n.startswith("proj_out.")}
        blocks = [(n, p) for n, p in self.network.named_parameters() if n.startswith("transformer_blocks.")]
        if kind == "last-mlp":
            last = max(int(n.split(".")[1]) for n, _ in blocks)
            blocks = [(n, p) for n, p in blocks if n.startswith(f"transformer_blocks.{last}.")]
        return {n: p for n, p in blocks if any(pattern in n for pattern in LAYER_PATTERNS[kind])}

    def hidden_states(self, items: Batch, draws: Draws) -> list[Tensor]:
        blocks = sorted(f"transformer_blocks.{i}" for i in range(len(self.network.transformer_blocks)))  # type: ignore[arg-type]
        return outputs_of(self.network, blocks, lambda: self.prediction(items, draws))

    def readout(self) -> Readout:
        """The last block's second MLP matrix: a residual sum, the output projection and a convolution of
        width 1 follow, no normalisation.
        """
        (layer,) = {name.rpartition(".")[0] for name in self.layers("last-mlp")}
        denoiser: Any = self.network
        mixed_cc = denoiser.postprocess_conv.weight[:, :, 0]
        projection_co = denoiser.proj_out.weight + mixed_cc @ denoiser.proj_out.weight
        return Readout(layer, projection_co, skipped=1)  # the global token stands before the frames

    def sample(self, prompt: str, seconds: float, seed: int, on_step: OnStep | None = None) -> Tensor:
        """Latents ``[1, C, T]``, by the pipeline's own sampler where the folder has one. Noise is drawn on
        the CPU: a seed means the same anywhere.
        """
        generator = torch.Generator().manual_seed(seed)
        start = white_noise(self.encoding, 1, generator).to(self.device)
        if self.scheduler is None:
            return self._descended(prompt, seconds, start, generator, on_step)
        pipeline = StableAudioPipeline(
            vae=self.codec,
            text_encoder=self.text_encoder,
            projection_model=self.projection,
            tokenizer=self.tokenizer,
            transformer=self.network,
            scheduler=self.scheduler,
        )
        pipeline.set_progress_bar_config(disable=True)
        steps = int(self.sampling["steps"])
        with warnings.catch_warnings():
            # it complains of rounding at the ends of the schedule
            warnings.filterwarnings("ignore", module="torchsde")
            latents = pipeline(
                prompt,
                audio_end_in_s=seconds,
                num_inference_steps=steps,
                guidance_scale=self.sampling["guidance"],
                latents=start,
                generator=generator,
                output_type="latent",
                callback=(lambda done, _t, _latents: on_step(done + 1, steps)) if on_step else None,
            ).audios
        return latents.clone()

    def _descended(
        self, prompt: str, seconds: float, start: Tensor, generator: torch.Generator, on_step: OnStep | None
    ) -> Tensor:
        """Latents by following the path, with guidance away from what is predicted without words."""
        guidance = float(self.sampling["guidance"])
        with torch.inference_mode():
            items = self.items(start, self.embed_text([prompt]), torch.tensor([seconds]))
        x = items.tensors

        def predict(noisy: Tensor, t_b: Tensor) -> Tensor:
            worded = self._predicted(noisy, t_b, x["tokens"], x["summary"])
            if guidance == 1:
                return worded
            wordless = self._predicted(noisy, t_b, torch.zeros_like(x["tokens"]), x["summary"])
            return wordless + guidance * (worded - wordless)

        fresh = generator if self.sampling.get("renoise") else None
        return descend(predict, start, self.objective, int(self.sampling["steps"]), fresh, on_step)

    def trained_parts(self) -> nn.ModuleDict:
        return nn.ModuleDict(dict(zip(TRAINED, (self.network, self.projection), strict=True)))

    def training_items(
        self, latents_bct: Tensor, text_bld: Tensor, seconds_b: Tensor, unconditional_b: Tensor
    ) -> Batch:
        items = self.items(latents_bct, text_bld, seconds_b)
        tokens = items.tensors["tokens"].masked_fill(unconditional_b.to(self.device)[:, None, None], 0)
        return Batch({**items.tensors, "tokens": tokens})

    def save_parts(self, folder: Path) -> None:
        self._save(folder)

    @staticmethod
    def write_untrained(model: Path, folder: Path, seed: int) -> None:
        _layout(model).write_untrained(model, folder, seed)

    @staticmethod
    def write_objective(folder: Path, path: PathKind) -> None:
        """Says of an untrained model which objective it is trained with.

        Raises:
            UsageError: its layout says so in its own way.
        """
        if not DiffusersFolder.holds(folder):
            raise UsageError(
                f"{folder.name} says its objective in its model_config.json: leave out --objective, and edit "
                "that"
            )
        DiffusersFolder.write_objective(folder, path)


def _layout(folder: Path) -> type[DiffusersFolder] | type[ToolsFolder]:
    """Which layout a folder has; diffusers', whose refusals say what is missing, if none."""
    return next((layout for layout in LAYOUTS if layout.holds(folder)), DiffusersFolder)


def project(projection: nn.Module, text_bld: Tensor, start_b: Tensor, whole_b: Tensor) -> dict[str, Tensor]:
    """Conditioning of a segment that begins at ``start_b`` seconds of a recording of ``whole_b``: text and
    duration tokens, and a summary of durations. Not every model is told where a segment begins.
    """
    out = projection(text_hidden_states=text_bld, start_seconds=start_b, end_seconds=whole_b)
    # padding stays exactly zero after the projection, as in the pipeline
    silent = (text_bld == 0).all(-1, keepdim=True)
    text = out.text_hidden_states.masked_fill(silent, 0)
    durations = [
        each for each in (out.seconds_start_hidden_states, out.seconds_end_hidden_states) if each is not None
    ]
    return {"tokens": torch.cat([text, *durations], dim=1), "summary": torch.cat(durations, dim=2)}
