"""A retrain bank: built, opened, trusted, and asked for the scores that are held against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from linernotes.api.workspace import Workspace
from linernotes.attribution.prepare import cache_folder
from linernotes.catalog.store import Catalogue
from linernotes.demo.benchmark import plan_benchmark, plan_queries
from linernotes.demo.opening import catalogue_folder
from linernotes.demo.places import BENCHMARK, BENCHMARK_PARTS, CATALOGUE
from linernotes.demo.provider import model_folder
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.bank.retraining import BankQuery, Setting
from linernotes.evaluation.bank.sanity import Sanity, check_bank, usual_loss
from linernotes.evaluation.bank.scores import (
    SOURCE_DRAWS,
    Scored,
    Source,
    bank_queries,
    of_training_tracks,
    read_scores,
    related_sources,
    scores_of,
    source_queries,
)
from linernotes.evaluation.bank.store import (
    Bank,
    captions_as_queries,
    plan_retrains,
    prepare_setting,
    read_bank,
    read_prompts,
    recipe_of,
    require_enough,
)
from linernotes.evaluation.bank.store import build_bank as build
from linernotes.methods.contract import Prepared, Progress, Query
from linernotes.models.opening import open_model
from linernotes.settings.methods import METHOD_SETTINGS, MethodSettings


def build_bank(
    out: str | Path,
    model: str | Path = BENCHMARK,
    catalogue: str | Path = BENCHMARK,
    prompts: str | Path | None = None,
    halves: int = 64,
    again: int = 16,
    seeds: int = 2,
    full: int = 4,
    draws: int = 64,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> Bank:
    """Trains a model again on random halves of its catalogue and on all of it, and keeps what became of every
    clip: the ground truth that scores are held against. A killed build goes on, and a finished one grows; the
    result is ``out/bank.safetensors``.

    Args:
        prompts: CSV file of the clips' prompts; the benchmark has its own, other catalogues' captions are
            drawn from.
        again: how many of the halves are trained again with other seeds: the noise ceiling.
        seeds: how many models each of these halves has altogether. Outcomes are their means, and the ceiling
            rises.
        draws: draws that each clip's loss is measured on.
    """
    model_path, catalogue_path = model_folder(model), catalogue_folder(catalogue)
    seconds = open_model(model_path).encoding.segment_s
    opened = Catalogue(catalogue_path)
    if prompts is not None:
        queries = read_prompts(Path(prompts), seconds, seed)
    elif str(catalogue) == BENCHMARK:
        planned = plan_queries(plan_benchmark(Catalogue(CATALOGUE).tracks))
        queries = [BankQuery(p.name, p.prompt, seconds, p.seed, p.kind, p.split, p.heard) for p in planned]
    else:
        queries = captions_as_queries(opened, seconds, seed)
    require_enough(halves, again, seeds, queries)
    setting = prepare_setting(model_path, catalogue_path, queries, draws, seed, Path(out), on_progress)
    n_training = sum(track.split == "train" for track in opened.tracks)
    return build(setting, plan_retrains(n_training, halves, again, full, seed, seeds), Path(out), on_progress)


@dataclass(frozen=True)
class OpenedBank:
    """A bank with the model and catalogue it belongs to, and where scores of its queries are kept."""

    bank: Bank
    prepared: Prepared
    kept: tuple[Path, ...]
    # scores from elsewhere, by the name they go under
    files: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def clips(self) -> list[Query]:
        return bank_queries(self.bank, self.prepared)

    @cached_property
    def sources(self) -> list[Source]:
        return related_sources(self.prepared.catalogue)

    def clip_scores(self, method: str, settings: MethodSettings) -> Scored:
        """A method's scores of the bank's clips, over all tracks."""
        names = [query.name for query in self.bank.queries]
        return self._scores(names, lambda: self.clips, method, settings)

    def source_scores(self, method: str, settings: MethodSettings) -> Scored:
        """A method's scores of the catalogue's planted sources; on fewer draws."""
        draws = min(settings.item_draws, max(SOURCE_DRAWS, settings.bands))
        fewer = settings.model_copy(update={"draws": draws}) if draws else settings
        catalogue = self.prepared.catalogue
        names = [f"source {catalogue.tracks[source.track].track_id}" for source in self.sources]
        return self._scores(names, lambda: source_queries(catalogue, self.sources), method, fewer)

    def training_scores(self, methods: Mapping[str, MethodSettings]) -> dict[str, np.ndarray]:
        """``scores_qn`` of the bank's clips over its training tracks, by method; then those from
        elsewhere.
        """
        found = {
            name: of_training_tracks(self.clip_scores(name, s).scores_qt, self.bank, self.prepared.catalogue)
            for name, s in methods.items()
        }
        return found | {name: read_scores(path, self.bank) for name, path in self.files.items()}

    def _scores(self, names: list[str], queries: Any, method: str, settings: MethodSettings) -> Scored:
        report = self.prepared.on_progress
        if report:
            report(f"scores ({method})", 0, 1)
        found = scores_of(names, queries, self.prepared, self.bank, method, settings, self.kept)
        if report:
            report("scores", 1, 1)
        return found

    def setting(self) -> Setting:
        """What further retrains of this bank's model share with its own."""
        model, header, bank = self.prepared.model_folder, self.bank.header, self.bank
        assert model is not None
        return Setting(
            model,
            self.prepared.catalogue.path,
            recipe_of(model),
            bank.queries,
            bank.latents_qct,
            header["draws"],
            header["noise_seed"],
        )


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
        bank: its folder or file, or ``benchmark``.
        scores: Parquet files with scores from elsewhere, by the name to show them under.
        even_if_wrong: opens it to be looked at.

    Raises:
        LinernotesError: no finished bank there, one of another model or catalogue, or one with a model that
            went wrong.
    """
    read = read_bank(BENCHMARK_PARTS if str(bank) == BENCHMARK else Path(bank))
    prepared = Workspace(model, catalogue, None, on_progress).prepared
    read.require(prepared.model.weights_hash, prepared.catalogue.hash)
    if taken := sorted(set(scores or {}) & set(METHOD_SETTINGS)):
        raise UsageError(f"--scores {taken[0]}=... would hide the method of that name: choose another name")
    kept = (
        read.path.parent / "scores",
        *((cache_folder() / "bank-scores",) if str(bank) == BENCHMARK else ()),
    )
    opened = OpenedBank(read, prepared, kept, {name: Path(path) for name, path in (scores or {}).items()})
    if not even_if_wrong:
        trusted(read, check(opened))
    return opened


def trusted(bank: Bank, lines: Sequence[Sanity]) -> None:
    """Refuses a bank of which a line (``check``) says that something went wrong.

    Raises:
        LinernotesError: the first such line.
    """
    for line in lines:
        if line.wrong:
            raise LinernotesError(
                f"{bank.path} cannot be trusted ({line.name}: {line.wrong}): look at a bank with 'linernotes "
                "bank show', remove that model's file and the packed one, and build it again"
            )


def check(opened: OpenedBank, further: Bank | None = None) -> list[Sanity]:
    """Whether every retrain of a bank, or of a ``further`` one beside it, learned what it was given and still
    generates.
    """
    catalogue = opened.prepared.catalogue
    trained = np.flatnonzero([track.split == "train" for track in catalogue.tracks])
    lines = check_bank(opened.bank, catalogue.track_n, trained)
    return check_bank(further, catalogue.track_n, trained, usual_loss(lines)) if further else lines
