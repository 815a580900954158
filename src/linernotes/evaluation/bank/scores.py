"""Scores of a bank's clips, or of its catalogue's planted tracks, by a method: kept as files, computed when
there are none.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from linernotes.artefacts import hash_json, load_tensors, save_tensors
from linernotes.attribution.query import clip_query, segment_query
from linernotes.catalog.gathering import Gatherer
from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError
from linernotes.evaluation.bank.folder import require_scores
from linernotes.evaluation.bank.store import Bank
from linernotes.methods.all import METHODS, score
from linernotes.methods.contract import Prepared, Query
from linernotes.models.contract import best_device, device_of
from linernotes.settings.methods import METHOD_SETTINGS, Gather, MethodSettings
from linernotes.version import __version__

SCORES = "scores of a bank's queries"
BY = "by"  # what computed them; the package's own, and older ones, say nothing of it and hold for all
GATHERS: tuple[Gather, ...] = get_args(Gather)
SOURCE_DRAWS = 4  # planted sources are many, and it is only their first places that count


@dataclass(frozen=True)
class Scored:
    """A method's scores of some queries."""

    method: str
    settings: dict[str, Any]
    scores_qt: np.ndarray  # [queries, all tracks of the catalogue]
    seconds: float  # for all queries together, what is computed once per model included
    # the same, gathered over each track's segments in every way; empty where every track is one segment
    gathered: Mapping[Gather, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A track that is known to be related to a training track: its place among
    the tracks, how, and the other's place.
    """

    track: int
    relation: str
    relative: int


def bank_queries(bank: Bank, prepared: Prepared) -> list[Query]:
    """The bank's clips, ready to be attributed.

    Raises:
        LinernotesError: the bank holds the clips' losses, but not the clips.
    """
    if not bank.holds_clips:
        raise LinernotesError(
            f"{bank.path} holds its clips' losses and not the clips, so that they cannot be scored anew: "
            "take a method and settings whose scores stand beside it, or build the bank again with "
            "'linernotes bank build'"
        )
    return [
        clip_query(query.name, torch.from_numpy(latents_ct), query.prompt, query.seconds, prepared.model)
        for query, latents_ct in zip(bank.queries, bank.latents_qct, strict=True)
    ]


def related_sources(catalogue: Catalogue) -> list[Source]:
    """Tracks whose relatives are known from the metadata columns ``relation`` and ``related_to``: decoys with
    a relative that was trained on, and training tracks that stand twice.
    """
    place = {track.track_id: i for i, track in enumerate(catalogue.tracks)}
    sources: dict[tuple[int, int], Source] = {}
    for i, track in enumerate(catalogue.tracks):
        relation, other = track.extra.get("relation"), place.get(track.extra.get("related_to", ""))
        if not relation or other is None:
            continue
        splits = (track.split, catalogue.tracks[other].split)
        if splits == ("decoy", "train"):
            sources[i, other] = Source(i, relation, other)
        elif relation == "duplicate" and splits == ("train", "train") and i != other:
            one, twin = sorted((i, other))
            sources[one, twin] = Source(one, relation, twin)
    return list(sources.values())


def fewer_draws(settings: MethodSettings) -> int:
    """Draws that planted sources are scored on: about ``SOURCE_DRAWS``, as many in each noise band."""
    return min(settings.item_draws, settings.bands * math.ceil(SOURCE_DRAWS / settings.bands))


def source_queries(catalogue: Catalogue, sources: Sequence[Source]) -> list[Query]:
    """The first segment of each source, as a query."""
    return [
        segment_query(catalogue, int(np.flatnonzero(catalogue.track_n == source.track)[0]))
        for source in sources
    ]


def scores_of(
    names: Sequence[str],
    queries: Callable[[], list[Query]],
    prepared: Prepared,
    bank: Bank,
    method: str,
    settings: MethodSettings,
    kept: Sequence[Path],
) -> Scored:
    """Scores of queries, read from the first of the ``kept`` folders that has them, or computed and put in
    the last one. What says that another version computed it, or another kind of device, is computed anew.

    Args:
        names: of the queries; ``queries`` is only called when scores must be computed.

    Raises:
        LinernotesError: a file there is damaged, or of another model or catalogue.
    """
    header = _header(bank, method, settings, names)
    header |= {"model": prepared.model.weights_hash, "catalogue": prepared.catalogue.hash}
    if prepared.drawn == "tracks":
        header["drawn"] = prepared.drawn
    if read_too := METHODS[method].reads(prepared, settings):
        header["reads"] = read_too
    name = f"{method}-{hash_json(header)[:8]}.safetensors"
    by = computed_by(device_of(prepared.model))
    several = len(prepared.catalogue) > len(prepared.catalogue.tracks)
    for folder in kept:
        found = _read(folder / name, header, by) if (folder / name).exists() else None
        if found and bool(found.gathered) == several:
            return found
    # what other code has begun is not gone on with: its folder has the code's hash
    work = kept[-1] / f".{name}.{hash_json(prepared.folder.name)[:8]}.partial"
    made = queries()
    start = time.perf_counter()
    scores_qn = score(method, prepared, made, settings, work).scores_qn
    seconds = round(time.perf_counter() - start, 1)
    gather = prepared.gatherer(settings.gather)
    if several:
        kept_as = {f"{way}_qt": _gathered(scores_qn, gather, way) for way in GATHERS}
    else:  # the same in every way
        kept_as = {"scores_qt": _gathered(scores_qn, gather)}
    said = {**header, BY: by, "seconds": seconds, "axes": "queries, tracks"}
    save_tensors(kept[-1] / name, kept_as, SCORES, said)
    shutil.rmtree(work, ignore_errors=True)
    found = _read(kept[-1] / name, header, by)
    assert found
    return found


def stored_scores(
    bank: Bank, folders: Sequence[Path], method: str, settings: MethodSettings
) -> Scored | None:
    """Scores of a bank's clips that were kept in one of some folders, found by what they say of themselves:
    neither model nor catalogue is opened. None where there are none.
    """
    header = _header(bank, method, settings, [query.name for query in bank.queries])
    by = computed_by(best_device())
    for path in (path for folder in folders for path in sorted(folder.glob(f"{method}-*.safetensors"))):
        found = load_tensors(path, SCORES)[1]
        if all(found.get(key) == value for key, value in header.items()) and (
            scored := _read(path, header, by)
        ):
            return scored
    return None


def computed_by(device: torch.device) -> list[str]:
    """What computes scores: this linernotes, on a kind of device; others' differ in the last digits, or by
    what was mended.
    """
    return [__version__, device.type]


def _header(bank: Bank, method: str, settings: MethodSettings, names: Sequence[str]) -> dict[str, Any]:
    """What a file of scores says of them."""
    return {
        "model": bank.header["model"],
        "catalogue": bank.header["catalogue"],
        "method": method,
        "settings": settings.model_dump(),
        "queries": list(names),
        "clips": bank.header["clips"],
    }


def _gathered(scores_qn: np.ndarray, gather: Gatherer, way: Gather | None = None) -> Tensor:
    scores_qt = np.stack([gather.of(scores_n, way=way) for scores_n in scores_qn])
    return torch.from_numpy(scores_qt.astype(np.float32))


def _read(path: Path, header: Mapping[str, Any], by: list[str]) -> Scored | None:
    """None of what was computed otherwise, or kept by a linernotes that did not gather the scores of long
    tracks as they are now.
    """
    tensors, found = load_tensors(path, SCORES, header)
    if found.get(BY, by) != by:
        return None
    if "unit_q1" in tensors:  # half precision about each query's median, in some files of the package
        unit_q1, median_q1 = tensors.pop("unit_q1"), tensors.pop("median_q1")
        tensors = {name: tensor.float() * unit_q1 + median_q1 for name, tensor in tensors.items()}
    gathered = {way: tensors[f"{way}_qt"].numpy() for way in GATHERS if f"{way}_qt" in tensors}
    if gathered and len(gathered) < len(GATHERS):
        return None
    scores_qt = gathered.get(METHOD_SETTINGS[found["method"]].gather)
    if scores_qt is None:
        scores_qt = tensors["scores_qt"].numpy()
    return Scored(found["method"], found["settings"], scores_qt, found["seconds"], gathered)


def of_training_tracks(scores_qt: np.ndarray, bank: Bank, catalogue: Catalogue) -> np.ndarray:
    """The columns of the bank's training tracks, in the bank's order."""
    place = {track.track_id: i for i, track in enumerate(catalogue.tracks)}
    return scores_qt[:, [place[name] for name in bank.tracks]]


def of_columns(scores_qt: np.ndarray, bank: Bank) -> np.ndarray:
    """The same of scores over the tracks of a benchmark, whose training tracks come first."""
    return scores_qt[:, : len(bank.tracks)]


def read_scores(path: Path, bank: Bank) -> np.ndarray:
    """Scores from elsewhere, ``[queries, training tracks]``: a Parquet file with columns ``query``,
    ``track_id``, ``score``.

    Raises:
        LinernotesError: the file cannot be read, names a query the bank has not, or leaves tracks or queries
            without scores.
    """
    require_scores(path)
    try:
        table = pq.read_table(path, columns=["query", "track_id", "score"])
    except (OSError, pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise LinernotesError(
            f"{path} is no table of scores ({str(error).splitlines()[0]}): give Parquet with columns query, "
            "track_id, score"
        ) from None
    queries = {query.name: i for i, query in enumerate(bank.queries)}
    tracks = {name: i for i, name in enumerate(bank.tracks)}
    if not (pa.types.is_floating(table["score"].type) or pa.types.is_integer(table["score"].type)):
        raise LinernotesError(f"scores in {path} are of type {table['score'].type}: write them as numbers")
    scores_qn = np.full((len(queries), len(tracks)), np.nan)
    taken: set[tuple[str, str]] = set()
    for query, track, value in zip(
        *(table[name].to_pylist() for name in ("query", "track_id", "score")), strict=True
    ):
        if query not in queries:
            raise LinernotesError(
                f"query {query!r} in {path} is not in the bank: its queries are {', '.join(queries)}"
            )
        if (query, track) in taken:
            raise LinernotesError(
                f"{path} scores track {track!r} for {query} twice: write one row a track, not a segment"
            )
        taken.add((query, track))
        if track in tracks:
            scores_qn[queries[query], tracks[track]] = np.nan if value is None else value
    missing = int((~np.isfinite(scores_qn)).sum(axis=1).max())
    if missing:
        worst = bank.queries[int((~np.isfinite(scores_qn)).sum(axis=1).argmax())].name
        raise LinernotesError(
            f"{path} has no finite score of {missing} training tracks for {worst}: score all of them"
        )
    return scores_qn
