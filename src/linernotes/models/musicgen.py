"""The adapter for MusicGen as transformers has it: a language model of codes, after Copet et al. 2023
(2306.05284).

A segment is codes of K codebooks ``[K, T]``. They are read in a delay pattern: codebook k of frame t stands
at position t + d_k + 1, where d_k is k (in stereo the codebooks of both sides take turns, and d_k is k // 2);
what is not there is padding, the number after the last code. The item loss is the cross-entropy of a frame's
codes, each given all that stands before it, mean over codebooks: exact, without noise, one draw.

transformers' ``labels=`` does not put labels into the pattern; it is done here.
"""

from __future__ import annotations

import inspect
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    MusicgenForCausalLM,
    MusicgenForConditionalGeneration,
)

from linernotes.artefacts import hash_json
from linernotes.draws import EVERY_LEVEL, Batch, Draws, Levels, no_draws
from linernotes.errors import LinernotesError, UsageError
from linernotes.models.contract import HeadsPass, OnStep, exact_device
from linernotes.models.encoding import Encoding
from linernotes.models.folder import check_musicgen, musicgen_kind
from linernotes.models.hidden import outputs_of
from linernotes.models.musicgen_parts import hash_part, hash_tokenizer, load_musicgen

LAYER_PATTERNS: dict[str, tuple[str, ...]] = {
    "all": ("",),
    "self-attention": ("self_attn.",),
    "cross-attention": ("encoder_attn.",),
    "cross-attention-kv": ("encoder_attn.k_proj.", "encoder_attn.v_proj."),
    "mlp": ("fc1.", "fc2."),
    "last-mlp": ("fc2.",),
    "output": (),
}
BLOCKS = "model.decoder.layers."
MOST_TOKENS = 256  # of a prompt: catalogues store that many places for each
# transformers' own, where a folder says nothing
UNTOLD = {"guidance_scale": 1.0, "temperature": 1.0, "top_k": 50}
# what generation remembers of the positions so far; transformers 5.24 renamed it
CACHE = "cache" if "cache" in inspect.signature(MusicgenForCausalLM.forward).parameters else "past_key_values"


class MusicGen:
    """A ``GenerativeModel`` with a read-out, that shows hidden states, generates and is trained. See
    ``models/contract.py`` for the methods.
    """

    random = False
    layer_kinds: Sequence[str] = tuple(LAYER_PATTERNS)

    @staticmethod
    def holds(folder: Path) -> bool:
        """Whether the folder is of this family."""
        return musicgen_kind(folder) is not None

    def __init__(self, folder: Path, device: torch.device | None = None) -> None:
        check_musicgen(folder)
        self.device = exact_device(device)
        self.name = folder.resolve().name
        self.model, self.tokenizer = load_musicgen(folder)
        self.model.to(self.device).eval().requires_grad_(False)
        self.network: nn.Module = self.model.decoder
        self.codec: Any = self.model.audio_encoder
        config: Any = self.model.config
        audio, decoder = config.audio_encoder, config.decoder
        self.sides: int = decoder.audio_channels
        self.delays = [k // self.sides for k in range(decoder.num_codebooks)]
        self.generation: Any = self.model.generation_config
        self.encoding = Encoding(
            model=self.name,
            codec_hash=hash_part(self.model, "audio_encoder"),
            text_hash=hash_json([hash_part(self.model, "text_encoder"), hash_tokenizer(folder)]),
            rate_hz=audio.sampling_rate,
            channels=self.sides,
            latent_channels=decoder.num_codebooks,
            frames=self.generation.max_length,
            frame_samples=audio.hop_length,
            text_tokens=min(self.tokenizer.model_max_length, MOST_TOKENS),
            text_dim=config.text_encoder.hidden_size,
            codes=decoder.vocab_size,
        )
        self.weights_hash = hash_json([hash_part(self.model, part) for part in self._trained()])

    def encode(self, sound_bcs: Tensor) -> Tensor:
        """Codes ``[B, K, T]``; in stereo those of the left and of the right in turns."""
        each = self.encoding.latent_channels // self.sides
        widest = getattr(self.codec.config, "target_bandwidths", [None])[-1]
        with torch.inference_mode():
            mono_b1s = sound_bcs.to(self.device).flatten(0, 1)[:, None]
            codes_nkt = self.codec.encode(mono_b1s, bandwidth=widest).audio_codes[0][:, :each]
        codes_bskt = codes_nkt.reshape(-1, self.sides, *codes_nkt.shape[1:])
        return codes_bskt.transpose(1, 2).flatten(1, 2).clone()

    def decode(self, latents_bct: Tensor) -> Tensor:
        codes_bkt = self._codes(latents_bct)
        batch, codebooks, frames = codes_bkt.shape
        by_side = codes_bkt.reshape(batch, codebooks // self.sides, self.sides, frames).transpose(1, 2)
        with torch.inference_mode():
            sound_n1s = self.codec.decode(by_side.flatten(0, 1)[None], [None]).audio_values
        return sound_n1s.reshape(batch, self.sides, -1).clone()

    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.encoding.text_tokens,
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        with torch.inference_mode():
            hidden_bld = self.model.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        return (hidden_bld * tokens.attention_mask[:, :, None]).clone()

    def items(self, latents_bct: Tensor, text_bld: Tensor, seconds_b: Tensor) -> Batch:
        """Codes, the prompt's projected embeddings and their mask, and which frames the clip lasts.

        Raises:
            LinernotesError: a code is outside the codebook.
        """
        text_bld = text_bld.to(self.device)
        said_bl = (text_bld != 0).any(dim=2)
        last_b = seconds_b.to(self.device) * self.encoding.rate_hz / self.encoding.frame_samples
        frame_t = torch.arange(self.encoding.frames, device=self.device)
        return Batch(
            {
                "codes": self._codes(latents_bct),
                "text": self._projected(text_bld) * said_bl[:, :, None],
                "said": said_bl,
                "lasts": (frame_t < last_b[:, None] - 1e-3).float(),
            }
        )

    def draw(
        self,
        count: int,
        generator: torch.Generator,
        levels: Levels = EVERY_LEVEL,
        order: Tensor | None = None,
    ) -> Draws:
        return no_draws(count)

    def loss_bt(self, items: Batch, draws: Draws) -> Tensor:
        """Frames after a clip's end count nothing, as in training."""
        return self._cross_entropy_bt(self.logits(items), items.tensors["codes"]) * items.tensors["lasts"]

    def draw_targets(self, count: int, generator: torch.Generator) -> Batch:
        shape = (count, self.encoding.latent_channels, self.encoding.frames, 1)
        return Batch({"uniform": torch.rand(shape, generator=generator)})

    def sampled_loss_b(self, items: Batch, draws: Draws, targets: Batch) -> Tensor:
        """Against codes drawn from the model's own distribution; the sum of T K cross-entropies over
        sqrt(T K) has the curvature of their mean.
        """
        logits_bktv = self.logits(items)
        with torch.no_grad():
            upto_bktv = logits_bktv.softmax(dim=3).cumsum(dim=3)
            drawn_bkt = (upto_bktv < targets.tensors["uniform"]).sum(dim=3).clamp_max(self.encoding.codes - 1)
        loss_bt = self._cross_entropy_bt(logits_bktv, drawn_bkt) * items.tensors["lasts"]
        return loss_bt.sum(dim=1) * math.sqrt(self.encoding.latent_channels / self.encoding.frames)

    def logits(self, items: Batch) -> Tensor:
        """Of each frame's codes, given all that stands before them in the pattern: ``[B, K, T, V]``."""
        codes_bkt = items.tensors["codes"]
        frames, last = codes_bkt.shape[2], self.delays[-1]
        ids_bks = torch.stack(
            [
                functional.pad(codes_bkt[:, k], (d + 1, last - d), value=self.encoding.codes)
                for k, d in enumerate(self.delays)
            ],
            dim=1,
        )
        given_ns = ids_bks[:, :, :-1].flatten(0, 1)  # the last position is only foretold
        logits_bksv = self._decode(given_ns, items.tensors["text"], items.tensors["said"])
        foretold = [logits_bksv[:, k, d : d + frames] for k, d in enumerate(self.delays)]
        return torch.stack(foretold, dim=1)

    @property
    def heads(self) -> list[str]:
        """The layers that give the logits, one a codebook."""
        return [f"lm_heads.{k}" for k in range(len(self.delays))]

    def heads_pass(self, items: Batch) -> HeadsPass:
        """The heads share what they are given; where they read it, the delay pattern says."""
        given: list[Tensor] = []
        head: Any = self.network.get_submodule(self.heads[0])
        handle = head.register_forward_pre_hook(lambda _layer, inputs: given.append(inputs[0]))
        try:
            logits_bktv = self.logits(items)
        finally:
            handle.remove()
        frames = logits_bktv.shape[2]
        given_bktf = torch.stack([given[0][:, d : d + frames] for d in self.delays], dim=1)
        return HeadsPass(given_bktf, logits_bktv, items.tensors["codes"], items.tensors["lasts"])

    def layers(self, kind: str) -> dict[str, nn.Parameter]:
        if kind not in LAYER_PATTERNS:
            raise UsageError(f"there are no layers {kind!r}: choose one of {', '.join(LAYER_PATTERNS)}")
        named = dict(self.network.named_parameters())
        if kind == "output":
            return {n: p for n, p in named.items() if n.startswith("lm_heads.")}
        start = f"{BLOCKS}{self._blocks() - 1}." if kind == "last-mlp" else BLOCKS
        blocks = {n: p for n, p in named.items() if n.startswith(start)}
        return {n: p for n, p in blocks.items() if any(pattern in n for pattern in LAYER_PATTERNS[kind])}

    def hidden_states(self, items: Batch, draws: Draws) -> list[Tensor]:
        names = [f"{BLOCKS}{i}" for i in range(self._blocks())]
        return outputs_of(self.network, names, lambda: self.logits(items))

    def sample(self, prompt: str, seconds: float, seed: int, on_step: OnStep | None = None) -> Tensor:
        """Codes ``[1, K, T]``, drawn position by position with classifier-free guidance, as transformers'
        ``generate`` does with the folder's settings. Chance is drawn on the CPU: a seed means the same
        anywhere. Frames after ``seconds`` are not generated and hold 0.
        """
        shape = self.encoding
        frames = min(shape.frames, math.ceil(seconds * shape.rate_hz / shape.frame_samples - 1e-3))
        steps = frames + self.delays[-1]
        delay_k = torch.tensor(self.delays, device=self.device)
        generator = torch.Generator().manual_seed(seed)
        nothing_1kt = torch.zeros(1, shape.latent_channels, shape.frames)
        one = self.items(nothing_1kt, self.embed_text([prompt]), torch.tensor([seconds]))
        # the prompt, and none: what guidance leads away from
        text_2ld = torch.cat([one.tensors["text"], torch.zeros_like(one.tensors["text"])])
        said_2l = torch.cat([one.tensors["said"], torch.zeros_like(one.tensors["said"])])
        ids_ks = torch.full((shape.latent_channels, steps + 1), shape.codes, device=self.device)
        parts = [DynamicCache(config=self.model.config.decoder) for _ in range(2)]
        cache = EncoderDecoderCache(*parts)
        for s in range(steps):
            given_ns = ids_ks[:, s : s + 1].repeat(2, 1)
            with torch.inference_mode():
                logits_2kv = self._decode(given_ns, text_2ld, said_2l, cache)[:, :, -1]
            drawn_k = self._drawn(logits_2kv, generator).to(self.device)
            here_k = (s >= delay_k) & (s < delay_k + frames)
            ids_ks[:, s + 1] = torch.where(here_k, drawn_k, ids_ks[:, s + 1])
            if on_step:
                on_step(s + 1, steps)
        codes = [ids_ks[k, d + 1 : d + 1 + frames] for k, d in enumerate(self.delays)]
        return functional.pad(torch.stack(codes), (0, shape.frames - frames))[None]

    def _drawn(self, logits_2kv: Tensor, generator: torch.Generator) -> Tensor:
        """One code of each codebook, ``[K]``, from the guided logits."""
        guidance, temperature, top_k = (
            value if (value := getattr(self.generation, name)) is not None else untold
            for name, untold in UNTOLD.items()
        )
        said_kv, unsaid_kv = logits_2kv.cpu()
        guided_kv = unsaid_kv + guidance * (said_kv - unsaid_kv) if guidance > 1 else said_kv
        if not self.generation.do_sample:
            return guided_kv.argmax(dim=1)
        scaled_kv = guided_kv / temperature
        if 0 < top_k < scaled_kv.shape[1]:
            least_k1 = scaled_kv.topk(int(top_k), dim=1).values[:, -1:]
            scaled_kv = scaled_kv.masked_fill(scaled_kv < least_k1, -math.inf)
        return torch.multinomial(scaled_kv.softmax(dim=1), 1, generator=generator)[:, 0]

    def trained_parts(self) -> nn.ModuleDict:
        return nn.ModuleDict({name: getattr(self.model, name) for name in self._trained()})

    def training_items(
        self, latents_bct: Tensor, text_bld: Tensor, seconds_b: Tensor, unconditional_b: Tensor
    ) -> Batch:
        """A prompt that is not said has no embeddings and is not attended to."""
        text_bld = text_bld.masked_fill(unconditional_b[:, None, None].to(text_bld.device), 0)
        return self.items(latents_bct, text_bld, seconds_b)

    def save_parts(self, folder: Path) -> None:
        self.model.save_pretrained(folder)  # all weights are in one file

    @staticmethod
    def write_untrained(model: Path, folder: Path, seed: int) -> None:
        ignored = shutil.ignore_patterns("*.safetensors*", "training*", "checkpoints")
        shutil.copytree(model, folder, ignore=ignored)
        old, _ = load_musicgen(model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            new = MusicgenForConditionalGeneration(
                old.config, text_encoder=old.text_encoder, audio_encoder=old.audio_encoder
            )
        new.generation_config = old.generation_config
        new.save_pretrained(folder)

    def _trained(self) -> list[str]:
        return [name for name in ("decoder", "enc_to_dec_proj") if hasattr(self.model, name)]

    def _blocks(self) -> int:
        return int(self.model.config.decoder.num_hidden_layers)

    def _projected(self, text_bld: Tensor) -> Tensor:
        projection = getattr(self.model, "enc_to_dec_proj", None)
        return text_bld if projection is None else projection(text_bld)

    def _decode(self, ids_ns: Tensor, text_bld: Tensor, said_bl: Tensor, cache: Any = None) -> Tensor:
        """One pass: ids of B items' K codebooks ``[B K, S]`` -> logits ``[B, K, S, V]``."""
        logits_nsv = self.network(
            input_ids=ids_ns,
            encoder_hidden_states=text_bld,
            encoder_attention_mask=said_bl.long(),
            use_cache=cache is not None,
            **{CACHE: cache},
        ).logits
        return logits_nsv.reshape(-1, len(self.delays), *logits_nsv.shape[1:])

    def _cross_entropy_bt(self, logits_bktv: Tensor, codes_bkt: Tensor) -> Tensor:
        losses = functional.cross_entropy(logits_bktv.flatten(0, 2), codes_bkt.flatten(), reduction="none")
        return losses.view(codes_bkt.shape).mean(dim=1)

    def _codes(self, latents_bct: Tensor) -> Tensor:
        """Stored numbers as codes.

        Raises:
            LinernotesError: they are none of the codebook's.
        """
        latents_bct = latents_bct.to(self.device)
        codes_bkt = latents_bct.long()
        wrong = (codes_bkt < 0) | (codes_bkt >= self.encoding.codes) | (codes_bkt != latents_bct)
        if bool(wrong.any()):
            raise LinernotesError(
                f"there is a code {latents_bct[wrong][0].item():g}, and {self.name} has codes from 0 to "
                f"{self.encoding.codes - 1}: encode the sound with this model, or build its catalogue anew "
                "with 'linernotes catalog build'"
            )
        return codes_bkt
