"""One clip's attribution -> its credits, with all that the figures rest on: estimator, calibration, hashes,
every track's own score and effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np

from linernotes.attribution.result import Attribution, TrackScore, Verdict
from linernotes.attribution.tables import SCORES
from linernotes.catalog.reservations import ASSERTION, COLUMN, RESERVED
from linernotes.catalog.store import Catalogue
from linernotes.credits.crediting import Shared, calibrated, share_out
from linernotes.credits.entries import Right
from linernotes.credits.record import (
    Contribution,
    Credits,
    Estimator,
    Hashes,
    Normalisation,
    Places,
    Validation,
    left_over,
)
from linernotes.credits.rights import FROM_CATALOGUE, Rights
from linernotes.credits.shares import RULES, Rule
from linernotes.errors import LinernotesError
from linernotes.records.seal import sha256_of


def credit_clip(
    path: Path,
    attribution: Attribution,
    catalogue: Catalogue,
    rights: Rights,
    rule: Rule = "proportion",
    smallest: Fraction = Fraction(0),
    reporter: str | None = None,
    supersedes: str | None = None,
) -> Credits:
    """The credits of the clip that ``attribution``, which lies at ``path``, is of.

    Args:
        smallest: the smallest share paid, of 1.
        supersedes: SHA-256 of the credits that these replace.

    Raises:
        LinernotesError: the attribution is not calibrated, contradicts itself, or is of another catalogue.
    """
    if attribution.catalogue_hash != catalogue.hash:
        raise LinernotesError(
            f"{path} was made with another catalogue ({attribution.catalogue}, "
            f"{attribution.catalogue_hash}) than {catalogue.path} ({catalogue.hash}): give that one with "
            "--catalog"
        )
    verdict, named = calibrated(path, attribution)
    shared = share_out(attribution, verdict, named, rights, rule, smallest)
    return Credits(
        computed_at=datetime.now(UTC).isoformat(timespec="seconds"),
        supersedes=supersedes,
        reporter=reporter,
        query=attribution.query.model_dump(mode="json"),
        model=attribution.model,
        catalogue=attribution.catalogue,
        verdict=verdict.sentence,
        rule=rule,
        rule_is_for=RULES[rule],
        smallest_share=f"{smallest}",
        estimator=_estimator(attribution),
        validation=Validation(
            calibration=verdict.calibration,
            calibration_hash=verdict.calibration_hash,
            lent=verdict.lent,
            named=verdict.named,
            expected_false=verdict.expected_false,
        ),
        normalisation=_normalisation(verdict, shared),
        hashes=_hashes(path, attribution, verdict, rights),
        sources=Places(
            attribution=str(path.resolve()),
            catalogue=str(catalogue.path.resolve()),
            rights=_place(rights),
        ),
        notes=[*_notes(verdict, attribution), *_reserved(named), *shared.notes, *rights.notes],
        rights=shared.rights,
        parties=shared.parties,
        lines=shared.lines,
        contributions=_contributions(attribution, catalogue),
    )


def _estimator(attribution: Attribution) -> Estimator:
    return Estimator(
        method=attribution.method,
        settings=attribution.settings,
        gather=attribution.gather,
        orientation=attribution.orientation,
        seed=attribution.seed,
        device=attribution.device,
        torch=attribution.torch,
        linernotes=attribution.linernotes,
    )


def _place(rights: Rights) -> str:
    return rights.source if rights.source == FROM_CATALOGUE else str(Path(rights.source).resolve())


def _normalisation(verdict: Verdict, shared: Shared) -> Normalisation:
    weights: dict[Right, int] = {right.right: 0 for right in shared.rights}
    for line in shared.lines:
        weights[line.right] += line.parts
    return Normalisation(
        total_effect=verdict.total,
        weights=weights,
        residual={right.right: sum(parts for _, parts in left_over(right)) for right in shared.rights},
        sum={right.right: right.total for right in shared.rights},
    )


def _hashes(path: Path, attribution: Attribution, verdict: Verdict, rights: Rights) -> Hashes:
    scores = path.parent / SCORES
    return Hashes(
        clip=attribution.query.content_hash,
        sounds=[file.sound_hash for file in attribution.sources.clips],
        model=attribution.model_hash,
        catalogue=attribution.catalogue_hash,
        draws=attribution.noise_hash,
        calibration=verdict.calibration_hash,
        rights=rights.hash,
        attribution_sha256=sha256_of(path),
        scores_sha256=sha256_of(scores) if scores.exists() else None,
    )


def _notes(verdict: Verdict, attribution: Attribution) -> list[str]:
    lent = (
        f"The effects are lent: they were measured on another model ({verdict.calibration}); before money "
        "is paid, calibrate on your own."
    )
    return [*([lent] if verdict.lent else []), *verdict.reasons, *attribution.cautions]


def _reserved(named: Sequence[TrackScore]) -> list[str]:
    """What is said of named tracks whose recordings say that they may not be trained on."""
    names = [track.title or track.track_id for track in named if track.details.get(COLUMN) == RESERVED]
    if not names:
        return []
    return [
        f"Named, and marked in the recording's own C2PA manifest as not to be trained on ({ASSERTION}): "
        f"{', '.join(names)}."
    ]


def _contributions(attribution: Attribution, catalogue: Catalogue) -> list[Contribution]:
    places = {track.track_id: place for place, track in enumerate(catalogue.tracks)}
    return [
        _contribution(track, *_best_segment(track, catalogue, places[track.track_id]))
        for track in attribution.tracks
    ]


def _contribution(track: TrackScore, start_s: float, end_s: float) -> Contribution:
    effect = track.effect
    return Contribution(
        track_id=track.track_id,
        title=track.title,
        rank=track.rank,
        split=track.split,
        score=track.score,
        score_error=track.error.total if track.error else None,
        expected=effect.expected if effect else None,
        low=effect.low if effect else None,
        high=effect.high if effect else None,
        named=bool(effect and effect.named),
        best_segment={"start_s": start_s, "end_s": end_s},
        spans=[span.model_dump() for span in track.spans],
    )


def _best_segment(track: TrackScore, catalogue: Catalogue, place: int) -> tuple[float, float]:
    """Where the segment with the highest score begins and ends, in seconds of the track."""
    own = np.flatnonzero(catalogue.track_n == place)
    row = own[np.argmin(np.abs(catalogue.start_s_n[own] - track.best_segment_start_s))]
    start = float(catalogue.start_s_n[row])
    return start, start + float(catalogue.seconds_n[row])
