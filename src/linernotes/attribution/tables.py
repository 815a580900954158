"""The tables beside ``attribution.json``: the score of every segment, and where in the first tracks it comes
from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from linernotes.artefacts import write_table
from linernotes.catalog.gathering import gather_tracks, gathered_before
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError

SCORES, EVIDENCE = "scores.parquet", "evidence.parquet"


def save_scores(
    folder: Path,
    scores_n: np.ndarray,
    windows_wn: Sequence[np.ndarray] | np.ndarray,
    catalogue: Catalogue,
    header: Mapping[str, str],
    weight_n: np.ndarray | None = None,
    error_t: np.ndarray | None = None,
    scores_t: np.ndarray | None = None,
) -> None:
    """The scores of all segments, one row a segment in the catalogue's order; each window's own beside
    them.

    Args:
        weight_n: of how many tracks each one's track speaks (``shortlisting.Scored``); 0 where a score is
            what is expected of such. Each of itself if None.
        error_t: standard errors of the tracks' scores, nan where one is not known: the same in every row of a
            track.
        scores_t: the tracks', alike, where they do not follow from their own segments' alone.
    """
    columns = {
        "track_id": _of_tracks([track.track_id for track in catalogue.tracks], catalogue.track_n),
        "split": _of_tracks([track.split for track in catalogue.tracks], catalogue.track_n),
        "start_s": catalogue.start_s_n,
        "seconds": catalogue.seconds_n,
        "score": scores_n,
        **({} if weight_n is None else {"weight": weight_n}),
        **({} if scores_t is None else {"track_score": scores_t[catalogue.track_n]}),
        **({} if error_t is None or np.isnan(error_t).all() else {"track_error": error_t[catalogue.track_n]}),
        **{f"window_{w}": scores_w for w, scores_w in enumerate(windows_wn)},
    }
    save_table(folder / SCORES, columns, {"kind": "scores", "axes": "segments in catalogue order", **header})


def _of_tracks(values_t: list[str], track_n: np.ndarray) -> pa.Array:
    """What is said of tracks, for each of their segments."""
    return pa.DictionaryArray.from_arrays(pa.array(track_n, pa.int32()), pa.array(values_t)).cast(pa.string())


def save_evidence(
    folder: Path,
    change_t: Mapping[str, np.ndarray],
    start_s: Mapping[str, float],
    frame_s: float,
    header: Mapping[str, str],
) -> None:
    """The change of loss in each frame of the first tracks' best segments, one row a frame. Of a whole
    segment that counts once, the mean is its score.
    """
    columns = {
        "track_id": [name for name, values in change_t.items() for _ in values],
        "second": [
            start_s[name] + frame * frame_s
            for name, values in change_t.items()
            for frame in range(len(values))
        ],
        "change": [float(value) for values in change_t.values() for value in values],
    }
    schema = pa.schema([("track_id", pa.string()), ("second", pa.float64()), ("change", pa.float64())])
    save_table(
        folder / EVIDENCE,
        columns,
        {"kind": "evidence", "axes": "frames of the best segment of a track", **header},
        schema,
    )


def read_track_scores(folder: Path, method: str) -> tuple[dict[str, float], dict[str, str]]:
    """Score and split of every track, by its identifier."""
    table = read_table(folder / SCORES)
    encoded = table["track_id"].combine_chunks().dictionary_encode()
    names, track_n = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    first = np.unique(track_n, return_index=True)[1]
    splits = dict(zip(names, table["split"].take(first).to_pylist(), strict=True))
    scores = _track_scores(table, method, track_n, len(names))
    return dict(zip(names, scores.tolist(), strict=True)), splits


def read_scores_of(folder: Path, method: str, track_n: np.ndarray, n_tracks: int) -> np.ndarray:
    """Scores of all tracks, by their places in the catalogue."""
    return _track_scores(read_table(folder / SCORES), method, track_n, n_tracks)


def _track_scores(table: pa.Table, method: str, track_n: np.ndarray, n_tracks: int) -> np.ndarray:
    """As they were written; or gathered from segments' as it was done before they were."""
    if "track_score" not in table.column_names:
        return gather_tracks(table["score"].to_numpy(), track_n, n_tracks, gathered_before(method))
    scores_t = np.zeros(n_tracks)
    scores_t[track_n] = table["track_score"].to_numpy()
    return scores_t


def read_segment_scores(folder: Path) -> np.ndarray:
    """The scores of all segments, in the catalogue's order."""
    return np.asarray(read_table(folder / SCORES)["score"].to_numpy())


def read_track_errors(folder: Path, track_n: np.ndarray, n_tracks: int) -> np.ndarray:
    """Standard errors of the scores of all tracks, nan where one is not known."""
    table, error_t = read_table(folder / SCORES), np.full(n_tracks, np.nan)
    if "track_error" in table.column_names:
        error_t[track_n] = table["track_error"].to_numpy()
    return error_t


def read_weights(folder: Path) -> np.ndarray:
    """Of how many tracks each segment's track speaks: 0 where it was not scored."""
    table = read_table(folder / SCORES)
    return table["weight"].to_numpy() if "weight" in table.column_names else np.ones(len(table))


def read_evidence(folder: Path) -> dict[str, np.ndarray]:
    """The change of loss in each frame, by the track's identifier; empty for methods that have none."""
    table = read_table(folder / EVIDENCE)
    found: dict[str, list[float]] = {}
    for name, change in zip(table["track_id"].to_pylist(), table["change"].to_pylist(), strict=True):
        found.setdefault(name, []).append(change)
    return {name: np.array(values) for name, values in found.items()}


def save_table(
    path: Path, columns: Mapping[str, object], header: Mapping[str, str], schema: pa.Schema | None = None
) -> None:
    """Writes a table beside a record, with what it belongs to."""
    write_table(path, pa.table(dict(columns), schema=schema), header)


def read_table(path: Path) -> pa.Table:
    """A table beside a record.

    Raises:
        LinernotesError: it cannot be read.
    """
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise LinernotesError(
            f"{path} cannot be read ({str(error).splitlines()[0]}): attribute the clip anew"
        ) from None
