"""The attribution of one query: ranked tracks with scores and evidence, and all that is needed to repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from linernotes.artefacts import read_json, replacing, write_json
from linernotes.catalog.source import Track
from linernotes.errors import LinernotesError
from linernotes.settings.methods import Gather
from linernotes.version import SCHEMA_VERSION, __version__


class QueryRecord(BaseModel):
    """The clip that was attributed."""

    name: str
    file: str
    prompt: str
    seconds: float
    generated: dict[str, Any] | None  # the sidecar's seed and model, for a generated clip
    content_hash: str = ""  # of latents, text embedding and heard frames: what the scores were made from
    prompt_known: bool = True
    windows: int = 1  # a clip longer than the model hears is cut, and its score is the mean over its windows by seconds


class TrackScore(BaseModel):
    """One track's place in an attribution."""

    rank: int  # among all tracks, decoys included; 1 is first
    track_id: str
    title: str
    artist: str
    score: float
    split: Literal["train", "decoy"]
    decoys_above: int  # (other) decoys that score at least as high; decoys were never trained on
    best_segment_start_s: float  # where in the track the highest-scoring segment begins


class Attribution(BaseModel):
    """What ``attribution.json`` holds. Scores are oriented: higher = removing the track would hurt the query more."""

    kind: Literal["attribution"] = "attribution"
    schema_version: int = SCHEMA_VERSION
    linernotes: str = __version__
    query: QueryRecord
    method: str
    orientation: str
    settings: dict[str, Any]
    seed: int
    model: str
    model_hash: str
    catalogue: str
    catalogue_hash: str
    noise_hash: str
    cautions: list[str] = []  # what a reader must know before the ranking; shown wherever it is
    decoys: int
    tracks: list[TrackScore]

    def first_trained(self, n: int) -> list[TrackScore]:
        """The first ``n`` tracks that were trained on. Ranks that are missing among theirs belong to decoys."""
        return [track for track in self.tracks if track.split == "train"][:n]

    def save(self, path: Path) -> None:
        write_json(path, self.model_dump())

    @classmethod
    def load(cls, path: Path) -> Attribution:
        """Reads an ``attribution.json``.

        Raises:
            LinernotesError: missing, damaged, or of another schema version.
        """
        content = read_json(path, "an attribution")
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            raise LinernotesError(
                f"{path} has schema version {version}, this linernotes ({__version__}) reads {SCHEMA_VERSION}: "
                "attribute the clip anew"
            )
        try:
            return cls(**content)
        except ValidationError as error:
            raise LinernotesError(f"{path} is damaged ({error.errors()[0]['msg'].lower()}): attribute the clip anew") from None


def gather_tracks(scores_n: np.ndarray, track_n: np.ndarray, n_tracks: int, gather: Gather = "sum") -> np.ndarray:
    """Scores of segments -> scores of tracks: the sum over a track's segments, since removing it removes them all; the
    highest of them where a score is a likeness.
    """
    if gather == "sum":
        return np.bincount(track_n, weights=scores_n, minlength=n_tracks)
    highest = np.full(n_tracks, -np.inf)
    np.maximum.at(highest, track_n, scores_n)
    return highest


def rank_tracks(
    scores_n: np.ndarray, track_n: np.ndarray, start_s_n: np.ndarray, tracks: list[Track], gather: Gather = "sum"
) -> list[TrackScore]:
    """All tracks, highest score first; ties keep the catalogue's order."""
    scores = gather_tracks(scores_n, track_n, len(tracks), gather)
    best = np.full(len(tracks), -1)
    for n in np.argsort(scores_n, kind="stable"):
        best[track_n[n]] = n
    decoys = np.sort(scores[[track.split == "decoy" for track in tracks]])
    order = np.argsort(-scores, kind="stable")
    return [
        TrackScore(
            rank=rank,
            track_id=tracks[i].track_id,
            title=tracks[i].title,
            artist=tracks[i].artist,
            score=float(scores[i]),
            split=tracks[i].split,  # type: ignore[arg-type]
            decoys_above=int(len(decoys) - np.searchsorted(decoys, scores[i])) - (tracks[i].split == "decoy"),
            best_segment_start_s=float(start_s_n[best[i]]),
        )
        for rank, i in enumerate(order, start=1)
    ]


def save_scores(
    path: Path, scores_n: np.ndarray, windows_wn: Sequence[np.ndarray] | np.ndarray, track_n: np.ndarray,
    start_s_n: np.ndarray, seconds_n: np.ndarray, tracks: list[Track], header: dict[str, str],
) -> None:  # fmt: skip
    """The scores of all segments as Parquet, one row a segment in the catalogue's order; each window's own beside them."""
    table = pa.table(
        {
            "track_id": [tracks[t].track_id for t in track_n],
            "split": [tracks[t].split for t in track_n],
            "start_s": start_s_n,
            "seconds": seconds_n,
            "score": scores_n,
            **{f"window_{w}": scores_w for w, scores_w in enumerate(windows_wn)},
        }
    )
    table = table.replace_schema_metadata({"kind": "scores", "schema": str(SCHEMA_VERSION), **header})
    with replacing(path) as temporary:
        pq.write_table(table, temporary)
