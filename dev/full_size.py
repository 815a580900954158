"""Stable Audio Open at its real size (1.06 billion parameters, 24 layers, 1,024 frames), with random weights:
how long opening, encoding and one attribution take, and how much memory.

    python dev/full_size.py PLACE [--depth 24] [--segments 3] [--draws 2] [--only plan attribute]

Needs 8 GB of disk at PLACE, which is not removed. Prints JSON, one line a step. Memory is what the process
itself allocates (RssAnon); weights are mapped from the file and counted apart (RssFile).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

GIB = 1 << 20  # in the kB of /proc


def model_config(depth: int) -> dict[str, Any]:
    """Stable Audio Open 1.0's, but for its name."""
    oobleck = {"channels": 128, "c_mults": [1, 2, 4, 8, 16], "strides": [2, 4, 4, 8, 8], "use_snake": True}
    seconds = {"min_val": 0, "max_val": 512}
    return {
        "model_type": "diffusion_cond",
        "sample_size": 2097152,
        "sample_rate": 44100,
        "audio_channels": 2,
        "model": {
            "pretransform": {
                "type": "autoencoder",
                "iterate_batch": True,
                "config": {
                    "encoder": {
                        "type": "oobleck",
                        "config": {**oobleck, "in_channels": 2, "latent_dim": 128},
                    },
                    "decoder": {
                        "type": "oobleck",
                        "config": {**oobleck, "out_channels": 2, "latent_dim": 64, "final_tanh": False},
                    },
                    "bottleneck": {"type": "vae"},
                    "latent_dim": 64,
                    "downsampling_ratio": 2048,
                    "io_channels": 2,
                },
            },
            "conditioning": {
                "configs": [
                    {"id": "prompt", "type": "t5", "config": {"t5_model_name": "t5-base", "max_length": 128}},
                    {"id": "seconds_start", "type": "number", "config": seconds},
                    {"id": "seconds_total", "type": "number", "config": seconds},
                ],
                "cond_dim": 768,
            },
            "diffusion": {
                "cross_attention_cond_ids": ["prompt", "seconds_start", "seconds_total"],
                "global_cond_ids": ["seconds_start", "seconds_total"],
                "type": "dit",
                "config": {
                    "io_channels": 64,
                    "embed_dim": 1536,
                    "depth": depth,
                    "num_heads": 24,
                    "cond_token_dim": 768,
                    "global_cond_dim": 1536,
                    "project_cond_tokens": False,
                    "transformer_type": "continuous_transformer",
                },
            },
            "io_channels": 64,
        },
        "training": {"use_ema": True},
    }


def write_model(place: Path, depth: int, _segments: int, _draws: int) -> dict[str, Any]:
    import torch
    from transformers import T5Config, T5EncoderModel

    from linernotes.models import stable_audio_tools as tools
    from linernotes.models.small import SmallModel, train_tokenizer
    from linernotes.models.stable_audio_tools_modules import new_modules
    from linernotes.models.stable_audio_tools_schema import ToolsConfig

    place.mkdir(parents=True)
    torch.manual_seed(0)
    described = model_config(depth)
    tokenizer = train_tokenizer(["a slow piece for strings"], SmallModel(prompt_tokens=128, vocabulary=300))
    tokenizer.save_pretrained(place / "tokenizer")
    sizes = {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
    T5EncoderModel(T5Config(**sizes)).save_pretrained(place / "text_encoder")
    config = ToolsConfig.model_validate(described)
    modules = new_modules(config, 768)
    tools._save(place, modules, tools._tables(config, 768))
    (place / "model_config.json").write_text(json.dumps(described))
    return {"parameters": sum(p.numel() for p in modules[2].parameters())}


def write_latents(place: Path, _depth: int, segments: int, _draws: int) -> dict[str, Any]:
    """Random latents as pre_encode.py would leave them, and a clip of noise."""
    import numpy as np
    import soundfile

    latents = place.with_name(place.name + "-latents") / "0"
    latents.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(segments):
        np.save(latents / f"{i}.npy", generator.standard_normal((64, 1024)).astype(np.float32))
        words = {"path": f"{i}.flac", "seconds_start": 0, "seconds_total": 48, "prompt": f"piece {i}"}
        (latents / f"{i}.json").write_text(json.dumps({**words, "padding_mask": [1] * 1024}))
    clip = generator.standard_normal((2097152, 2)).astype(np.float32) * 0.1
    soundfile.write(place.with_name(place.name + "-clip.wav"), clip, 44100)
    return {}


def open_model(place: Path, _depth: int, _segments: int, _draws: int) -> dict[str, Any]:
    """Twice: the second time its hashes are known."""
    import linernotes

    found = {}
    for name in ("first_s", "again_s"):
        began = time.perf_counter()
        linernotes.load_model(place)
        found[name] = round(time.perf_counter() - began, 1)
    return found


def build_catalogue(place: Path, _depth: int, _segments: int, _draws: int) -> dict[str, Any]:
    import linernotes

    catalogue = place.with_name(place.name + "-catalogue")
    made = linernotes.build_catalogue(place.with_name(place.name + "-latents"), catalogue, place)
    return {"segments": len(made)}


def encode(place: Path, _depth: int, _segments: int, _draws: int) -> dict[str, Any]:
    """One segment of 47.55 s, in stereo."""
    import soundfile
    import torch

    import linernotes

    model = linernotes.load_model(place)
    samples, _ = soundfile.read(place.with_name(place.name + "-clip.wav"), dtype="float32")
    began = time.perf_counter()
    latents = model.encode(torch.from_numpy(samples.T[None].copy()))
    return {"seconds": round(time.perf_counter() - began, 1), "shape": list(latents.shape)}


def forward(place: Path, _depth: int, _segments: int, _draws: int) -> dict[str, Any]:
    """The item loss of one segment under one draw, and what a pass of one pair holds."""
    import torch

    import linernotes
    from linernotes.models.passes import bytes_held

    model: Any = linernotes.load_model(place)
    latents = torch.randn(1, 64, 1024)
    items = model.items(latents, model.embed_text(["a slow piece"]), torch.tensor([47.0]))
    draws = model.draw(1, torch.Generator().manual_seed(0))
    began = time.perf_counter()
    with torch.inference_mode():
        loss = model.loss_bt(items, draws)
    found = {"seconds": round(time.perf_counter() - began, 1), "loss": round(float(loss.mean()), 3)}
    held = {
        name: bytes_held(model, lambda worker: worker.loss_bt(items, draws), trained)
        for name, trained in (("forward", ()), ("backward", model.layers("all")))
    }
    return found | {f"{name}_pass_gib": round(count / 2**30, 2) for name, count in held.items()}


def plan(place: Path, _depth: int, _segments: int, draws: int) -> dict[str, Any]:
    """What ``linernotes plan`` says of the next step."""
    import linernotes

    catalogue = place.with_name(place.name + "-catalogue")
    asked = {"draws": draws, "noise_bands": 1, "gradient_draws": draws, "batch_size": 1}
    (cost,) = linernotes.plan(["readout"], place, catalogue, **asked)
    return {
        "forecast_s": round(cost.once_s + cost.queries_s, 1),
        "forecast_gib": round(cost.memory_mib / 1024, 2),
    }


def attribute(place: Path, _depth: int, segments: int, draws: int) -> dict[str, Any]:
    """The default method, stage by stage: scores are what the plan is of; encoding the clip and the evidence
    come on top.
    """
    import linernotes
    from linernotes.methods.all import score
    from linernotes.settings.methods import ReadoutSettings

    with linernotes.open(place, place.with_name(place.name + "-catalogue")) as work:
        at = [("encoding the clip", time.perf_counter())]
        clips = work.load_clips(place.with_name(place.name + "-clip.wav"), "a slow piece")
        at.append(("scores", time.perf_counter()))
        settings = ReadoutSettings(draws=draws, noise_bands=1, gradient_draws=draws, batch_size=1)
        with tempfile.TemporaryDirectory() as folder:
            windows = [window for clip in clips for window in clip.windows]
            found = score("readout", work.prepared, windows, settings, Path(folder))
        at.append(("", time.perf_counter()))
    seconds = {name: round(end - began, 1) for (name, began), (_, end) in pairwise(at)}
    return {**seconds, "forwards": (segments + 1) * draws, "windows": len(found.scores_qn)}


STEPS = (write_model, write_latents, open_model, build_catalogue, encode, forward, plan, attribute)


@contextlib.contextmanager
def watched(peaks: dict[str, int]) -> Iterator[None]:
    """Keeps the largest of what /proc says of this process's memory."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            for line in Path("/proc/self/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in ("RssAnon", "RssFile"):
                    peaks[name] = max(peaks.get(name, 0), int(value.split()[0]))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def measured(number: int, place: Path, depth: int, segments: int, draws: int) -> None:
    """One step, in this process."""
    peaks: dict[str, int] = {}
    began, cpu = time.perf_counter(), time.process_time()
    with watched(peaks):
        found = STEPS[number](place, depth, segments, draws)
    found |= {"wall_s": round(time.perf_counter() - began, 1), "cpu_s": round(time.process_time() - cpu, 1)}
    found |= {f"{name}_gib": round(kb / GIB, 2) for name, kb in sorted(peaks.items())}
    print(json.dumps({STEPS[number].__name__: found}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("place", type=Path)
    parser.add_argument("--depth", type=int, default=24)
    parser.add_argument("--segments", type=int, default=3)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=[step.__name__ for step in STEPS])
    given = parser.parse_args()
    print(json.dumps({"threads": os.environ.get("OMP_NUM_THREADS"), "load": os.getloadavg()}), flush=True)
    spawn = multiprocessing.get_context("spawn")
    for number in range(len(STEPS)):
        if given.only and STEPS[number].__name__ not in given.only:
            continue
        process = spawn.Process(
            target=measured, args=(number, given.place, given.depth, given.segments, given.draws)
        )
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{STEPS[number].__name__} failed")


if __name__ == "__main__":
    main()
