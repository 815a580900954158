"""Holds adapters against PEFT itself, on a tiny model: PEFT opens what linernotes writes, linernotes what
PEFT writes, and both predict the same in fp32.

    pip install peft
    python dev/reference_peft.py

Prints the largest differences.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from linernotes.models.adapter_folder import paired
from linernotes.models.opening import open_model
from linernotes.models.stable_audio import StableAudio

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from conftest import draws_of, write_model
from test_adapters import new, stir

OTHERS: list[dict[str, Any]] = [
    {},
    {"use_rslora": True},
    {"rank_pattern": {"attn1.to_q": 2}, "alpha_pattern": {"attn1.to_q": 5}},
]


def main(place: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    base = write_model(place / "base")
    model = StableAudio(base)
    latents = torch.randn(3, model.encoding.latent_channels, model.encoding.frames, generator=generator)
    items = model.items(latents, model.embed_text(["tone 0", "tone 1", "x"]), torch.full((3,), 0.4))
    draws = draws_of(model, 3)

    def differ(one: Any, other: Any, what: str) -> None:
        with torch.inference_mode():
            found, expected, plain = (m.prediction(items, draws) for m in (one, other, model))
        apart, moved = (found - expected).abs().max(), (expected - plain).abs().max()
        print(f"{what}: {apart:.2g}, and the adapter moves the prediction by {moved:.2g}")

    for dora in (False, True):
        kind = "DoRA" if dora else "LoRA"
        written = stir(new(place / f"ours-{kind}", base, dora))
        by_peft = StableAudio(base)
        by_peft.network = PeftModel.from_pretrained(by_peft.network, str(written)).eval()
        differ(open_model(written), by_peft, f"{kind} written by linernotes")
        for number, more in enumerate(OTHERS):
            theirs = StableAudio(base)
            layers = ["to_q", "to_k", "to_v", "to_out.0"]
            config = LoraConfig(r=4, lora_alpha=6, target_modules=layers, use_dora=dora, **more)
            network = get_peft_model(theirs.network, config)
            for name, parameter in network.named_parameters():
                if "lora_" in name:
                    parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
            theirs.network = network.eval()
            folder = place / f"theirs-{kind}-{number}"
            network.save_pretrained(folder)
            differ(open_model(paired(base, folder)), theirs, f"{kind} written by PEFT {more or ''}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(Path(place))
