"""Holds linernotes against Stable Audio 3's own code, on random weights: the network in fp32, and every kind
of adapter that linernotes reads, applied and saved by that code.

    git clone https://github.com/Stability-AI/stable-audio-3 CHECKOUT
    pip install einops
    python dev/reference_stable_audio_3.py CHECKOUT

Prints the largest differences. Nothing of the checkout is installed: its network and adapters import torch
and einops alone.
"""

from __future__ import annotations

import sys
import tempfile
import types
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from linernotes.models.adapted import with_adapter
from linernotes.models.adapter_folder import Base
from linernotes.models.adapter_sa3 import KINDS, read_stable_audio_3
from linernotes.models.stable_audio_3 import StableAudio3

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from test_stable_audio_3 import write_pipeline

WIDTH, CHANNELS, FRAMES, MEMORY, WORDS, INPAINTED = 128, 6, 16, 3, 24, 7


def theirs(checkout: Path) -> Any:
    """Their network, without the packages around it, which import much more."""
    root = checkout / "stable_audio_3"
    for name, path in (("stable_audio_3", root), ("stable_audio_3.models", root / "models")):
        package = types.ModuleType(name)
        package.__path__ = [str(path)]
        sys.modules[name] = package
    torch.manual_seed(0)
    network: nn.Module = import_module("stable_audio_3.models.dit").DiffusionTransformer(
        io_channels=CHANNELS,
        embed_dim=WIDTH,
        depth=2,
        num_heads=2,
        cond_token_dim=WORDS,
        project_cond_tokens=True,
        global_cond_dim=WORDS,
        global_cond_type="adaLN",
        timestep_features_type="expo",
        timestep_features_dim=16,
        diffusion_objective="rectified_flow",
        num_memory_tokens=MEMORY,
        local_add_cond_dim=INPAINTED,
        norm_type="rms_norm",
        attn_kwargs={"qk_norm": "rms", "differential": True},
        ff_kwargs={"mult": 4},
    )
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if not parameter.any():  # zero until it was trained
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return network.eval().requires_grad_(False)


def ours(folder: Path, network: Any) -> StableAudio3:
    """A model here whose network has the weights of theirs."""
    write_pipeline(folder, embed_dim=WIDTH, num_heads=2)
    model = StableAudio3(folder)
    weights = {}
    for name, tensor in network.state_dict().items():
        layer, _, part = name.rpartition(".")
        own, rows = model.renamed(f"model.{layer}") if layer else (layer, None)
        own = f"{own}.{part}".lstrip(".")
        own = own.replace("transformer.memory_tokens", "memory_tokens")
        own = own.replace("transformer.rotary_pos_emb", "rotary_pos_emb")
        weights[own] = tensor if rows is None else tensor[rows]
    missing, unexpected = model.network.load_state_dict(weights, strict=False)
    assert missing == ["prompt_padding_embedding"] and not unexpected, (missing, unexpected)
    return model


def main(checkout: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    network = theirs(checkout)
    noisy = torch.randn(2, CHANNELS, FRAMES, generator=generator)
    words, duration = (
        torch.randn(2, 5, WORDS, generator=generator),
        torch.randn(2, WORDS, generator=generator),
    )
    t = torch.tensor([0.2, 0.8])

    def differ(model: Any, what: str, plain: torch.Tensor | None = None) -> torch.Tensor:
        with torch.inference_mode():
            expected = network(noisy, t, cross_attn_cond=words, global_embed=duration)
            found = model.network(noisy, t, words, duration).sample
        moved = "" if plain is None else f", and the adapter moves it by {(expected - plain).abs().max():.2g}"
        print(f"{what}: {(expected - found).abs().max():.2g} of {expected.abs().max():.2g}{moved}")
        return expected

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        plain = differ(ours(folder, network), "network")
        lora = import_module("stable_audio_3.models.lora")
        for kind in KINDS:
            adapted = nn.ModuleDict({"model": theirs(checkout)})
            parametrization = lora.LoRAParametrization
            of = {"rank": 4, "lora_alpha": 6, "adapter_type": kind}
            lora.add_lora(
                adapted,
                {
                    nn.Linear: {"weight": partial(parametrization.from_linear, **of)},
                    nn.Conv1d: {"weight": partial(parametrization.from_conv1d, **of)},
                },
                exclude=["to_local_embed"],
            )
            for name, parameter in adapted.named_parameters():
                if lora.name_is_lora(name):
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.data = (parameter.data + 0.1 * noise).half().float()  # it is saved in half
            file = Path(place) / kind / "adapter.safetensors"
            file.parent.mkdir()
            config = {"rank": 4, "alpha": 6, "adapter_type": kind}
            lora.save_lora_safetensors(lora.get_lora_state_dict(adapted), config, file)
            model = ours(Path(place) / f"model-{kind}", network)
            adapter, _ = read_stable_audio_3(file.parent, model)
            with_adapter(model, adapter, file.parent, Base(str(folder), "model"))
            network = adapted["model"]
            differ(model, f"network with {kind} on {len(adapter)} layers", plain)
            network = theirs(checkout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
