"""What building an index takes of a disk and of memory, from its settings alone; and whether it is there."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from linernotes.errors import LinernotesError
from linernotes.index.codes import NUMBERS_A_CODE
from linernotes.index.store import EXACT_UP_TO
from linernotes.methods.contract import Prepared
from linernotes.models.contract import ReadoutModel
from linernotes.models.passes import memory_of
from linernotes.settings.methods import ReadoutSettings
from linernotes.settings.verbs import IndexSettings

STRONGEST = 256  # features kept in each band (dev/LOG.md)
FEATURE_SAMPLE = 256  # segments that they are chosen by
SAMPLE = 2048  # segments that the directions are fitted on; of a large catalogue a share, up to twice as many
SAMPLE_SHARE = 0.05
SAMPLE_BYTES = 2 << 30  # that their moments may take
LEAST_SAMPLE = 32
HALF, FLOAT = 2, 4  # bytes of a number
BESIDE = 12  # bytes a segment: its length, and which it is
GB = 1e9


@dataclass(frozen=True)
class Room:
    """Bytes."""

    index: int  # on the disk, for good
    disk: int  # while it is built, with the index
    memory: int  # at the most, beyond a running model


def sample_size(bands: int, channels: int, kept: int, n_training: int) -> int:
    """How many segments directions are fitted on: as many as there is room for, and as take little of the
    time of a pass.
    """
    wanted = min(max(SAMPLE, int(SAMPLE_SHARE * n_training)), 2 * SAMPLE)
    return max(LEAST_SAMPLE, min(wanted, SAMPLE_BYTES // (HALF * bands * channels * kept)))


def room_for(prepared: Prepared, settings: IndexSettings) -> Room:
    """What a new index takes."""
    model, segments = prepared.model, len(prepared.catalogue)
    if not (settings.moments and isinstance(model, ReadoutModel)):
        each = settings.latents + BESIDE
        codes = _codes(segments, settings.latents)
        return Room(segments * each + codes, 2 * segments * each + codes, _table(segments, settings) + codes)
    bands, channels = ReadoutSettings().noise_bands, prepared.catalogue.encoding.latent_channels
    layer: Any = model.network.get_submodule(model.readout().layer)
    width = layer.in_features + (layer.bias is not None)
    kept = min(STRONGEST, width)
    long = bands * channels * kept  # numbers of a moment
    fitted = min(sample_size(bands, channels, kept, prepared.n_training), prepared.n_training)
    moments = min(settings.moments, fitted)
    space = HALF * moments * long + FLOAT * bands * width * kept
    sampled = HALF * fitted * long
    features = HALF * min(FEATURE_SAMPLE, prepared.n_training) * bands * channels * width
    codes = _codes(segments, moments + settings.latents)
    index = segments * (moments + settings.latents + BESIDE) + space + codes
    swept = segments * (moments + FLOAT * (1 + settings.queries))
    # samples lie there in pieces and put together, and so does a part of the sweep beside the table
    disk = index + space + 2 * (sampled + features) + 2 * swept
    # directions are kept in halves and floats, beside the sample that they came from
    memory = sampled + max(sampled + space, 3 * space) + _table(segments, settings) + codes
    return Room(index, disk, memory)


def _codes(segments: int, numbers: int) -> int:
    return segments * numbers // (2 * NUMBERS_A_CODE) if segments > EXACT_UP_TO else 0


def _table(segments: int, settings: IndexSettings) -> int:
    """What recall is measured on: what is said, what is so, and their order."""
    return segments * settings.queries * 6 * 8


def require_room(prepared: Prepared, settings: IndexSettings, path: Path, there: int = 0) -> None:
    """Refuses to begin what the disk of ``path`` or this machine's memory does not hold.

    Args:
        there: bytes of the build that a killed one has left.

    Raises:
        LinernotesError: says what it takes, what is free, and the remedy.
    """
    need = room_for(prepared, settings)
    free = shutil.disk_usage(path.absolute().parent).free + there
    if need.disk > free:
        raise LinernotesError(
            f"building {path} takes {need.disk / GB:.1f} GB of disk ({need.index / GB:.1f} GB are kept), and "
            f"{free / GB:.1f} GB are free: free some, or give another --out or fewer --moments"
        )
    memory = memory_of(torch.device("cpu")).free
    if need.memory > memory:
        raise LinernotesError(
            f"building {path} takes {need.memory / GB:.1f} GB of memory, and {memory / GB:.1f} GB are free: "
            "end other programs, or give fewer --moments"
        )
