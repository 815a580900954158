"""Holds linernotes against stable-audio-tools itself, on random weights: conditioning, latents, sound,
prediction and training loss in fp32.

    git clone https://github.com/Stability-AI/stable-audio-tools CHECKOUT
    pip install einops
    python dev/reference_stable_audio_tools.py CHECKOUT

Of the checkout only the model's modules run; packages they import for other ends need not be there.
"""

from __future__ import annotations

import importlib.machinery
import json
import sys
import tempfile
import warnings
from importlib.abc import Loader, MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import T5Config, T5EncoderModel

from linernotes.models.small import SmallModel, train_tokenizer
from linernotes.models.stable_audio import StableAudio

UNUSED = ("torchaudio", "alias_free_torch", "k_diffusion", "auraloss", "dac", "encodec")
UNUSED += ("vector_quantize_pytorch", "local_attention", "torchdiffeq", "laion_clap", "pytorch_lightning")
UNUSED += ("ema_pytorch", "torchvision", "dctorch", "prefigure", "webdataset", "pywt", "einops_exts")
PROMPTS = [
    "a low tone",
    "a reel in D major for two violins that goes on for longer than there is room",
    "",
]
SECONDS = [3, 11, 7]


class _Nothing(ModuleType):
    """Stands where a package is imported that these models do not use."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Stubs(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.split(".")[0] in UNUSED:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> ModuleType:
        return _Nothing(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def config(text: Path, objective: str, seconds: list[tuple[str, str]], **more: Any) -> dict[str, Any]:
    """A small model of a kind."""
    oobleck = {"c_mults": [1, 2, 4], "strides": [2, 4, 5], "channels": 16, "use_snake": True}
    ids = [name for name, _ in seconds]
    ranges = {"number": {"min_val": 0, "max_val": 12}, "int": {"min_val": 0, "max_val": 12}}
    return {
        "model_type": "diffusion_cond",
        "sample_size": 40 * 24,
        "sample_rate": 8000,
        "audio_channels": 2,
        "model": {
            "pretransform": {
                "type": "autoencoder",
                "scale": more.get("scale", 1.0),
                "config": {
                    "encoder": {"type": "oobleck", "config": {**oobleck, "in_channels": 2, "latent_dim": 12}},
                    "decoder": {
                        "type": "oobleck",
                        "config": {
                            **oobleck,
                            "out_channels": 2,
                            "latent_dim": 6,
                            "final_tanh": more.get("final_tanh", False),
                        },
                    },
                    "bottleneck": {"type": "vae"},
                    "latent_dim": 6,
                    "downsampling_ratio": 40,
                    "io_channels": 2,
                },
            },
            "conditioning": {
                "configs": [
                    {"id": "prompt", "type": "t5", "config": {"t5_model_name": str(text), "max_length": 12}},
                    *({"id": name, "type": kind, "config": ranges[kind]} for name, kind in seconds),
                ],
                "cond_dim": 64,
            },
            "diffusion": {
                "type": "dit",
                "diffusion_objective": objective,
                "cross_attention_cond_ids": ["prompt", *ids],
                "global_cond_ids": ids,
                "config": {
                    "io_channels": 6,
                    "embed_dim": 128,
                    "depth": 3,
                    "num_heads": more.get("heads", 2),
                    "cond_token_dim": 64,
                    "global_cond_dim": 64 * len(ids),
                    "project_cond_tokens": more.get("project_cond_tokens", False),
                    "transformer_type": "continuous_transformer",
                    "attn_kwargs": {"qk_norm": more.get("qk_norm", "none")},
                },
            },
            "io_channels": 6,
        },
        "training": {},
    }


CASES: dict[str, dict[str, Any]] = {
    "Stable Audio Open 1.0": {
        "objective": "v",
        "seconds": [("seconds_start", "number"), ("seconds_total", "number")],
    },
    "Stable Audio Open small": {
        "objective": "rf_denoiser",
        "seconds": [("seconds_total", "number")],
        "qk_norm": "ln",
        "project_cond_tokens": True,
        "heads": 1,
    },
    "whole seconds, scaled latents, tanh": {
        "objective": "rectified_flow",
        "seconds": [("seconds_start", "int"), ("seconds_total", "int")],
        "scale": 0.7,
        "final_tanh": True,
        "qk_norm": "l2",
    },
}


def write_text_encoder(folder: Path) -> None:
    tokenizer = train_tokenizer(PROMPTS, SmallModel(vocabulary=300, prompt_tokens=12))
    tokenizer.save_pretrained(folder)
    T5EncoderModel(
        T5Config(vocab_size=len(tokenizer), d_model=48, d_kv=16, d_ff=64, num_layers=2, num_heads=3)
    ).save_pretrained(folder)


def compare(folder: Path, case: dict[str, Any]) -> dict[str, float]:
    """Largest differences between the reference's model and ours, opened from what the reference holds."""
    from stable_audio_tools.models.conditioners import T5Conditioner  # type: ignore[import-not-found]
    from stable_audio_tools.models.factory import create_model_from_config  # type: ignore[import-not-found]

    text = folder / "text_encoder"
    write_text_encoder(text)
    T5Conditioner.T5_MODELS = [str(text)]
    T5Conditioner.T5_MODEL_DIMS = {str(text): 48}
    described = config(text, **case)
    reference = create_model_from_config(described).eval()
    for parameter in reference.parameters():  # its own start has branches that add nothing
        if parameter.std() == 0 or parameter.numel() == 1:
            torch.nn.init.normal_(parameter, std=0.1)
    prompt = reference.conditioner.conditioners["prompt"]
    prompt.__dict__["model"] = T5EncoderModel.from_pretrained(
        text
    ).eval()  # it rounds its own to half precision
    save_file({n: t.contiguous() for n, t in reference.state_dict().items()}, folder / "model.safetensors")
    (folder / "model_config.json").write_text(json.dumps(described))
    ours = StableAudio(folder)

    generator = torch.Generator().manual_seed(1)
    given = list(zip(PROMPTS, SECONDS, strict=True))
    sound = torch.randn(3, 2, described["sample_size"], generator=generator) * 0.1
    metadata = [{"prompt": p, "seconds_start": 0, "seconds_total": s} for p, s in given]
    differences = {}
    with torch.no_grad():
        autoencoder = reference.pretransform.model
        mean = autoencoder.encoder(sound).chunk(2, dim=1)[0] / reference.pretransform.scale
        differences["latents"] = _largest(ours.encode(sound), mean)
        differences["sound"] = _largest(ours.decode(mean), reference.pretransform.decode(mean))
        tensors = reference.conditioner(metadata, "cpu")
        inputs = reference.get_conditioning_inputs(tensors)
        items = ours.items(mean, ours.embed_text(PROMPTS), torch.tensor(SECONDS, dtype=torch.float32))
        differences["conditioning"] = _largest(items.tensors["tokens"], inputs["cross_attn_cond"])
        draws = ours.draw(3, generator)
        t, eps = draws.tensors["t"], draws.tensors["eps"]
        if case["objective"] == "v":
            alphas, sigmas = (f(t * torch.pi / 2)[:, None, None] for f in (torch.cos, torch.sin))
            target = eps * alphas - mean * sigmas
        else:
            alphas, sigmas = 1 - t[:, None, None], t[:, None, None]
            target = eps - mean
        output = reference(mean * alphas + eps * sigmas, t, cond=tensors, cfg_dropout_prob=0.0)
        differences["prediction"] = _largest(ours.prediction(items, draws), output)
        losses = torch.nn.functional.mse_loss(output, target, reduction="none").mean(dim=(1, 2))
        differences["loss"] = _largest(ours.loss_bt(items, draws).mean(dim=1), losses)
        differences["size of the prediction"] = float(output.std())
    return differences


def _largest(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float((ours - theirs).abs().max())


def main() -> None:
    warnings.simplefilter("ignore")
    sys.meta_path.append(_Stubs())
    sys.path.insert(0, sys.argv[1])
    torch.manual_seed(0)
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            found = compare(Path(folder), case)
        print(name, {what: f"{value:.1e}" for what, value in found.items()})


if __name__ == "__main__":
    main()
