"""Where: which seconds of a clip were shaped by which seconds of a track, as timed pairs to hear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from linernotes.attribution.query import Clip
from linernotes.attribution.result import Span
from linernotes.attribution.tables import read_table, save_table
from linernotes.methods.contract import Prepared
from linernotes.methods.readout_cells import cell_frames
from linernotes.methods.readout_pairs import frame_pairs
from linernotes.models.contract import ReadoutModel
from linernotes.settings.methods import MethodSettings, ReadoutSettings

SPAN_S = 1.5  # of a pair
SPANS = 3  # of a track
SHUFFLES = 499
PICTURE_S = 0.5  # of a cell of alignment.parquet
ALIGNMENT = "alignment.parquet"
CHANCE = 0.01  # a span that so many shuffled tracks have, too, is told apart from nothing; a page has thirty


@dataclass(frozen=True)
class Alignment:
    """What pairs of cells of a clip and of a track contribute to the scores of the track's segments."""

    pairs_qn: np.ndarray  # clip's cells, track's cells; all together are these scores' sum, to first order
    cell_s: float
    rise_t: dict[int, np.ndarray] = field(default_factory=dict)  # of each segment's frames, by its row


def align(
    clip: Clip,
    prepared: Prepared,
    settings: MethodSettings,
    tracks: Sequence[int],
    cells: Sequence[Tensor] = (),
) -> dict[int, Alignment]:
    """Alignments of a clip with whole tracks, by their places among the catalogue's; none for methods that
    know no pairs.

    Args:
        cells: ``Scores.cells`` of the clip's windows, if they are there.
    """
    if not isinstance(settings, ReadoutSettings) or not isinstance(prepared.model, ReadoutModel):
        return {}
    if settings.together or not tracks:
        return {}
    catalogue = prepared.catalogue
    rows = np.flatnonzero(np.isin(catalogue.track_n, np.asarray(tracks)))
    frame_s = catalogue.encoding.frame_samples / catalogue.encoding.rate_hz
    size = cell_frames(prepared.model, settings.noise_bands)
    cell_s = size * frame_s
    seconds = np.array([window.seconds for window in clip.windows])
    at_q = np.ceil(np.round(np.concatenate([[0.0], np.cumsum(seconds)]) / cell_s, 6)).astype(int)
    first_n = np.round(catalogue.start_s_n[rows] / cell_s).astype(int)
    cells_n = np.ceil(np.round(catalogue.seconds_n[rows] / cell_s, 6)).astype(int)
    whole = {
        track: np.zeros((at_q[-1], int((first_n + cells_n)[catalogue.track_n[rows] == track].max())))
        for track in tracks
    }
    found = frame_pairs(prepared, clip.windows, rows, settings, cells)
    pairs_nwqk, rise_nwt = found.pairs_nwqk.double().cpu().numpy(), found.rise_nwt.double().cpu().numpy()
    share_w, seen_n = seconds / seconds.sum(), prepared.weights_n
    for row, first, count, pairs_wqk in zip(rows, first_n, cells_n, pairs_nwqk, strict=True):
        into = whole[int(catalogue.track_n[row])]
        for w, pairs_qk in enumerate(pairs_wqk):
            part = pairs_qk[: at_q[w + 1] - at_q[w], :count] * share_w[w] * seen_n[row]
            into[at_q[w] : at_q[w] + part.shape[0], first : first + part.shape[1]] += part
    rise_t = {int(row): share_w @ rise_wt for row, rise_wt in zip(rows, rise_nwt, strict=True)}
    return {
        track: Alignment(pairs_qn, cell_s, {n: rise_t[n] for n in rise_t if catalogue.track_n[n] == track})
        for track, pairs_qn in whole.items()
    }


def save_alignments(folder: Path, alignments: Mapping[str, Alignment], header: Mapping[str, str]) -> None:
    """Writes ``alignment.parquet``: one row for each half a second of a track (by its identifier) and of the
    clip, with what they contribute to the scores of the track's segments.
    """
    rows: dict[str, list[Any]] = {"track_id": [], "clip_s": [], "track_s": [], "product": []}
    for name, alignment in alignments.items():
        size = max(1, round(PICTURE_S / alignment.cell_s))
        pairs_qn = np.add.reduceat(alignment.pairs_qn, np.arange(0, len(alignment.pairs_qn), size), axis=0)
        pairs_qn = np.add.reduceat(pairs_qn, np.arange(0, pairs_qn.shape[1], size), axis=1)
        for (q, n), value in np.ndenumerate(pairs_qn):
            rows["track_id"].append(name)
            rows["clip_s"].append(q * size * alignment.cell_s)
            rows["track_s"].append(n * size * alignment.cell_s)
            rows["product"].append(float(value))
    save_table(
        folder / ALIGNMENT,
        rows,
        {"kind": "alignment", "axes": "passages of a track and of the clip", **header},
        pa.schema([(name, pa.string() if name == "track_id" else pa.float64()) for name in rows]),
    )


def read_alignments(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Products ``[clip's passages, track's passages]`` with where each begins in seconds, by identifier;
    empty for methods that know no pairs.
    """
    if not (folder / ALIGNMENT).exists():
        return {}
    table = read_table(folder / ALIGNMENT)
    names = np.array(table["track_id"].to_pylist())
    found = {}
    for name in dict.fromkeys(names.tolist()):
        clip_s, track_s, product = (
            table[column].to_numpy()[names == name] for column in ("clip_s", "track_s", "product")
        )
        heights, lengths = np.unique(clip_s), np.unique(track_s)
        found[name] = (product.reshape(len(heights), len(lengths)), heights, lengths)
    return found


def find_spans(alignment: Alignment, seed: int = 0) -> list[Span]:
    """The strongest pairs of ``SPAN_S`` seconds in step, strongest first; none overlaps another in both clip
    and track.

    ``chance``: the share of tracks with the same frames in another order that have a pair as strong.
    """
    pairs_qn, cell_s = alignment.pairs_qn, alignment.cell_s
    width = min(max(1, round(SPAN_S / cell_s)), *pairs_qn.shape)
    strength_qn = _in_step(pairs_qn, width)
    random = np.random.default_rng(seed)
    shuffled = np.array(
        [_in_step(pairs_qn[:, random.permutation(pairs_qn.shape[1])], width).max() for _ in range(SHUFFLES)]
    )
    whole = float(np.maximum(pairs_qn, 0).sum())
    spans: list[Span] = []
    left = strength_qn.copy()
    while len(spans) < SPANS:
        q, n = np.unravel_index(int(left.argmax()), left.shape)
        strength = float(left[q, n])
        if strength <= 0:
            break
        chance = (1 + int((shuffled >= strength).sum())) / (1 + SHUFFLES)
        spans.append(
            Span(
                clip_start_s=round(float(q) * cell_s, 3),
                clip_end_s=round(float(q + width) * cell_s, 3),
                track_start_s=round(float(n) * cell_s, 3),
                track_end_s=round(float(n + width) * cell_s, 3),
                strength=strength / whole,
                chance=chance,
            )
        )
        near = slice(max(0, q - width + 1), q + width), slice(max(0, n - width + 1), n + width)
        left[near] = -np.inf
    return spans


def _in_step(pairs_qn: np.ndarray, width: int) -> np.ndarray:
    """Sums of ``width`` cells along the diagonal, from each cell on."""
    upto_qn = np.zeros((pairs_qn.shape[0] + 1, pairs_qn.shape[1] + 1))  # sums along diagonals, from the edge
    for q, pairs_n in enumerate(pairs_qn):
        np.add(upto_qn[q, :-1], pairs_n, out=upto_qn[q + 1, 1:])
    return upto_qn[width:, width:] - upto_qn[:-width, :-width]
