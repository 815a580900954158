"""A workspace: an opened model, catalogue and cache, ready for any verb,
for as long as a program wants them.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from linernotes.api.reporting import draw_comparison, draw_page
from linernotes.api.shortlists import Shortlists, require_asked
from linernotes.artefacts import held
from linernotes.attribution.filing import attributions_in
from linernotes.attribution.generating import generate_clip
from linernotes.attribution.indexing import build_index
from linernotes.attribution.prepare import prepare
from linernotes.attribution.query import Clip, load_clip
from linernotes.attribution.replay import Replay, clips_of, replay
from linernotes.attribution.result import PAGE, Attribution, record_at
from linernotes.attribution.run import Attributed
from linernotes.attribution.vouching import require_trained_on
from linernotes.catalog.store import Catalogue
from linernotes.demo.opening import open_catalogue
from linernotes.demo.places import BENCHMARK, BENCHMARKS, BUILTIN, READY, SHIPPED_INDEX, bank_place, name_of
from linernotes.demo.provider import judge_for, load_model, model_folder
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.agreement import Agreement
from linernotes.evaluation.bank.opened import OpenedBank
from linernotes.evaluation.bank.store import read_bank
from linernotes.evaluation.comparison import compare_methods
from linernotes.evaluation.cost.planning import Plan, plan_methods
from linernotes.evaluation.search import Search, lds_metric, read_grid, self_influence_metric
from linernotes.evaluation.search import search as search_settings
from linernotes.evaluation.self_influence import SelfRank
from linernotes.evaluation.self_influence import self_influence as measure_self_influence
from linernotes.index.store import Index
from linernotes.jobs.executor import Executor
from linernotes.methods.all import require_layers, require_runs_on, those_that_run
from linernotes.methods.contract import Prepared, Progress
from linernotes.models.contract import GenerativeModel
from linernotes.models.folder import drawn_in_training
from linernotes.report.search import write_search
from linernotes.settings.engine import EngineSettings
from linernotes.settings.methods import DEFAULT_METHOD, METHOD_SETTINGS, MethodSettings
from linernotes.settings.places import cache_folder
from linernotes.settings.reading import as_flags, checked, chosen_method, chosen_methods, parted, settings_of
from linernotes.settings.training import Drawn
from linernotes.settings.verbs import (
    GenerateSettings,
    IndexSettings,
    PlanSettings,
    SearchSettings,
    SelfInfluenceSettings,
)


@dataclass(frozen=True)
class Comparison:
    """What ``compare`` finds and leaves behind."""

    agreement: Agreement
    attributions: dict[str, list[Attribution]]  # by method, in the order of the clips
    page: Path


class Workspace:
    """What ``linernotes.open`` gives: nothing in it is loaded or hashed twice, however many verbs are called.

    >>> with linernotes.open("my-model", "my.catalogue") as work:
    ...     clip = work.generate("a slow air", "air.flac", seed=1)
    ...     (attribution,) = work.attribute(clip, "air")
    """

    def __init__(
        self,
        model: str | Path = BUILTIN,
        catalogue: str | Path = BUILTIN,
        cache: str | Path | None = None,
        on_progress: Progress | None = None,
        executor: Executor | None = None,
        drawn: Drawn | None = None,
        index: str | Path | None = None,
        exhaustive: bool = False,
        shortlist: int | None = None,
        audit: int | None = None,
    ) -> None:
        """Opens both.

        Args:
            cache: folder for what is computed once for a model and a catalogue; the user's cache if None.
            on_progress: ``on_progress(what, done, total)`` is called while long work runs.
            drawn: what the model's training drew evenly: ``segments``, or ``tracks`` and a
                random place in them (stable-audio-tools, audiocraft). A long track counts for more where
                segments were. If None what linernotes trained says so itself, and others drew tracks.
            executor: what runs passes over the catalogue (``linernotes.jobs``); this process if None.
            index: a folder that ``build_index`` made: of each clip a shortlist is scored exactly, and what it
                may miss is said, by methods that take one; others score everything. If None the built-in
                catalogue has the one that is shipped, for the method that it was tried with; any other is
                scored exactly throughout.
            exhaustive: the built-in catalogue, too.
            shortlist: how many tracks a shortlist has; as many as the index says if None.
            audit: how many of the other tracks are drawn at random and scored exactly, too; as many as are
                listed, from 25 to 100, if None.

        Raises:
            UsageError: a shortlist and none are asked for, or one without an index, or too small an audit.
            LinernotesError: one of them is missing or damaged, they do not fit together, or the model says
                that it was trained on another catalogue.
        """
        self.names = (name_of(model), name_of(catalogue))
        own = self.names == (BUILTIN, BUILTIN)
        self._ready = own and SHIPPED_INDEX.exists()
        require_asked(index, exhaustive, shortlist, audit, self._ready)
        loaded, opened = load_model(self.names[0]), open_catalogue(self.names[1])
        folder = model_folder(model)
        self._said = drawn_in_training(folder)
        vouched = require_trained_on(folder, loaded, opened)
        prepared = prepare(
            model=loaded,
            catalogue=opened,
            cache=Path(cache) if cache else None,
            on_progress=on_progress,
            model_folder=folder,
            vouched=vouched,
            drawn=drawn or self._said,
        )
        self._prepared: Prepared | None = replace(prepared, executor=executor, shipped=READY if own else None)
        shipped = SHIPPED_INDEX if self._ready and not exhaustive else None
        place = shipped if index is None else index
        taken = None if place is None else self._opened(place)
        self._shortlists = Shortlists(taken, index is not None, shortlist, audit, self._ready and exhaustive)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of model and catalogue. A second time does nothing."""
        self._prepared = None

    @property
    def prepared(self) -> Prepared:
        """Model and catalogue, as methods take them.

        Raises:
            UsageError: the workspace was closed.
        """
        if self._prepared is None:
            raise UsageError(
                f"the workspace of {' and '.join(self.names)} was closed: open it again with linernotes.open"
            )
        return self._prepared

    @property
    def model(self) -> GenerativeModel:
        """The opened model."""
        return self.prepared.model

    @property
    def catalogue(self) -> Catalogue:
        """The opened catalogue."""
        return self.prepared.catalogue

    def _drawn_words(self) -> list[str]:
        return ["--drawn", self.prepared.drawn] if self.prepared.drawn != self._said else []

    def _opened(self, index: str | Path) -> Index:
        opened = Index(Path(index))
        opened.require(self.model.weights_hash, self.catalogue)
        return opened

    def index_for(self, method: str) -> Index | None:
        """What a method's shortlists are taken from; None where it scores everything."""
        return self._shortlists.of(self.prepared, method).index

    def use_index(self, index: str | Path | None) -> None:
        """Takes shortlists from an index from now on, as long as it says; from none if None.

        Raises:
            LinernotesError: it is none, or of another model or catalogue.
        """
        opened = self._opened(index) if index is not None else None
        self._shortlists = Shortlists(opened, opened is not None, declined=self._ready and opened is None)

    def index(self, out: str | Path, **settings: Any) -> Index:
        """Builds an index, and uses it from now on; see ``linernotes.build_index``."""
        index = build_index(self.prepared, checked(IndexSettings, settings), Path(out))
        self._shortlists = Shortlists(index, given=True)
        return index

    def generate(self, prompt: str, out: str | Path, **settings: Any) -> Path:
        """Generates a clip; see ``linernotes.generate``."""
        asked = checked(GenerateSettings, settings)
        generate_clip(self.model, prompt, Path(out), asked, self.prepared.on_progress)
        return Path(out)

    def load_clips(self, clips: str | Path | Sequence[str | Path], prompt: str | None = None) -> list[Clip]:
        """Clips as queries.

        Raises:
            UsageError: none was given.
        """
        paths = [Path(clip) for clip in ([clips] if isinstance(clips, str | Path) else clips)]
        if not paths:
            raise UsageError("no clip was given: name at least one")
        return [load_clip(path, self.model, prompt) for path in paths]

    def attribute(
        self,
        clips: str | Path | Sequence[str | Path],
        out: str | Path,
        prompt: str | None = None,
        method: str = DEFAULT_METHOD,
        calibration: str | Path | None = None,
        **settings: Any,
    ) -> list[Attribution]:
        """Attributes clips; see ``linernotes.attribute``."""
        chosen = checked(settings_of(method), settings, f" for {method}")
        require_runs_on(method, self.model)
        require_layers(self.model, chosen)
        prepared = self._shortlists.of(self.prepared, method)
        loaded = self.load_clips(clips, prompt)
        words = [*self._words("attribute", loaded, prompt), *self._shortlists.words(method)]
        words += self._drawn_words()
        words += ["--calibration", str(calibration)] if calibration else []
        done = attributions_in(
            folder=Path(out),
            clips=loaded,
            prepared=prepared,
            method=method,
            settings=chosen,
            command=words,
            judge=judge_for(
                self.model, self.catalogue, method, chosen, Path(calibration) if calibration else None
            ),
        )
        for item in done:
            if not (item.folder / PAGE).is_file():
                _draw(item)
        return [item.attribution for item in done]

    def replay(self, attribution: str | Path, share: float = 1.0) -> Replay:
        """Scores a clip again as its record says; see ``linernotes.replay``."""
        path = record_at(attribution)
        read = Attribution.load(path)
        return replay(path.parent, read, clips_of(read, self.model), self.prepared, share)

    def compare(
        self,
        clips: Sequence[str | Path],
        out: str | Path,
        methods: Sequence[str] | None = None,
        prompt: str | None = None,
        **settings: Any,
    ) -> Comparison:
        """Attributes clips by several methods; see ``linernotes.compare``."""
        chosen = several(methods, settings)
        chosen = those_that_run(self.model, chosen, methods is not None)
        for own in chosen.values():
            require_layers(self.model, own)
        loaded, folder = self.load_clips(list(clips), prompt), Path(out)
        words = [*self._words("attribute", loaded, prompt), *self._drawn_words()]
        whole = Shortlists(declined=self._ready)  # a comparison scores everything
        judges = {name: judge_for(self.model, self.catalogue, name, own) for name, own in chosen.items()}
        found = compare_methods(
            clips=loaded,
            prepared=self.prepared,
            chosen=chosen,
            folder=folder,
            commands={name: [*words, *whole.words(name)] for name in chosen},
            judges=judges,
        )
        again = self._words("compare", loaded, prompt, "--methods", ",".join(chosen))
        command = shlex.join([*again, *as_flags(settings), "-o", str(out)])
        page = draw_comparison(folder, found, loaded, self.catalogue, command)
        return Comparison(found.agreement, found.attributions, page)

    def plan(
        self, methods: Sequence[str] | None = None, engine: EngineSettings | None = None, **settings: Any
    ) -> list[Plan]:
        """What methods will cost; see ``linernotes.plan``."""
        asked, of_methods = parted(PlanSettings, settings)
        chosen = those_that_run(self.model, chosen_methods(methods, of_methods), methods is not None)
        prepared_for = partial(self._shortlists.of, self._quiet)
        return plan_methods(chosen, prepared_for, asked.queries, self.prepared.on_progress, engine)

    def self_influence(self, method: str = DEFAULT_METHOD, **settings: Any) -> list[SelfRank]:
        """Takes training segments as queries; see ``linernotes.self_influence``."""
        asked, of_method = parted(SelfInfluenceSettings, settings)
        chosen = chosen_method(method, of_method)
        with tempfile.TemporaryDirectory() as folder:
            return measure_self_influence(self.prepared, method, chosen, asked.segments, Path(folder))

    def search(
        self,
        out: str | Path,
        grid: Sequence[str],
        method: str = DEFAULT_METHOD,
        bank: str | Path = BENCHMARK,
        **settings: Any,
    ) -> Search:
        """Searches a method's settings; see ``linernotes.search``."""
        asked, fixed = parted(SearchSettings, settings)
        values, seed = read_grid(method, grid, fixed), chosen_method(method, fixed).seed
        if asked.metric == "lds":
            opened = self.open_bank(bank)
            metric = lds_metric(self._quiet, opened.bank, opened.clips)
        else:
            metric = self_influence_metric(self._quiet, asked.segments, asked.candidates, seed)
        with held(Path(out)):
            found = search_settings(
                method=method,
                grid=values,
                fixed=fixed,
                metric_name=asked.metric,
                metric=metric,
                sampler=asked.sampler,
                trials=asked.trials,
                folder=Path(out),
                on_progress=self.prepared.on_progress,
            )
            write_search(Path(out) / "search.svg", found)
        return found

    def open_bank(
        self,
        bank: str | Path = BENCHMARK,
        scores: Mapping[str, str | Path] | None = None,
        even_if_wrong: bool = False,
    ) -> OpenedBank:
        """A finished bank of this model and catalogue; see ``linernotes.open_bank``."""
        read = read_bank(bank_place(bank))
        read.require(self.model.weights_hash, self.catalogue.hash)
        if taken := sorted(set(scores or {}) & set(METHOD_SETTINGS)):
            raise UsageError(
                f"--scores {taken[0]}=... would hide the method of that name: choose another name"
            )
        kept = [read.path.parent / "scores"]
        if str(bank) in BENCHMARKS:
            kept.append(cache_folder() / "bank-scores")
        files = {name: Path(path) for name, path in (scores or {}).items()}
        opened = OpenedBank(read, self.prepared, tuple(kept), files)
        return opened if even_if_wrong else opened.trusted()

    @property
    def _quiet(self) -> Prepared:
        """The same, for work so small, or so often repeated, that it is counted as a whole."""
        return replace(self.prepared, on_progress=None)

    def _words(self, verb: str, clips: Sequence[Clip], prompt: str | None, *more: str) -> list[str]:
        """The command that asks the same of these clips, without its settings."""
        model, catalogue = self.names
        words = ["linernotes", verb, *(str(clip.path) for clip in clips), *more]
        words += ["--model", model, "--catalog", catalogue]
        return [*words, "--prompt", prompt] if prompt else words


def several(methods: Sequence[str] | None, settings: Mapping[str, Any]) -> dict[str, MethodSettings]:
    """At least two methods with their settings.

    Raises:
        UsageError: fewer, or one of them or a setting is wrong.
    """
    if methods is not None and len(set(methods)) < 2:
        raise UsageError(
            "a comparison needs at least two methods: name them with --methods, or leave that out for all"
        )
    return chosen_methods(methods, settings)


def _draw(item: Attributed) -> None:
    try:
        draw_page(item.folder)
    except (LinernotesError, OSError) as error:
        hint = shlex.join(["linernotes", "report", str(item.folder)])
        raise LinernotesError(
            f"the attribution stands in {item.folder}, but not its page ({error}): draw it with '{hint}'"
        ) from error


open = Workspace  # linernotes.open(model, catalogue)
