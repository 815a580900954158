"""Tracks, tables of rights and calibrated attributions as data, for what is made of them: credits and
statements.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from linernotes.attribution.result import (
    AdapterPart,
    Attribution,
    Effect,
    QueryRecord,
    Sources,
    TrackScore,
    Verdict,
)
from linernotes.catalog.rights_table import read_rights_table
from linernotes.catalog.track import Track
from linernotes.credits.rights import Rights, read_rights


def effect(expected: float, named: bool = True, spread: float = 0.5) -> Effect:
    return Effect(expected=expected, low=expected * (1 - spread), high=expected * (1 + spread), named=named)


def attribution(
    effects: Mapping[str, Effect | None],
    total: float,
    tracks: Sequence[Track] = (),
    catalogue_hash: str = "c" * 16,
    clip: str = "clip",
    catalogue: str = "somewhere",
    lent: bool = False,
    adapter: float | None = None,
) -> Attribution:
    """A calibrated attribution whose tracks have these effects, in this order; ``adapter``: its share, of a
    clip of an adapted model.
    """
    known = {track.track_id: track for track in tracks}
    named = sum(bool(e and e.named) for e in effects.values())
    scores = [
        TrackScore(
            rank=rank,
            track_id=track_id,
            title=known[track_id].title if track_id in known else track_id.title(),
            artist=known[track_id].artist if track_id in known else "",
            score=1e-3 / rank,
            split="train",
            decoys_above=0,
            best_segment_start_s=0.0,
            effect=each,
        )
        for rank, (track_id, each) in enumerate(effects.items(), start=1)
    ]
    return Attribution(
        torch="2",
        device="cpu",
        query=QueryRecord(
            name=clip,
            file=f"{clip}.flac",
            prompt="",
            seconds=6,
            generated=None,
            content_hash=f"hash of {clip}",
        ),
        method="readout",
        orientation="higher = removing it would hurt the query more",
        settings={"draws": 4},
        seed=0,
        model="tiny",
        model_hash="m" * 16,
        catalogue="tones",
        catalogue_hash=catalogue_hash,
        noise_hash="d" * 16,
        training_tracks=len(effects),
        decoys=0,
        segments=len(effects),
        tracks=scores,
        sources=Sources(clips=[], catalogue=catalogue, command="linernotes attribute"),
        adapter=AdapterPart(
            base="base", base_hash="b" * 16, loss=0.5, base_loss=0.6, nothing=1.0, share=adapter
        )
        if adapter is not None
        else None,
        verdict=Verdict(
            sentence=f"{named} tracks can be named.",
            named=named,
            total=total,
            expected_false=0.05 * named,
            reasons=[],
            loss=0.5,
            fitness=0.3,
            own=None,
            random_track=total / max(len(effects), 1),
            retrain_sd=0.01,
            lent=lent,
            calibration="64 halves of the benchmark",
            calibration_hash="k" * 16,
        ),
    )


def write_rights(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A ``rights.csv``."""
    columns = dict.fromkeys(name for row in rows for name in row)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns), restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def rights_of(folder: Path, rows: Sequence[Mapping[str, Any]], tracks: Sequence[Track]) -> Rights:
    return read_rights(read_rights_table(write_rights(folder / "rights.csv", rows)), tracks)


def holder(track: str, party: str, share: Any = 100, right: str = "recording", **more: str) -> dict[str, Any]:
    return {"track": track, "party": party, "share": share, "right": right, **more}
