"""An opened retrain bank: with its model and catalogue, asked for the scores that are held against it, and
whether it can be trusted.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from linernotes.errors import LinernotesError, LinernotesWarning
from linernotes.evaluation.bank.sanity import Sanity, check_bank, usual_loss
from linernotes.evaluation.bank.scores import (
    Scored,
    Source,
    bank_queries,
    fewer_draws,
    of_training_tracks,
    read_scores,
    related_sources,
    scores_of,
    source_queries,
)
from linernotes.evaluation.bank.setting import Setting
from linernotes.evaluation.bank.store import Bank, recipe_of
from linernotes.methods.contract import Prepared, Query
from linernotes.settings.methods import MethodSettings


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
        draws = fewer_draws(settings)
        fewer = settings.model_copy(update={"draws": draws}) if draws else settings
        catalogue = self.prepared.catalogue
        names = [f"source {catalogue.tracks[source.track].track_id}" for source in self.sources]
        return self._scores(names, lambda: source_queries(catalogue, self.sources), method, fewer)

    def training_scores(self, methods: Mapping[str, MethodSettings]) -> dict[str, np.ndarray]:
        """``scores_qn`` of the bank's clips over its training tracks, by
        method; then those from elsewhere.
        """
        found = {
            name: of_training_tracks(self.clip_scores(name, s).scores_qt, self.bank, self.prepared.catalogue)
            for name, s in methods.items()
        }
        return found | {name: read_scores(path, self.bank) for name, path in self.files.items()}

    def _scores(
        self, names: list[str], queries: Callable[[], list[Query]], method: str, settings: MethodSettings
    ) -> Scored:
        report = self.prepared.on_progress
        if report:
            report(f"scores ({method})", 0, 1)
        found = scores_of(
            names=names,
            queries=queries,
            prepared=self.prepared,
            bank=self.bank,
            method=method,
            settings=settings,
            kept=self.kept,
        )
        if report:
            report("scores", 1, 1)
        return found

    def setting(self) -> Setting:
        """What further retrains of this bank's model share with its own."""
        model, header, bank = self.prepared.model_folder, self.bank.header, self.bank
        assert model is not None
        return Setting(
            model=model,
            catalogue=self.prepared.catalogue.path,
            training=recipe_of(model),
            queries=bank.queries,
            latents_qct=bank.latents_qct,
            draws=header["draws"],
            noise_seed=header["noise_seed"],
        )

    def sanity(self, further: Bank | None = None) -> list[Sanity]:
        """Whether every retrain of the bank, or of a ``further`` one beside it, learned
        what it was given and still generates.
        """
        catalogue = self.prepared.catalogue
        trained = np.flatnonzero(catalogue.trained_t)
        lines = check_bank(self.bank, catalogue.track_n, trained)
        if further is None:
            return lines
        further = replace(further, latents_qct=self.bank.latents_qct)  # of the same clips
        return check_bank(further, catalogue.track_n, trained, usual_loss(lines))

    def trusted(self) -> OpenedBank:
        """Without the models that went wrong, which are named in a ``LinernotesWarning``."""
        wrong = {line.name: line.wrong for line in self.sanity() if line.wrong}
        if not wrong:
            return self
        bank = self.bank.without(wrong)
        warnings.warn(
            f"{self.bank.path}: {_named(wrong)}, and with it what else was trained on its tracks; the other "
            f"{len(bank.names)} models are measured. 'linernotes bank show' shows all of them, 'linernotes "
            "bank build' into another folder trains them anew",
            LinernotesWarning,
            stacklevel=2,
        )
        return replace(self, bank=bank)

    def require_sane(self, further: Bank) -> None:
        """Refuses retrains beside the bank of which one went wrong: each is the only one of its kind.

        Raises:
            LinernotesError: names them.
        """
        if wrong := {line.name: line.wrong for line in self.sanity(further) if line.wrong}:
            raise LinernotesError(
                f"{further.path} cannot be trusted ({_named(wrong)}): remove the files of these models from "
                f"{further.path.parent / 'retrains'} and {further.path.name}, and train them again"
            )


def _named(wrong: Mapping[str, str]) -> str:
    return "; ".join(f"{name} went wrong ({why})" for name, why in wrong.items())
