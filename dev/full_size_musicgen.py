"""MusicGen-small's real shapes with random weights, on this machine: load, encode, one attribution over a
handful of segments; seconds and peak memory of each step.

    OMP_NUM_THREADS=1 python dev/full_size_musicgen.py FOLDER

FOLDER takes 2.3 GB: the model is written there once, and read back by later runs.
"""

from __future__ import annotations

import csv
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import torch
from transformers import (
    AutoTokenizer,
    EncodecConfig,
    GenerationConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    T5Config,
)

from linernotes.attribution.prepare import prepare
from linernotes.attribution.query import segment_query
from linernotes.catalog.ingest import build_catalogue
from linernotes.catalog.source import read_source
from linernotes.catalog.store import Catalogue
from linernotes.demo.places import MODEL
from linernotes.evaluation.cost.planning import plan
from linernotes.methods.all import score
from linernotes.models.opening import open_model
from linernotes.settings.methods import EkfacSettings

SEGMENTS, SECONDS, RATE_HZ = 3, 30, 32_000


@contextmanager
def timed(what: str) -> Iterator[None]:
    start, used = time.perf_counter(), time.process_time()
    yield
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - used
    print(f"{what:42} {wall_s:7.1f} s {cpu_s:7.1f} s of CPU   peak {peak_gib:5.2f} GiB", flush=True)


def write_model(folder: Path) -> None:
    """facebook/musicgen-small by its configuration: a decoder of 24 layers, T5-base, EnCodec at 32 kHz."""
    config = MusicgenConfig(
        text_encoder=T5Config(d_model=768, d_ff=3072, num_layers=12, num_heads=12, pad_token_id=0).to_dict(),
        audio_encoder=EncodecConfig(
            sampling_rate=RATE_HZ,
            num_filters=64,
            upsampling_ratios=[8, 5, 4, 4],
            codebook_size=2048,
            codebook_dim=128,
            target_bandwidths=[2.2],
            use_causal_conv=False,
        ).to_dict(),
        decoder=MusicgenDecoderConfig().to_dict(),
    )
    torch.manual_seed(0)
    model = MusicgenForConditionalGeneration(config)
    for layer in model.audio_encoder.quantizer.layers:
        layer.codebook.embed.normal_()
    model.generation_config = GenerationConfig(
        do_sample=True, guidance_scale=3.0, max_length=SECONDS * 50, pad_token_id=2048, bos_token_id=2048
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(MODEL / "tokenizer").save_pretrained(folder)


def write_sounds(folder: Path) -> None:
    folder.mkdir()
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "title", "caption"])
        for i in range(SEGMENTS):
            noise = np.random.default_rng(i).standard_normal(SECONDS * RATE_HZ) * 0.1
            soundfile.write(folder / f"{i}.wav", noise.astype(np.float32), RATE_HZ, subtype="FLOAT")
            writer.writerow([f"{i}.wav", f"Noise {i}", f"noise number {i}"])


def main(folder: Path) -> None:
    if not (folder / "model").exists():
        with timed("write random weights"):
            write_model(folder / "model")
            write_sounds(folder / "sounds")
        print("run again to measure: memory is counted from the start of a process")
        return
    with timed("load and hash"):
        model = open_model(folder / "model")
    parameters = sum(p.numel() for p in model.network.parameters())
    print(f"{parameters / 1e6:.0f} million parameters in the decoder; {model.encoding}")
    if not (folder / "catalogue").exists():
        with timed(f"encode {SEGMENTS} segments of {SECONDS} s"):
            build_catalogue(read_source(folder / "sounds"), folder / "catalogue", model)
    catalogue = Catalogue(folder / "catalogue")
    settings = EkfacSettings(layers="last-mlp", fisher_draws=1, batch_size=1)
    prepared = prepare(model, catalogue, folder / "cache", model_folder=folder / "model")
    query = segment_query(catalogue, 0)
    with timed("its plan"):
        planned = plan("ekfac", prepared, settings, 1, query)
    print(f"forecast {planned.once_s + planned.queries_s:.0f} s, {planned.memory_mib / 1024:.1f} GiB")
    with timed("ekfac on the last MLP, fitted and scored"):
        scores_n = score("ekfac", prepared, [query], settings, folder / "work").scores_qn[0]
    print(f"scores {scores_n}, the clip's own segment first: {scores_n.argmax() == 0}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
