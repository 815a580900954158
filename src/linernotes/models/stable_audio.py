"""The adapter for Stable Audio pipelines in diffusers' folder layout: the built-in model and Stable Audio
Open alike.

Loads the parts by hand instead of through ``StableAudioPipeline.from_pretrained``, so that only safetensors
are ever read (a pickle can run code) and no class is imported because a file names it.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderOobleck, StableAudioDiTModel, StableAudioPipeline, StableAudioProjectionModel
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from diffusers.schedulers import CosineDPMSolverMultistepScheduler
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoTokenizer, T5EncoderModel
from transformers.utils import logging as transformers_logging

from linernotes.artefacts import hash_files, read_json
from linernotes.draws import EVERY_LEVEL, Batch, Draws, Levels
from linernotes.errors import LinernotesError, UsageError
from linernotes.models.codec import SpectrogramCodec
from linernotes.models.contract import OnStep, Readout, best_device
from linernotes.models.encoding import Encoding
from linernotes.models.folder import PIPELINE, check_folder, kind_of, variant_of
from linernotes.models.hidden import outputs_of
from linernotes.models.objectives import Objective

CODECS = {"AutoencoderOobleck": AutoencoderOobleck, "SpectrogramCodec": SpectrogramCodec}
TRAINED = ("transformer", "projection_model")
LAYER_PATTERNS: dict[str, tuple[str, ...]] = {
    "all": ("",),
    "self-attention": ("attn1.",),
    "cross-attention": ("attn2.",),
    "cross-attention-kv": ("attn2.to_k.", "attn2.to_v."),
    "mlp": ("ff.",),
    "last-mlp": ("ff.net.2.",),
    "output": (),
}
DEFAULT_SAMPLING = {"steps": 100, "guidance": 7.0}  # those of StableAudioPipeline


class StableAudio:
    """A ``GenerativeModel`` with all powers, over the parts of a Stable Audio pipeline. See
    ``models/contract.py`` for the methods.
    """

    random = True
    layer_kinds: Sequence[str] = tuple(LAYER_PATTERNS)

    @staticmethod
    def holds(folder: Path) -> bool:
        """Whether the folder is of this family."""
        return kind_of(folder) == PIPELINE

    def __init__(self, folder: Path, device: torch.device | None = None) -> None:
        check_folder(folder)
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        diffusers_logging.set_verbosity_error()
        diffusers_logging.disable_progress_bar()
        torch.backends.cudnn.allow_tf32 = False  # rounds at 1e-3, and unlearning moves a loss by less
        torch.backends.cuda.matmul.allow_tf32 = False
        self.device = device or best_device()
        self.name = folder.resolve().name
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(
                folder / "tokenizer", local_files_only=True, trust_remote_code=False
            )
            self.codec = self._part(
                CODECS[read_json(folder / "vae/config.json", "a model")["_class_name"]], folder / "vae"
            )
            self.text_encoder = self._part(T5EncoderModel, folder / "text_encoder")
            self.projection = self._part(StableAudioProjectionModel, folder / "projection_model")
            self.network: nn.Module = self._part(StableAudioDiTModel, folder / "transformer")
            self.scheduler = CosineDPMSolverMultistepScheduler.from_pretrained(
                folder / "scheduler", local_files_only=True
            )
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RuntimeError,
            SafetensorError,
        ) as error:
            raise LinernotesError(
                f"{folder} could not be loaded as a Stable Audio pipeline ({_brief(error)}): copy it anew"
            ) from error
        config: Any = self.network.config
        codec_config: Any = self.codec.config
        self.encoding = Encoding(
            model=self.name,
            codec_hash=_hash_parts(folder, "vae"),
            text_hash=_hash_parts(folder, "text_encoder", "tokenizer"),
            rate_hz=codec_config.sampling_rate,
            channels=codec_config.audio_channels,
            latent_channels=config.in_channels,
            frames=config.sample_size,
            frame_samples=self.codec.hop_length,
            text_tokens=self.tokenizer.model_max_length,
            text_dim=self.text_encoder.config.d_model,
        )
        generation = folder / "generation.json"
        self.sampling = {
            **DEFAULT_SAMPLING,
            **(read_json(generation, "a model") if generation.exists() else {}),
        }
        self.objective = Objective()
        self.rotary = self._rotary(config)
        self.weights_hash = _hash_parts(folder, *TRAINED)

    def _part(self, kind: Any, folder: Path) -> Any:
        dtype = "dtype" if kind is T5EncoderModel else "torch_dtype"
        part, loading = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            variant=variant_of(folder),
            **{dtype: torch.float32},
        )
        wrong = [
            f"{name} is {how}" for how in ("missing", "unexpected") for name in sorted(loading[f"{how}_keys"])
        ]
        if wrong:  # what is missing would be random numbers, in silence
            raise ValueError(
                f"the weights in {folder.name} do not fit its config.json: {wrong[0]}, of {len(wrong)}"
            )
        if hasattr(part, "register_to_config"):
            part.register_to_config(_name_or_path="")  # or what is saved would say where this was loaded from
        return part.to(self.device).eval().requires_grad_(False)

    def _rotary(self, config: Any) -> tuple[Tensor, Tensor]:
        positions = config.sample_size + 1  # the global token stands before the frames
        cos, sin = get_1d_rotary_pos_embed(
            config.attention_head_dim // 2, positions, use_real=True, repeat_interleave_real=False
        )
        return cos.to(self.device), sin.to(self.device)

    def encode(self, sound_bcs: Tensor) -> Tensor:
        with torch.inference_mode():
            latents = self.codec.encode(sound_bcs.to(self.device)).latent_dist.mode()
        return latents.clone()

    def decode(self, latents_bct: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.codec.decode(latents_bct.to(self.device)).sample.clone()

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
        condition = project(self.projection, text_bld.to(self.device), seconds_b.to(self.device))
        return Batch({"latents": latents_bct.to(self.device), **condition})

    def draw(
        self,
        count: int,
        generator: torch.Generator,
        levels: Levels = EVERY_LEVEL,
        order: Tensor | None = None,
    ) -> Draws:
        """Times in (0, 1), one in each part of the levels that training drew equally often, and white
        noise.
        """
        t_k = self.objective.times(count, generator, levels)
        return Draws({"t": t_k if order is None else t_k[order], "eps": self._noise(count, generator)})

    def prediction(self, items: Batch, draws: Draws) -> Tensor:
        x, t_b = items.tensors, draws.tensors["t"]
        noisy_bct = self.objective.noised(x["latents"], draws.tensors["eps"], t_b)
        return self.network(noisy_bct, t_b, x["tokens"], x["summary"], self.rotary, return_dict=False)[0]

    def target(self, items: Batch, draws: Draws) -> Tensor:
        return self.objective.target(items.tensors["latents"], draws.tensors["eps"], draws.tensors["t"])

    def loss_bt(self, items: Batch, draws: Draws) -> Tensor:
        return (self.prediction(items, draws) - self.target(items, draws)).square().mean(dim=1)

    def draw_targets(self, count: int, generator: torch.Generator) -> Batch:
        return Batch({"noise": self._noise(count, generator)})

    def sampled_loss_b(self, items: Batch, draws: Draws, targets: Batch) -> Tensor:
        """The squared error's curvature in D numbers of output is 2 / D: targets lie around the output in
        white noise, whose gradient at the output is sqrt(2 / D) times white noise.
        """
        noise_bct = targets.tensors["noise"]
        direction_bct = noise_bct * math.sqrt(2 / noise_bct[0].numel())
        return (self.prediction(items, draws) * direction_bct).sum(dim=(1, 2))

    def _noise(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.randn(count, self.encoding.latent_channels, self.encoding.frames, generator=generator)

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
        """Latents ``[1, C, T]`` by the pipeline's own sampler. Noise is drawn on the CPU: a seed means the
        same anywhere.
        """
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
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(1, self.encoding.latent_channels, self.encoding.frames, generator=generator)
        with warnings.catch_warnings():
            # it complains of rounding at the ends of the schedule
            warnings.filterwarnings("ignore", module="torchsde")
            latents = pipeline(
                prompt,
                audio_end_in_s=seconds,
                num_inference_steps=steps,
                guidance_scale=self.sampling["guidance"],
                latents=start.to(self.device),
                generator=generator,
                output_type="latent",
                callback=(lambda done, _t, _latents: on_step(done + 1, steps)) if on_step else None,
            ).audios
        return latents.clone()

    def trained_parts(self) -> nn.ModuleDict:
        return nn.ModuleDict(dict(zip(TRAINED, (self.network, self.projection), strict=True)))

    def training_items(
        self, latents_bct: Tensor, text_bld: Tensor, seconds_b: Tensor, unconditional_b: Tensor
    ) -> Batch:
        items = self.items(latents_bct, text_bld, seconds_b)
        tokens = items.tensors["tokens"].masked_fill(unconditional_b.to(self.device)[:, None, None], 0)
        return Batch({**items.tensors, "tokens": tokens})

    def save_parts(self, folder: Path) -> None:
        for name, part in self.trained_parts().items():
            part.save_pretrained(folder / name)  # type: ignore[operator]

    @staticmethod
    def write_untrained(model: Path, folder: Path, seed: int) -> None:
        ignored = shutil.ignore_patterns(*TRAINED, "training*", "checkpoints")
        shutil.copytree(model, folder, ignore=ignored)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name, kind in zip(TRAINED, (StableAudioDiTModel, StableAudioProjectionModel), strict=True):
                kind.from_config(kind.load_config(model / name)).save_pretrained(folder / name)


def project(projection: nn.Module, text_bld: Tensor, seconds_b: Tensor) -> dict[str, Tensor]:
    """Conditioning of a clip that starts at 0 and lasts ``seconds_b``: text and duration tokens, and a
    summary of durations.
    """
    out = projection(
        text_hidden_states=text_bld, start_seconds=torch.zeros_like(seconds_b), end_seconds=seconds_b
    )
    # padding stays exactly zero after the projection, as in the pipeline
    silent = (text_bld == 0).all(-1, keepdim=True)
    text = out.text_hidden_states.masked_fill(silent, 0)
    start, end = out.seconds_start_hidden_states, out.seconds_end_hidden_states
    return {"tokens": torch.cat([text, start, end], dim=1), "summary": torch.cat([start, end], dim=2)}


def _hash_parts(folder: Path, *parts: str) -> str:
    files = [
        path
        for part in parts
        for path in (folder / part).iterdir()
        if path.suffix in {".safetensors", ".json", ".model"}
    ]
    return hash_files(files, folder)


def _brief(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
