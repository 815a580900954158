"""A tiny codec language model, written against ``linernotes.models.contract`` alone; docs/add-a-model.md
walks through it.

It shares no code with Stable Audio: sound becomes codes of two codebooks, frame by frame; a network reads the
codes so far and says how likely each next one is. Its loss is the cross-entropy: no noise, no time, one draw.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from linernotes.draws import EVERY_LEVEL, Batch, Draws, Levels, no_draws
from linernotes.errors import UsageError
from linernotes.models.contract import best_device
from linernotes.models.encoding import Encoding
from linernotes.models.hidden import outputs_of

RATE_HZ, FRAME_SAMPLES, FRAMES = 8000, 256, 16
CODEBOOKS, CODES, WIDTH, WORDS = 2, 32, 24, 16
MARKER = "codec_lm.json"


class Network(nn.Module):
    """Codes of earlier frames and a prompt -> logits of each frame's codes ``[B, T, K, V]``: a causal
    convolution, two blocks and a head for each codebook.
    """

    def __init__(self) -> None:
        super().__init__()
        # the last: before the first frame
        self.embed = nn.ModuleList(nn.Embedding(CODES + 1, WIDTH) for _ in range(CODEBOOKS))
        self.prompt = nn.Linear(WORDS, WIDTH)
        self.past = nn.Conv1d(WIDTH, WIDTH, 3)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH)
            )
            for _ in range(2)
        )
        self.heads = nn.ModuleList(nn.Linear(WIDTH, CODES) for _ in range(CODEBOOKS))

    def forward(self, codes_bkt: Tensor, text_bw: Tensor) -> Tensor:
        # what frame t may know: frames before it
        before_bkt = functional.pad(codes_bkt[..., :-1], (1, 0), value=CODES)
        hidden_btd = (
            sum(embed(before_bkt[:, k]) for k, embed in enumerate(self.embed)) + self.prompt(text_bw)[:, None]
        )
        hidden_btd = hidden_btd + self.past(functional.pad(hidden_btd.transpose(1, 2), (2, 0))).transpose(
            1, 2
        )
        for block in self.blocks:
            hidden_btd = hidden_btd + block(hidden_btd)
        return torch.stack([head(hidden_btd) for head in self.heads], dim=2)


class CodecLanguageModel:
    """See ``linernotes.models.contract.GenerativeModel``; it can also show its hidden states, and nothing
    else.
    """

    random = False
    layer_kinds: Sequence[str] = ("all", "mlp", "output")

    @staticmethod
    def holds(folder: Path) -> bool:
        return (folder / MARKER).is_file()

    def __init__(self, folder: Path, device: torch.device | None = None) -> None:
        self.name = folder.name
        self.device = device or best_device()
        self.network: nn.Module = Network()
        weights = load_file(folder / "weights.safetensors")
        self.network.load_state_dict(weights)
        self.network.to(self.device).eval().requires_grad_(False)
        self.weights_hash = f"{zlib.crc32(b''.join(t.numpy().tobytes() for t in weights.values())):08x}"
        self.encoding = Encoding(
            model=self.name,
            codec_hash="two loudness codebooks",
            text_hash="hashed words",
            rate_hz=RATE_HZ,
            channels=1,
            latent_channels=CODEBOOKS,
            frames=FRAMES,
            frame_samples=FRAME_SAMPLES,
            text_tokens=1,
            text_dim=WORDS,
            codes=CODES,
        )

    def encode(self, sound_bcs: Tensor) -> Tensor:
        """Codes of a frame: its loudness, and its share of zero crossings (a pitch, of a kind)."""
        frames_btn = sound_bcs[:, 0].reshape(len(sound_bcs), FRAMES, FRAME_SAMPLES)
        loudness_bt = frames_btn.square().mean(dim=2).sqrt()
        crossings_bt = (frames_btn.diff(dim=2).sign().diff(dim=2) != 0).float().mean(dim=2)
        return (torch.stack([loudness_bt, crossings_bt], dim=1) * CODES).long().clamp(0, CODES - 1)

    def decode(self, latents_bct: Tensor) -> Tensor:
        """A tone as loud and as high as the codes say."""
        loudness_bn, crossings_bn = (
            (latents_bct.double() / CODES).repeat_interleave(FRAME_SAMPLES, dim=2).unbind(dim=1)
        )
        return (loudness_bn * torch.sin(torch.cumsum(crossings_bn * torch.pi, dim=1)))[:, None].float()

    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        """A bag of hashed words, as one token."""
        text_bld = torch.zeros(len(prompts), 1, WORDS)
        for b, prompt in enumerate(prompts):
            for word in prompt.lower().split():
                text_bld[b, 0, zlib.crc32(word.encode()) % WORDS] = 1
        return text_bld

    def items(self, latents_bct: Tensor, text_bld: Tensor, seconds_b: Tensor) -> Batch:
        return Batch({"codes": latents_bct.long().to(self.device), "text": text_bld[:, 0].to(self.device)})

    def draw(
        self,
        count: int,
        generator: torch.Generator,
        levels: Levels = EVERY_LEVEL,
        order: Tensor | None = None,
    ) -> Draws:
        return no_draws(count)

    def loss_bt(self, items: Batch, draws: Draws) -> Tensor:
        return self._cross_entropy_bt(items, items.tensors["codes"])

    def draw_targets(self, count: int, generator: torch.Generator) -> Batch:
        return Batch({"uniform": torch.rand(count, FRAMES, CODEBOOKS, 1, generator=generator)})

    def sampled_loss_b(self, items: Batch, draws: Draws, targets: Batch) -> Tensor:
        """Against codes drawn from its own distribution: scaled so that the mean over frames has the
        curvature of the mean.
        """
        with torch.no_grad():
            upto_btkv = self._logits(items).softmax(dim=-1).cumsum(dim=-1)
            drawn_bkt = (
                (upto_btkv < targets.tensors["uniform"]).sum(dim=-1).clamp_max(CODES - 1).transpose(1, 2)
            )
        return self._cross_entropy_bt(items, drawn_bkt).sum(dim=1) * (CODEBOOKS / FRAMES) ** 0.5

    def layers(self, kind: str) -> dict[str, nn.Parameter]:
        starts = {"all": "", "mlp": "blocks.", "output": "heads."}
        if kind not in starts:
            raise UsageError(f"{self.name} has no layers {kind!r}: choose --layers from {', '.join(starts)}")
        return {name: p for name, p in self.network.named_parameters() if name.startswith(starts[kind])}

    def hidden_states(self, items: Batch, draws: Draws) -> list[Tensor]:
        return outputs_of(self.network, ["blocks.0", "blocks.1"], lambda: self._logits(items))

    def _logits(self, items: Batch) -> Tensor:
        return self.network(items.tensors["codes"], items.tensors["text"])

    def _cross_entropy_bt(self, items: Batch, targets_bkt: Tensor) -> Tensor:
        logits_bvtk = self._logits(items).movedim(3, 1)
        return functional.cross_entropy(logits_bvtk, targets_bkt.transpose(1, 2), reduction="none").mean(
            dim=2
        )


def write_codec_model(folder: Path, seed: int = 0) -> Path:
    """An untrained one."""
    folder.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        save_file(Network().state_dict(), folder / "weights.safetensors")
    (folder / MARKER).write_text(json.dumps({"codebooks": CODEBOOKS, "codes": CODES}))
    return folder


def train_codec_model(
    model: CodecLanguageModel, items: Batch, steps: int, folder: Path
) -> CodecLanguageModel:
    """The same after a short training on items, written to ``folder``."""
    network = model.network.requires_grad_(True)
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        model.loss_bt(items, no_draws(len(items))).mean().backward()
        optimiser.step()
    network.requires_grad_(False)
    write_codec_model(folder)
    save_file(network.state_dict(), folder / "weights.safetensors")
    return CodecLanguageModel(folder)
