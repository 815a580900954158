"""Audits an attribution from its files: verdict, ranks, identifiers, scores beside it, the catalogue at
hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from linernotes.attribution.effects import Calibration, effects_of
from linernotes.attribution.result import Attribution, Verdict
from linernotes.attribution.tables import SCORES, read_table, read_track_scores
from linernotes.catalog.gathering import Gatherer, seen_by
from linernotes.credits.checks import (
    Check,
    attempted,
    check_catalogue,
    check_identifiers,
    check_seal,
    checked,
)
from linernotes.credits.crediting import calibrated
from linernotes.settings.methods import METHOD_SETTINGS

GATHERED_DIGITS = 1e-6  # of the largest score: a root of what is left of squares
EFFECT_DIGITS = 1e-4  # of an interval's width: its ends are found by bisection
SCORE_DIGITS = 1e-9  # of the largest score: segments may be taken in another order


def audit_attribution(path: Path, content: Mapping[str, Any]) -> Iterator[Check]:
    """All checks of an ``attribution.json``."""
    read = Attribution.load(path)
    yield Check("schema", "holds", f"attribution, version {read.schema_version}")
    yield check_seal(content)
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


def check_effects(path: Path, calibrations: Iterable[Path]) -> Check:
    """Whether an attribution's expected effects follow from the scores beside it and the calibration that its
    verdict names, if that is among ``calibrations``.
    """
    what, read = "effects follow from scores and calibration", Attribution.load(path)
    if read.verdict is None:
        return Check(what, "not checked", "it is not calibrated")
    if not (path.parent / SCORES).exists():
        return Check(what, "not checked", f"{SCORES} is not beside it")
    wanted = read.verdict.calibration_hash
    found = next((each for each in map(Calibration.load, calibrations) if each.hash == wanted), None)
    if found is None:
        return Check(what, "not checked", f"the calibration {wanted} is not at hand")
    return checked(what, _other_effects(path, read, found, read.verdict))


def _other_effects(
    path: Path, read: Attribution, calibration: Calibration, verdict: Verdict
) -> Iterator[str]:
    scores, splits = read_track_scores(path.parent, read.method)
    segments = Counter(read_table(path.parent / SCORES)["track_id"].to_pylist())
    trained = [name for name in scores if splits[name] == "train"]
    count_t = np.array([segments[name] for name in trained])
    n = int(count_t.sum())
    seen_t = np.ones(len(trained)) if read.drawn == "segments" else n / len(trained) / count_t
    scores_t = np.array([scores[name] for name in trained])
    found = effects_of(calibration, scores_t, count_t * seen_t**2, verdict.loss, n)
    place = {name: t for t, name in enumerate(trained)}
    for i, track in enumerate(read.tracks):
        if track.effect is None or track.track_id not in place:
            continue
        t, effect = place[track.track_id], track.effect
        follow = np.array([found.expected_t[t], found.low_t[t], found.high_t[t]])
        said = np.array([effect.expected, effect.low, effect.high])
        told = slice(None) if verdict.unknown == "mixed" else slice(1)  # ends were told otherwise before
        if np.abs(follow - said)[told].max() > EFFECT_DIGITS * np.ptp(follow):
            yield f"tracks[{i}].effect: {effect.expected:.6g} here, {follow[0]:.6g} follows"


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
    if read.gather:
        yield from _other_gathering(read_table(path.parent / SCORES), read, scores)


def _other_gathering(table: pa.Table, read: Attribution, scores: Mapping[str, float]) -> Iterator[str]:
    """Tracks whose score is not the norm of their segments'."""
    place = {name: t for t, name in enumerate(scores)}
    track_n = np.array([place[name] for name in table["track_id"].to_pylist()])
    trained_n = np.array([split == "train" for split in table["split"].to_pylist()])
    seen_n = seen_by(track_n, trained_n, read.drawn)
    weight_n = table["weight"].to_numpy() if "weight" in table.column_names else np.ones(len(track_n))
    gather = Gatherer("norm", track_n, len(place), trained_n, seen_n)
    found_t = gather.of(table["score"].to_numpy() / seen_n, weight_n)
    largest = np.abs(found_t).max()
    for name, t in place.items():
        if abs(found_t[t] - scores[name]) > GATHERED_DIGITS * largest:
            yield f"{SCORES}: track_score of {name}: {scores[name]:.9g} here, {found_t[t]:.9g} follows"
