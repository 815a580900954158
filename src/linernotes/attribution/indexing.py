"""Builds an index: one pass over a catalogue, on the draws that its segments are scored on; and measures, on
clips that it holds for that, what a shortlist from it misses.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from linernotes.artefacts import held, read_json, replace_folder, write_json
from linernotes.attribution.effects import asked
from linernotes.attribution.index_room import FEATURE_SAMPLE, STRONGEST, require_room, sample_size
from linernotes.attribution.query import clip_query, heard_rows, segment_query
from linernotes.catalog.store import Catalogue
from linernotes.draws import Draws
from linernotes.errors import LinernotesError
from linernotes.index.codes import require_faiss
from linernotes.index.recall import Recall, measure_recall
from linernotes.index.space import Space, fit_latents, principal_directions
from linernotes.index.store import EXACT_UP_TO, RECORD, SPACE, Index, items_of, write_codes, write_index
from linernotes.index.vectors import Vectors, resemblance
from linernotes.methods.all import runs_on, score
from linernotes.methods.contract import Prepared, Query
from linernotes.methods.readout import fit_curvature, passes_of_readout, unlearning_steps
from linernotes.methods.readout_moments import (
    query_moments,
    strongest_features,
    sweep_codes,
    sweep_moments,
    whitener,
)
from linernotes.methods.room import in_room
from linernotes.models.contract import GeneratingModel, ReadoutModel, is_placed
from linernotes.settings.methods import DEFAULT_METHOD, METHOD_SETTINGS, MethodSettings, ReadoutSettings
from linernotes.settings.verbs import IndexSettings

QUERY_DRAWS = 64  # for a clip's vector; its exact scores take as many as their settings say
HELD_SEED = 8_000_001
ROWS_AT_ONCE = 1 << 15


def build_index(prepared: Prepared, settings: IndexSettings, path: Path) -> Index:
    """Builds the index at ``path``, or brings one that is there up to the catalogue's state: its space stays,
    and so do the vectors of all segments that it knows. A killed build goes on where it stopped.

    Raises:
        LinernotesError: something else is there, an index of another model, or another process is building
            it; disk or memory do not suffice; a large catalogue's needs FAISS, which is not installed.
    """
    if len(prepared.catalogue) > EXACT_UP_TO:
        require_faiss()  # now, not after hours
    work = unfinished(path)
    with held(path, "built"):
        old = Index(path) if (path / RECORD).is_file() else None
        if old is None and path.exists() and any(path.iterdir()):
            raise LinernotesError(
                f"{path} is there already, and is no index: choose another name or remove it"
            )
        if old is not None:
            old.require_model(prepared.model.weights_hash)
            _require_same(old, settings)
            if old.record["catalogue"] == prepared.catalogue.hash:
                shutil.rmtree(work, ignore_errors=True)  # of a run that was stopped when all was done
                return old
            _require_noise(prepared, old)
        asked_for = IndexSettings(**old.record["settings"]) if old else settings
        require_room(prepared, asked_for, path, sum(f.stat().st_size for f in work.rglob("*")))
        _begin(work, prepared, settings, old)
        (_update(prepared, work, old) if old else _new(prepared, settings, work))
        replace_folder(work / "index", path)
        shutil.rmtree(work)
    return Index(path)


def unfinished(path: Path) -> Path:
    """Where a build of the index at ``path`` has what it made so far."""
    return path.with_name(path.name + ".partial")


def _require_same(old: Index, settings: IndexSettings) -> None:
    """Refuses settings that are asked for and are not those of the index that is there."""
    for name in sorted(settings.model_fields_set):
        wanted, has = getattr(settings, name), old.record["settings"][name]
        if wanted != has:
            raise LinernotesError(
                f"{old.path} was built with --{name} {has}, not {wanted}: leave that out, or build another "
                "index in another folder"
            )


def _require_noise(prepared: Prepared, old: Index) -> None:
    """Refuses an index whose vectors those of added tracks would not be like."""
    now = _draws(prepared, old.record["settings"]["seed"]).hash
    if old.record.get("noise", now) != now:
        raise LinernotesError(
            f"{old.path} was built on other noise ({old.record['noise']}, now {now}), and vectors of added "
            "tracks would not be like the others: build an index anew, into another folder"
        )


def _begin(work: Path, prepared: Prepared, settings: IndexSettings, old: Index | None) -> None:
    """Makes room for a build, or for one that was stopped to go on.

    Raises:
        LinernotesError: what was stopped there is another one; its hours are not thrown away unasked.
    """
    plan = {
        "model": prepared.model.weights_hash,
        "placed": is_placed(prepared.model),
        "catalogue": prepared.catalogue.hash,
        "settings": settings.model_dump(),
        "old": old.hash if old else "",
    }
    if (work / "plan.json").is_file():
        begun = read_json(work / "plan.json", "a build")
        if differing := [name for name, now in plan.items() if begun.get(name) != now]:
            raise LinernotesError(
                f"{work} is of a build that was stopped, with other {' and '.join(differing)}: ask for the "
                "same as then to go on, or remove that folder"
            )
    else:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        write_json(work / "plan.json", plan)
    shutil.rmtree(work / "index", ignore_errors=True)
    (work / "index").mkdir()


def _new(prepared: Prepared, settings: IndexSettings, work: Path) -> None:
    """A whole index."""
    model, catalogue = prepared.model, prepared.catalogue
    clips = _hold(prepared, settings)
    latents = fit_latents(catalogue, settings.latents)
    if settings.moments and isinstance(model, ReadoutModel):
        sweep, method = _Sweep(prepared, settings, clips.queries, work), "readout"
        strongest_bfk = sweep.strongest()
        sampled = sweep.sample(strongest_bfk)
        space = Space(strongest_bfk, principal_directions(sampled[1]["y_nd"], settings.moments), **latents)
        table = _Table(work, catalogue, len(space.basis_rd), len(clips.queries))
        sweep.fill(space, table, np.arange(len(catalogue)), sampled)
        exact_qn = np.array(table.rise_nq).T.astype(float)
        y_qd = query_moments(prepared, clips.queries, space.strongest_bfk, vector_settings(sweep.method))
    else:
        method = DEFAULT_METHOD if runs_on(DEFAULT_METHOD, model) else "ekfac"
        space = Space(torch.zeros(0, 0, 0), torch.zeros(0, 0, dtype=torch.float16), **latents)
        table = _Table(work, catalogue, 0, 0)
        chosen = METHOD_SETTINGS[method](seed=settings.seed)
        exact_qn = score(method, prepared, clips.queries, chosen, work / "exact").scores_qn
        y_qd = torch.zeros(len(clips.queries), 0)
    latents_qct = torch.stack([query.latents_ct for query in clips.queries])
    own = space.vectors(y_qd, latents_qct, catalogue.encoding.codes)
    said_qn = np.concatenate(
        [
            own.length_n[:, None] * resemblance(own, _vectors(space, table, catalogue, rows))
            for rows in _blocks(len(catalogue))
        ],
        axis=1,
    )
    for q, track in enumerate(clips.tracks):  # a segment does not find its own track
        exact_qn[q, catalogue.track_n == track] = -np.inf
    rows = catalogue.training_rows
    items_n = items_of(catalogue, is_placed(prepared.model))
    recall = measure_recall(
        said_qn=said_qn[:, rows],
        exact_qn=exact_qn[:, rows],
        track_n=catalogue.track_n[rows],
        clips=clips.what,
        method=method,
        settings=unit_of(METHOD_SETTINGS[method]()),
        seen_n=prepared.as_seen(np.ones(len(catalogue)), "norm")[rows],
    )
    noise = _draws(prepared, settings.seed).hash if space.asks_model else ""
    _write(prepared, work, space, table, recall, settings.model_dump(), catalogue.hash, items_n, noise)


def _update(prepared: Prepared, work: Path, old: Index) -> None:
    """The same space over another state of the catalogue."""
    catalogue, space = prepared.catalogue, old.space
    settings = IndexSettings(**old.record["settings"])
    table = _Table(work, catalogue, len(space.basis_rd), 0)
    items_n = items_of(catalogue, is_placed(prepared.model))
    place = {int(item): n for n, item in enumerate(old.items_n)}
    known = np.array([place.get(int(item), -1) for item in items_n])
    stay = np.flatnonzero(known >= 0)
    table.moments_nr[stay] = old.vectors.moments_nr[known[stay]]
    table.length_n[stay] = old.vectors.length_n[known[stay]]
    if space.asks_model and len(new := np.flatnonzero(known < 0)):
        _Sweep(prepared, settings, [], work).fill(space, table, new)
    fitted_on = old.record["fitted_on"]
    noise = old.record.get("noise", "")  # of what was built before it was kept nobody knows
    _write(prepared, work, space, table, old.recall, settings.model_dump(), fitted_on, items_n, noise)


_Sampled = tuple[np.ndarray, dict[str, Tensor]]  # segments, and ``sweep_moments`` of them


class _Table:
    """What the sweep fills, one row a segment, on disk."""

    def __init__(self, work: Path, catalogue: Catalogue, moments: int, clips: int) -> None:
        n = len(catalogue)

        def column(name: str, kind: type, *shape: int) -> np.ndarray:
            if not np.prod((n, *shape)):
                return np.zeros((n, *shape), kind)
            column = np.lib.format.open_memmap(work / f"{name}.npy", "w+", kind, (n, *shape))
            if hasattr(os, "posix_fallocate"):  # a full disk is met here, not while it is filled
                with (work / f"{name}.npy").open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
            return column

        self.moments_nr = column("moments", np.int8, moments)
        self.length_n = column("length", np.float32)
        self.rise_nq = column("rise", np.float32, clips)
        self.length_n[:] = 1.0

    def fill(
        self, rows: np.ndarray, moments_nr: np.ndarray, length_n: np.ndarray, rise_nq: np.ndarray
    ) -> None:
        """Some rows."""
        self.moments_nr[rows], self.length_n[rows] = moments_nr, length_n
        if self.rise_nq.shape[1]:
            self.rise_nq[rows] = rise_nq


class _Sweep:
    """Passes over the catalogue on one set of draws, and the exact scores of held clips on the way."""

    def __init__(self, prepared: Prepared, settings: IndexSettings, clips: list[Query], work: Path) -> None:
        self.prepared, self.work = prepared, work
        method = ReadoutSettings(seed=settings.seed)
        self.method = in_room(prepared, method, passes_of_readout(prepared, method))
        self.draws = _draws(prepared, settings.seed)
        curvature_bff = fit_curvature(
            prepared, self.draws, self.method.noise_bands, self.method.batch_size, settings.seed
        )
        self.step_qbcf = (
            torch.stack([unlearning_steps(prepared, [clip], curvature_bff, self.method) for clip in clips])
            if clips
            else torch.zeros(0, *curvature_bff.shape[:1], 1, 1)
        )
        self._curvature_bff = curvature_bff

    def strongest(self) -> Tensor:
        """The whitened features that a few segments' moments have most of, ``[bands, F, K]``."""
        catalogue = self.prepared.catalogue
        white_bff = whitener(self._curvature_bff.cpu(), self.method.damping)
        rows = catalogue.sample(FEATURE_SAMPLE)
        y_nd = self._moments(white_bff, rows, "features", self.step_qbcf[:0])["y_nd"]
        shape = (len(rows), self.method.noise_bands, catalogue.encoding.latent_channels, -1)
        return (white_bff @ strongest_features(y_nd.reshape(shape), STRONGEST)).contiguous()

    def sample(self, strongest_bfk: Tensor) -> _Sampled:
        """Segments whose moments are kept while the space is fitted."""
        bands, _, kept = strongest_bfk.shape
        catalogue = self.prepared.catalogue
        channels = catalogue.encoding.latent_channels
        rows = catalogue.sample(sample_size(bands, channels, kept, self.prepared.n_training))
        return rows, self._moments(strongest_bfk, rows, "sample", self.step_qbcf)

    def _moments(
        self, features_bfk: Tensor, rows: np.ndarray, name: str, step_qbcf: Tensor
    ) -> dict[str, Tensor]:
        return sweep_moments(
            self.prepared, self.draws, self.method, features_bfk, step_qbcf, rows, self.work / name
        )

    def fill(self, space: Space, table: _Table, rows: np.ndarray, sampled: _Sampled | None = None) -> None:
        """The vectors of segments ``rows``: of a sample from the moments that are there, of the others in one
        pass, a part of the catalogue at a time.
        """
        if sampled:
            ready, (own, found) = space.ready(), sampled
            for start in range(0, len(own), 256):
                part = slice(start, start + 256)
                table.fill(own[part], *ready.moments(found["y_nd"][part]), found["rise_nq"][part].numpy())
            rows = np.setdiff1d(rows, own)
        file = self.work / SPACE
        space.save(file, {"model": self.prepared.model.weights_hash})
        for number, start in enumerate(range(0, len(rows), ROWS_AT_ONCE)):
            some = rows[start : start + ROWS_AT_ONCE]
            found = sweep_codes(
                self.prepared,
                self.draws,
                self.method,
                space,
                file,
                self.step_qbcf,
                some,
                self.work / f"part-{number}",
            )
            table.fill(some, *(found[name].numpy() for name in ("moments_nr", "length_n", "rise_nq")))


@dataclass(frozen=True)
class _Held:
    """Clips that recall is measured on."""

    queries: list[Query]
    tracks: list[int]  # whose own segment each is, by its place among the catalogue's; -1: nobody's
    what: str


def _hold(prepared: Prepared, settings: IndexSettings) -> _Held:
    """Clips that the model makes of captions of its catalogue; training segments where it makes none."""
    model, catalogue = prepared.model, prepared.catalogue
    draw, count = random.Random(settings.seed), settings.queries
    report = prepared.progress("clips to measure recall on")
    if not isinstance(model, GeneratingModel):
        shuffled = np.random.default_rng(settings.seed).permutation(catalogue.training_rows)
        rows = np.sort(heard_rows(catalogue, count, shuffled))
        queries = [segment_query(catalogue, int(row)) for row in rows]
        return _Held(queries, catalogue.track_n[rows].tolist(), f"{len(rows)} training segments")
    captions = sorted({track.caption for track in catalogue.tracks if track.trained})
    queries = []
    for i in range(count):
        prompt = draw.choice(captions)
        latents = model.sample(prompt, model.encoding.segment_s, HELD_SEED + i)[0].cpu()
        queries.append(clip_query(f"held-{i}", latents, prompt, model.encoding.segment_s, model))
        if report:
            report(i + 1, count)
    return _Held(queries, [-1] * count, f"{count} clips of the model's own")


def vector_settings(settings: ReadoutSettings) -> ReadoutSettings:
    """How a clip's vector is made: with fewer draws than its scores."""
    return settings.model_copy(update={"gradient_draws": QUERY_DRAWS})


def _draws(prepared: Prepared, seed: int) -> Draws:
    """The noise that segments' vectors and held clips' exact scores are made on."""
    return prepared.draws(ReadoutSettings().draws, seed)


def unit_of(settings: MethodSettings) -> dict[str, Any]:
    """The settings that say in what unit a method's scores are: all that do not merely make them surer."""
    drawn = ("draws", "gradient_draws")
    return {name: value for name, value in asked(settings.model_dump()).items() if name not in drawn}


def _blocks(count: int) -> Iterator[np.ndarray]:
    for start in range(0, count, ROWS_AT_ONCE):
        yield np.arange(start, min(start + ROWS_AT_ONCE, count))


def _vectors(space: Space, table: _Table, catalogue: Catalogue, rows: np.ndarray) -> Vectors:
    parts = np.array_split(rows, max(1, len(rows) // 2048))
    latents = [space.latents(catalogue.latents(part), catalogue.encoding.codes) for part in parts]
    return Vectors(np.array(table.moments_nr[rows]), np.concatenate(latents), np.array(table.length_n[rows]))


def _write(
    prepared: Prepared,
    work: Path,
    space: Space,
    table: _Table,
    recall: Recall,
    settings: dict[str, Any],
    fitted_on: str,
    items_n: np.ndarray,
    noise: str,
) -> None:
    catalogue = prepared.catalogue
    record = {
        "model": prepared.model.weights_hash,
        **({"noise": noise} if noise else {}),
        "catalogue": catalogue.hash,
        "fitted_on": fitted_on,
        "settings": settings,
        "recall": recall.model_dump(),
    }
    batches = ((_vectors(space, table, catalogue, rows), items_n[rows]) for rows in _blocks(len(catalogue)))
    write_index(work / "index", record, space, batches)
    if len(catalogue) > EXACT_UP_TO:
        write_codes(work / "index")
