"""Retrain banks: build one."""

from __future__ import annotations

from pathlib import Path

from linernotes.api.building import Progress, catalogue_folder, model_folder
from linernotes.catalog.store import Catalogue
from linernotes.demo.benchmark import plan_benchmark, plan_queries
from linernotes.demo.bundle import BENCHMARK, CATALOGUE
from linernotes.evaluation.bank import Bank, captions_as_queries, plan_retrains, prepare_setting, read_prompts
from linernotes.evaluation.bank import build_bank as build
from linernotes.evaluation.retraining import BankQuery
from linernotes.models.stable_audio import StableAudio


def build_bank(
    out: str | Path,
    model: str | Path = BENCHMARK,
    catalogue: str | Path = BENCHMARK,
    prompts: str | Path | None = None,
    halves: int = 64,
    again: int = 16,
    full: int = 4,
    draws: int = 64,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> Bank:
    """Trains a model again on random halves of its catalogue and on all of it, and keeps what became of every clip: the ground
    truth that scores are held against. A killed build goes on; the result is ``out/bank.safetensors``.

    Args:
        prompts: CSV file of the clips' prompts; the benchmark has its own, other catalogues' captions are drawn from.
        again: how many of the halves are trained a second time, with another seed: the noise ceiling.
        draws: draws of the noise bank each clip's loss is measured on.
    """
    model_path, catalogue_path = model_folder(model), catalogue_folder(catalogue)
    seconds = StableAudio(model_path).shape.segment_s
    opened = Catalogue(catalogue_path)
    if prompts is not None:
        queries = read_prompts(Path(prompts), seconds, seed)
    elif str(catalogue) == BENCHMARK:
        planned = plan_queries(plan_benchmark(Catalogue(CATALOGUE).tracks))
        queries = [BankQuery(p.name, p.prompt, seconds, p.seed, p.kind, p.split, p.heard) for p in planned]
    else:
        queries = captions_as_queries(opened, seconds, seed)
    setting = prepare_setting(model_path, catalogue_path, queries, draws, seed, Path(out), on_progress)
    n_training = sum(track.split == "train" for track in opened.tracks)
    return build(setting, plan_retrains(n_training, halves, again, full, seed), Path(out), on_progress)
