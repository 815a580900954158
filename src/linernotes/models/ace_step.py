"""ACE-Step 1.5 in the layout of diffusers' ``AceStepPipeline``: flow matching, an Oobleck autoencoder, and
words, metadata and lyrics as conditions (``models/ace_step_words.py``). Text to music, without a recording
to start from.

The network takes latents of any length; a folder says in ``generation.json`` how many ``frames`` a segment
has, and how many ``lyric_tokens`` are kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers import AceStepPipeline, AceStepTransformer1DModel, AutoencoderOobleck
from diffusers.pipelines.ace_step import AceStepConditionEncoder
from diffusers.schedulers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn
from transformers import Qwen3Model

from linernotes.artefacts import hash_json
from linernotes.draws import EVERY_LEVEL, Batch, Draws, Levels
from linernotes.errors import UsageError
from linernotes.models import oobleck
from linernotes.models.ace_step_words import lyrics_of, text_of, words_of
from linernotes.models.contract import OnStep, exact_device
from linernotes.models.encoding import Encoding
from linernotes.models.folder import ACE_STEP, check_folder, kind_of
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

TRAINED = ("transformer",)
TEXT_TOKENS = 256  # the pipeline gives no more
TIMBRE_S = 30  # of silence, where no recording says how it should sound
DEFAULT_SAMPLING = {"steps": 8, "guidance": 7.0, "shift": 3.0, "frames": 750, "lyric_tokens": 512}
# the eight times that a distilled model is trained at lie evenly on the first; the second is the base model's
TURBO, BASE = Objective("flow", shift=3.0), Objective("flow", "logit_normal", mean=-0.4)
LAYER_PATTERNS: dict[str, tuple[str, ...]] = {
    "all": ("self_attn.to_", "cross_attn.to_", "mlp."),
    "self-attention": ("self_attn.to_",),
    "cross-attention": ("cross_attn.to_",),
    "cross-attention-kv": ("cross_attn.to_k.", "cross_attn.to_v."),
    "mlp": ("mlp.",),
    "last-mlp": ("mlp.down_proj.",),
    "output": ("mlp.down_proj.",),
}


class AceStep:
    """A ``GenerativeModel`` with all powers but the read-out: a modulation by the time and a transposed
    convolution follow its last linear layer. See ``models/contract.py`` for the methods.
    """

    random = True
    layer_kinds: Sequence[str] = tuple(LAYER_PATTERNS)
    # what layers are called in ACE-Step's own code, and so in adapters trained with it
    other_names = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "o_proj": "to_out.0"}  # noqa: RUF012

    @staticmethod
    def holds(folder: Path) -> bool:
        """Whether the folder is of this family."""
        return kind_of(folder) == ACE_STEP

    def __init__(self, folder: Path, device: torch.device | None = None) -> None:
        check_folder(folder)
        quiet_libraries()
        self.device, self.name = exact_device(device), folder.resolve().name
        try:
            self.tokenizer = read_tokenizer(folder / "tokenizer")
            self.codec = self._ready(read_part(AutoencoderOobleck, folder / "vae"))
            self.text_encoder = self._ready(read_part(Qwen3Model, folder / "text_encoder"))
            self.conditioner = self._ready(read_part(AceStepConditionEncoder, folder / "condition_encoder"))
            network = self._ready(read_part(AceStepTransformer1DModel, folder / "transformer"))
        except FAILURES as error:
            raise not_loaded(folder, error, "ACE-Step") from error
        self.network: nn.Module = network
        config: Any = network.config
        self._blocks = [f"layers.{i}" for i in range(config.num_hidden_layers)]
        turbo = bool(config.is_turbo or config.model_version == "turbo")
        self.objective = read_objective(folder, TURBO if turbo else BASE)
        self.sampling = read_sampling(folder, DEFAULT_SAMPLING)
        words = hash_parts(folder, "text_encoder", "tokenizer")
        self.encoding = Encoding(
            model=self.name,
            codec_hash=hash_parts(folder, "vae"),
            text_hash=hash_json([words, self.sampling["lyric_tokens"]]),
            rate_hz=self.codec.config.sampling_rate,
            channels=self.codec.config.audio_channels,
            latent_channels=config.audio_acoustic_hidden_dim,
            frames=int(self.sampling["frames"]),
            frame_samples=self.codec.hop_length,
            text_tokens=TEXT_TOKENS + int(self.sampling["lyric_tokens"]),
            text_dim=self.text_encoder.config.hidden_size,
        )
        # half a frame less: the pipeline rounds up
        self._seconds = (self.encoding.frames - 0.5) * self.encoding.frame_samples / self.encoding.rate_hz
        self.weights_hash = hash_json(
            [hash_parts(folder, *TRAINED, "condition_encoder"), asdict(self.objective)]
        )
        self._timbre, self._context = self._silence()

    def _ready(self, part: Any) -> Any:
        return part.to(self.device).eval().requires_grad_(False)

    def _silence(self) -> tuple[Tensor, Tensor]:
        """What stands for a recording where there is none: the timbre of silence ``[1, 1, D]``, and silence
        all of which is to be filled ``[1, T, 2 C]``.
        """
        silence_1tc, frames = self.conditioner.silence_latent, self.encoding.frames
        heard = -(-TIMBRE_S * self.encoding.rate_hz // self.encoding.frame_samples)
        with torch.inference_mode():
            alone = torch.zeros(1, dtype=torch.long, device=self.device)
            timbre, _ = self.conditioner.timbre_encoder(silence_1tc[:, :heard], alone)
        tiled_1tc = silence_1tc.repeat(1, -(-frames // silence_1tc.shape[1]), 1)[:, :frames]
        return timbre.clone(), torch.cat([tiled_1tc, torch.ones_like(tiled_1tc)], dim=2)

    def encode(self, sound_bcs: Tensor) -> Tensor:
        with torch.inference_mode():
            return oobleck.encode(self.codec, sound_bcs.to(self.device)).clone()

    def rescaled(self, latents_bct: Tensor) -> Tensor:
        return latents_bct

    def decode(self, latents_bct: Tensor) -> Tensor:
        with torch.inference_mode():
            return oobleck.decode(self.codec, latents_bct.to(self.device)).clone()

    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        """Words as the text encoder understands them, then lyrics as it looks them up: ``[B, TEXT_TOKENS +
        lyric tokens, D]``. Nothing is zero but what stands for no token.
        """
        words = [words_of(prompt) for prompt in prompts]
        lyric_tokens = self.encoding.text_tokens - TEXT_TOKENS
        with torch.inference_mode():
            text = self._tokens([text_of(each, self._seconds) for each in words], TEXT_TOKENS)
            hidden = self.text_encoder(input_ids=text.input_ids, attention_mask=text.attention_mask)[0]
            sung = self._tokens([lyrics_of(each) for each in words], lyric_tokens)
            looked_up = self.text_encoder.get_input_embeddings()(sung.input_ids)
        parts = [hidden * text.attention_mask[:, :, None], looked_up * sung.attention_mask[:, :, None]]
        return torch.cat(parts, dim=1).clone()

    def _tokens(self, texts: list[str], most: int) -> Any:
        return self.tokenizer(
            texts,
            padding="max_length",
            padding_side="right",
            truncation=True,
            max_length=most,
            return_tensors="pt",
        ).to(self.device)

    def items(self, latents_bct: Tensor, text_bld: Tensor, seconds_b: Tensor) -> Batch:
        """The duration is said in words, by the length of a segment: ``seconds_b`` changes nothing."""
        text_bld = text_bld.to(self.device)
        text, sung = text_bld[:, :TEXT_TOKENS], text_bld[:, TEXT_TOKENS:]
        is_text, is_sung = ((part != 0).any(-1) for part in (text, sung))
        lyrics = self.conditioner.lyric_encoder(inputs_embeds=sung, attention_mask=is_sung)
        timbre = self._timbre.expand(len(text), -1, -1)
        tokens = torch.cat([lyrics, timbre, self.conditioner.text_projector(text)], dim=1)
        mask = torch.cat([is_sung, torch.ones_like(is_sung[:, :1]), is_text], dim=1)
        return Batch({"latents": latents_bct.to(self.device), "tokens": tokens, "mask": mask})

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
        context = self._context.expand(len(noisy_bct), -1, -1)
        with masked(self.network, x["mask"]):
            flow_btc = self.network(
                noisy_bct.transpose(1, 2), t_b, t_b, x["tokens"], context, return_dict=False
            )[0]
        return flow_btc.transpose(1, 2)

    def target(self, items: Batch, draws: Draws) -> Tensor:
        return self.objective.target(items.tensors["latents"], draws.tensors["eps"], draws.tensors["t"])

    def loss_bt(self, items: Batch, draws: Draws) -> Tensor:
        return squared_loss_bt(self, items, draws)

    def draw_targets(self, count: int, generator: torch.Generator) -> Batch:
        return Batch({"noise": white_noise(self.encoding, count, generator)})

    def sampled_loss_b(self, items: Batch, draws: Draws, targets: Batch) -> Tensor:
        return sampled_error_b(self.prediction(items, draws), targets.tensors["noise"])

    def layers(self, kind: str) -> dict[str, nn.Parameter]:
        """Linear layers alone. ``output`` is the last of them: what follows is a transposed convolution."""
        if kind not in LAYER_PATTERNS:
            raise UsageError(f"there are no layers {kind!r}: choose one of {', '.join(LAYER_PATTERNS)}")
        within = f"{self._blocks[-1]}." if kind in ("last-mlp", "output") else "layers."
        return {
            n: p
            for n, p in self.network.named_parameters()
            if n.startswith(within) and any(pattern in n for pattern in LAYER_PATTERNS[kind])
        }

    def hidden_states(self, items: Batch, draws: Draws) -> list[Tensor]:
        return outputs_of(self.network, self._blocks, lambda: self.prediction(items, draws))

    def sample(self, prompt: str, seconds: float, seed: int, on_step: OnStep | None = None) -> Tensor:
        """Latents ``[1, C, T]`` by the pipeline's own sampler. Noise is drawn on the CPU: a seed means the
        same anywhere.
        """
        scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0)
        pipeline = AceStepPipeline(
            self.codec, self.text_encoder, self.tokenizer, self.network, self.conditioner, scheduler
        )
        pipeline.set_progress_bar_config(disable=True)
        words = words_of(prompt)
        start = white_noise(self.encoding, 1, torch.Generator().manual_seed(seed)).to(self.device)
        steps = int(self.sampling["steps"])
        bpm = words.metas.get("bpm", "")
        latents_1tc = pipeline(
            words.caption,
            lyrics=words.lyrics,
            vocal_language=words.language,
            audio_duration=self._seconds,
            bpm=int(bpm) if bpm.isdigit() else None,
            keyscale=words.metas.get("keyscale"),
            timesignature=words.metas.get("timesignature"),
            num_inference_steps=steps,
            guidance_scale=self.sampling["guidance"],
            shift=self.sampling["shift"],
            latents=start.transpose(1, 2),
            max_lyric_length=self.encoding.text_tokens - TEXT_TOKENS,
            output_type="latent",
            callback=(lambda done, _t, _latents: on_step(done + 1, steps)) if on_step else None,
        ).audios
        return latents_1tc.transpose(1, 2).clone()

    def trained_parts(self) -> nn.ModuleDict:
        return nn.ModuleDict({TRAINED[0]: self.network})

    def training_items(
        self, latents_bct: Tensor, text_bld: Tensor, seconds_b: Tensor, unconditional_b: Tensor
    ) -> Batch:
        """Without conditioning, every token is the one that the model has learned for it."""
        x = self.items(latents_bct, text_bld, seconds_b).tensors
        dropped_b = unconditional_b.to(self.device)[:, None, None]
        nothing = self.conditioner.null_condition_emb.expand_as(x["tokens"])
        return Batch({**x, "tokens": torch.where(dropped_b, nothing, x["tokens"])})

    def save_parts(self, folder: Path) -> None:
        self.network.save_pretrained(folder / TRAINED[0])  # type: ignore[operator]

    @staticmethod
    def write_untrained(model: Path, folder: Path, seed: int) -> None:
        shutil.copytree(model, folder, ignore=shutil.ignore_patterns(*TRAINED, "training*", "checkpoints"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = AceStepTransformer1DModel.load_config(model / TRAINED[0])
            AceStepTransformer1DModel.from_config(config).save_pretrained(folder / TRAINED[0])


@contextmanager
def masked(network: nn.Module, mask_bl: Tensor) -> Iterator[None]:
    """While open, the blocks of a network attend to those tokens alone for which the mask is true: the
    network itself has no way to say so, and each item would see as much padding as its batch needs.
    """
    mask_b11l = mask_bl[:, None, None]

    def before(_block: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**given, "encoder_attention_mask": mask_b11l}

    blocks: Any = network.layers
    handles = [block.register_forward_pre_hook(before, with_kwargs=True) for block in blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
