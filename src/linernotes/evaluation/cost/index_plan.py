"""What an index will cost, before it is built: passes over a catalogue x seconds of one, measured now on a
few segments, and bytes, which follow from its settings.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from linernotes.attribution.index_room import FEATURE_SAMPLE, STRONGEST, room_for
from linernotes.attribution.indexing import vector_settings
from linernotes.attribution.query import heard_rows, segment_query
from linernotes.evaluation.cost.planning import forget_peak, held_bytes, plan, workers_of
from linernotes.index.store import EXACT_UP_TO
from linernotes.methods.all import runs_on
from linernotes.methods.contract import Prepared
from linernotes.methods.readout import CURVATURE_SEGMENTS, query_moment
from linernotes.methods.readout_moments import sweep_moments
from linernotes.models.contract import GeneratingModel, ReadoutModel
from linernotes.settings.engine import EngineSettings
from linernotes.settings.methods import DEFAULT_METHOD, METHOD_SETTINGS, ReadoutSettings
from linernotes.settings.verbs import IndexSettings

SEGMENTS = 16  # measured
CODED_S = 2e-5  # a vector's codes, measured once (dev/LOG.md)


@dataclass(frozen=True)
class IndexPlan:
    """What the building of an index takes."""

    segments: int
    workers: int  # that the pass is shared among
    once_s: float  # the curvature, the space, clips to measure recall on
    pass_s: float  # over all segments
    memory_mib: float  # the most that this program holds; workers of their own come on top
    disk_mib: float  # while it is built
    index_mib: float  # for good


def plan_index(
    prepared: Prepared, settings: IndexSettings, engine: EngineSettings | None = None
) -> IndexPlan:
    """Counts passes, and measures a few of them now. Start-up is not counted.

    Raises:
        UsageError: ``engine`` does not say how many workers.
    """
    workers, here = workers_of(prepared, engine or EngineSettings())
    forget_peak()
    asks_model = settings.moments and isinstance(prepared.model, ReadoutModel)
    once_s, pass_s = (_of_moments if asks_model else _of_latents)(prepared, settings)
    room, segments = room_for(prepared, settings), len(prepared.catalogue)
    coding_s = CODED_S * segments if segments > EXACT_UP_TO else 0.0
    return IndexPlan(
        segments=segments,
        workers=workers,
        once_s=once_s + coding_s,
        pass_s=pass_s * here / workers,
        memory_mib=(held_bytes() + room.memory) / 2**20,
        disk_mib=room.disk / 2**20,
        index_mib=room.index / 2**20,
    )


def _of_moments(prepared: Prepared, settings: IndexSettings) -> tuple[float, float]:
    """Seconds of what is done once and of the pass that makes moments, on this machine."""
    method = ReadoutSettings(seed=settings.seed)
    draws, bands = prepared.draws(method.draws, settings.seed), method.noise_bands
    quiet, rows = _quiet(prepared), np.resize(prepared.catalogue.training_rows, SEGMENTS)
    query = segment_query(prepared.catalogue, int(heard_rows(prepared.catalogue, 1)[0]))
    channels = prepared.catalogue.encoding.latent_channels
    width = query_moment(prepared, query, vector_settings(method), (0, bands)).shape[1]
    kept = min(STRONGEST, width)
    strongest_bfk = torch.full((bands, width, kept), 1e-3)
    step_qbcf = torch.full((settings.queries, bands, channels, width), 1e-3)

    def swept() -> torch.Tensor:
        with tempfile.TemporaryDirectory() as folder:
            return sweep_moments(quiet, draws, method, strongest_bfk, step_qbcf, rows, Path(folder))["y_nd"]

    swept()
    start = time.perf_counter()
    y_nd = swept().float()
    each_s = (time.perf_counter() - start) / SEGMENTS
    basis_rd = torch.full((min(64, settings.moments), y_nd.shape[1]), 1e-3)
    start = time.perf_counter()
    _ = y_nd @ basis_rd.T
    each_s += (time.perf_counter() - start) / SEGMENTS * settings.moments / len(basis_rd)
    start = time.perf_counter()
    query_moment(prepared, query, vector_settings(method), (0, bands))
    asked_s = (time.perf_counter() - start) * bands  # of 64 draws a band
    drawn = method.gradient_draws / vector_settings(method).gradient_draws
    clip_s = asked_s * (1 + drawn) + _generated_s(prepared)
    fitted = min(prepared.n_training, CURVATURE_SEGMENTS) + min(prepared.n_training, FEATURE_SAMPLE)
    return settings.queries * clip_s + each_s * fitted, each_s * len(prepared.catalogue)


def _of_latents(prepared: Prepared, settings: IndexSettings) -> tuple[float, float]:
    """The same of an index of latents alone: the pass scores clips to measure recall on."""
    method = DEFAULT_METHOD if runs_on(DEFAULT_METHOD, prepared.model) else "ekfac"
    query = segment_query(prepared.catalogue, int(heard_rows(prepared.catalogue, 1)[0]))
    exact = plan(method, _quiet(prepared), METHOD_SETTINGS[method](), settings.queries, query)
    return exact.once_s + settings.queries * _generated_s(prepared), exact.queries_s


def _generated_s(prepared: Prepared) -> float:
    """Seconds of making a clip."""
    model = prepared.model
    if not isinstance(model, GeneratingModel):
        return 0.0
    start = time.perf_counter()
    model.sample(prepared.catalogue.tracks[0].caption, model.encoding.segment_s, 0)
    return time.perf_counter() - start


def _quiet(prepared: Prepared) -> Prepared:
    return replace(prepared, on_progress=None, executor=None)
