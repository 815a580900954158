"""A retrain bank: built, or opened with the model and catalogue it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from linernotes.api.workspace import Workspace
from linernotes.artefacts import held
from linernotes.catalog.store import Catalogue
from linernotes.demo.benchmarks.all import benchmark_of
from linernotes.demo.opening import catalogue_folder
from linernotes.demo.places import BENCHMARK, BENCHMARKS, CATALOGUE
from linernotes.demo.provider import model_folder
from linernotes.evaluation.bank.clips import captions_as_queries, read_prompts
from linernotes.evaluation.bank.opened import OpenedBank
from linernotes.evaluation.bank.retraining import retrainers
from linernotes.evaluation.bank.setting import BankQuery
from linernotes.evaluation.bank.store import (
    Bank,
    plan_retrains,
    prepare_setting,
    require_enough,
)
from linernotes.evaluation.bank.store import build_bank as build
from linernotes.methods.contract import Progress
from linernotes.models.opening import open_model
from linernotes.settings.engine import RetrainEngineSettings
from linernotes.settings.reading import checked
from linernotes.settings.verbs import BankSettings


def build_bank(
    out: str | Path,
    model: str | Path = BENCHMARK,
    catalogue: str | Path = BENCHMARK,
    prompts: str | Path | None = None,
    on_progress: Progress | None = None,
    engine: RetrainEngineSettings | None = None,
    **settings: Any,
) -> Bank:
    """Trains a model again on random halves of its catalogue and on all of it, and keeps what became of every
    clip: the ground truth that scores are held against. A killed build goes on, and a finished one grows; the
    result is ``out/bank.safetensors``.

    Args:
        prompts: CSV file of the clips' prompts; the benchmarks have their own, other catalogues' captions
            are drawn from.
        engine: what the retrains run on: processes of this machine if None. The result is the same.
        settings: fields of ``BankSettings``: ``halves``, ``again``, ``seeds``, ``full``, ``draws``, ``seed``;
            those left out are the benchmark's own. Outcomes of a half are the mean of its models', and with
            more of them the ceiling rises.
    """
    named = benchmark_of(str(catalogue)) if str(catalogue) in BENCHMARKS else None
    usual = named.bank.model_dump() if named else {}
    asked, folder = checked(BankSettings, {**usual, **settings}), Path(out)
    model_path, catalogue_path = model_folder(model), catalogue_folder(catalogue)
    opened, seconds = Catalogue(catalogue_path), open_model(model_path).encoding.segment_s
    if prompts is not None:
        queries = read_prompts(Path(prompts), seconds, asked.seed)
    elif named:
        planned = named.queries(named.tracks(Catalogue(CATALOGUE)))
        queries = [
            BankQuery(
                name=p.name,
                prompt=p.prompt,
                seconds=seconds,
                seed=p.seed,
                kind=p.kind,
                split=p.split,
                heard=p.heard,
            )
            for p in planned
        ]
    else:
        queries = captions_as_queries(opened, seconds, asked.seed)
    require_enough(asked.halves, asked.again, asked.seeds, queries)
    retrains = plan_retrains(
        n_training=int(opened.trained_t.sum()),
        halves=asked.halves,
        again=asked.again,
        full=asked.full,
        seed=asked.seed,
        seeds=asked.seeds,
    )
    with held(folder, "built"), retrainers(engine) as executor:
        setting = prepare_setting(
            model=model_path,
            catalogue=catalogue_path,
            queries=queries,
            draws=asked.draws,
            seed=asked.seed,
            folder=folder,
            on_progress=on_progress,
        )
        return build(setting, retrains, folder, on_progress, executor)


def open_bank(
    bank: str | Path = BENCHMARK,
    model: str | Path = BENCHMARK,
    catalogue: str | Path = BENCHMARK,
    scores: Mapping[str, str | Path] | None = None,
    even_if_wrong: bool = False,
    on_progress: Progress | None = None,
) -> OpenedBank:
    """A finished bank with its model and catalogue.

    Args:
        bank: its folder or file, or the name of a benchmark.
        scores: Parquet files with scores from elsewhere, by the name to show them under.
        even_if_wrong: opens it with the models that went wrong, to be looked at; else they are left out, and
            a ``LinernotesWarning`` names them.

    Raises:
        LinernotesError: no finished bank there, or one of another model or catalogue.
    """
    return Workspace(model, catalogue, on_progress=on_progress).open_bank(bank, scores, even_if_wrong)
