"""Audits an attribution from its files: verdict, ranks, identifiers, scores beside it, the catalogue at
hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from linernotes.attribution.result import Attribution
from linernotes.attribution.tables import SCORES, read_track_scores
from linernotes.credits.checks import Check, attempted, check_catalogue, check_identifiers, checked
from linernotes.credits.crediting import calibrated
from linernotes.settings.methods import METHOD_SETTINGS

SCORE_DIGITS = 1e-9  # of the largest score: sums over segments may be added up in another order


def audit_attribution(path: Path, content: Mapping[str, Any]) -> Iterator[Check]:
    """All checks of an ``attribution.json``."""
    read = Attribution.load(path)
    yield Check("schema", "holds", f"attribution, version {read.schema_version}")
    yield attempted("verdict and effects agree", lambda: _named(path, read))
    yield checked("ranks follow the scores", _ranks(read))
    lines = [
        (f"tracks[{i}]", {kind: track.details.get(kind.upper(), "") for kind in ("isrc", "iswc")})
        for i, track in enumerate(read.tracks)
    ]
    yield check_identifiers(lines)
    if (path.parent / SCORES).exists():
        yield checked(f"scores are those of {SCORES}", _other_scores(path, read))
    else:
        yield Check(f"scores are those of {SCORES}", "not checked", f"{SCORES} is not beside it")
    yield from check_catalogue(read.sources.catalogue, read.catalogue_hash)


def _named(path: Path, read: Attribution) -> str:
    if read.verdict is None:
        return "not calibrated"
    verdict, named = calibrated(path, read)
    return f"{len(named)} named, {'lent' if verdict.lent else 'own'} calibration"


def _ranks(read: Attribution) -> Iterator[str]:
    for i, (one, other) in enumerate(zip(read.tracks, read.tracks[1:], strict=False)):
        if one.score < other.score or one.rank >= other.rank:
            yield f"tracks[{i + 1}]: rank {other.rank}, score {other.score:.6g} after {one.score:.6g}"


def _other_scores(path: Path, read: Attribution) -> Iterator[str]:
    if read.method not in METHOD_SETTINGS:
        yield f"method: there is no {read.method!r}"
        return
    scores, _ = read_track_scores(path.parent, read.method)
    largest = max((abs(score) for score in scores.values()), default=0.0)
    for i, track in enumerate(read.tracks):
        found = scores.get(track.track_id)
        if found is None or abs(found - track.score) > SCORE_DIGITS * largest:
            there = "none" if found is None else f"{found:.9g}"
            yield f"tracks[{i}].score: {track.score:.9g} here, {there} there"
