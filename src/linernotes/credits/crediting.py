"""Attribution + rights -> credits: named tracks to recordings and works, these to parties, in parts that sum
to exactly 1 with what nobody can be named for.

The whole is what all training tracks are expected to have done to the clip. Copies of one recording, and in
the composition right versions of one work, count once: the strongest stands for all, and the others are left
out of the whole too, so that a copy takes nothing from anyone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from linernotes.attribution.result import Attribution, Effect, TrackScore, Verdict
from linernotes.credits.entries import GROUPS, RIGHTS, Holding, Right
from linernotes.credits.parties import UNKNOWN
from linernotes.credits.record import KINDS, Kind, Line, PartyTotal, RightTotal
from linernotes.credits.rights import Rights
from linernotes.credits.shares import PARTS, Portion, Rule, apportion, bounds, portion, weigh
from linernotes.errors import LinernotesError

NOBODY = (Holding(UNKNOWN, "", Fraction(1)),)
NOT_TOLD_APART, UNKNOWN_PARTIES, BELOW = KINDS["not told apart"], KINDS["unknown"], KINDS["withheld"]
BASE_MODEL = KINDS["base model"]


@dataclass(frozen=True)
class Shared:
    """All shares of one clip, and what a reader must know of them."""

    lines: list[Line]
    rights: list[RightTotal]
    parties: list[PartyTotal]
    notes: list[str]


@dataclass(frozen=True)
class _Owned:
    """One recording or work with the named tracks that are it, the one with the strongest effect first."""

    owner: str
    tracks: list[TrackScore]

    @property
    def effect(self) -> Effect:
        return _effect(self.tracks[0])


def calibrated(path: Path, attribution: Attribution) -> tuple[Verdict, list[TrackScore]]:
    """The verdict of an attribution and the tracks that it names.

    Raises:
        LinernotesError: it has none, or they contradict each other.
    """
    verdict = attribution.verdict
    if verdict is None:
        raise LinernotesError(
            f"{path} is not calibrated, so its scores are in no unit that could be shared: attribute the "
            "clip with a method that has a calibration, or measure one with 'linernotes calibrate'"
        )
    named = [track for track in attribution.tracks if track.effect and track.effect.named]
    edited = "it was edited, or cut short: attribute the clip anew"
    cut = sum(track.split == "train" for track in attribution.tracks) < attribution.training_tracks
    if len(named) > verdict.named or (len(named) < verdict.named and not cut):
        raise LinernotesError(
            f"{path} names {len(named)} tracks and its verdict says {verdict.named}: {edited}"
        )
    if not math.isfinite(verdict.total):
        raise LinernotesError(f"{path} has the total effect {verdict.total}: {edited}")
    for track in named:
        effect = _effect(track)
        if track.split != "train":
            raise LinernotesError(
                f"{path} names the decoy {track.track_id!r}, which was not trained on: {edited}"
            )
        sound = all(map(math.isfinite, (effect.low, effect.expected, effect.high)))
        if not (sound and effect.low <= effect.expected <= effect.high and effect.expected > 0):
            raise LinernotesError(
                f"{path} gives {track.track_id!r} the effect {effect.expected} [{effect.low}, "
                f"{effect.high}]: {edited}"
            )
    if len({track.track_id for track in named}) < len(named):
        raise LinernotesError(f"{path} names a track twice: {edited}")
    return verdict, named


def share_out(
    attribution: Attribution,
    verdict: Verdict,
    named: Sequence[TrackScore],
    rights: Rights,
    rule: Rule = "proportion",
    smallest: Fraction = Fraction(0),
) -> Shared:
    """Shares of every party in both rights, with intervals. The order of tracks and rows does not matter.

    Args:
        smallest: a party with less in one right, all its lines together, is not paid in it.
    """
    lines: list[Line] = []
    totals, notes = [], []
    base = base_parts(attribution)
    if attribution.adapter and base is None:
        notes.append(
            f"How much of the clip is owed to the base model {attribution.adapter.base} could not be "
            "measured: shares are of the adapter's part alone."
        )
    if len(named) < verdict.named:
        notes.append(
            f"The verdict names {verdict.named} tracks and the record lists {len(named)} of them, the first "
            "ones: the others are in the remainder."
        )
    if verdict.total_error and verdict.total > 0:
        notes.append(
            "Shares are of all tracks' effects together, and most tracks were met by an audit alone: what "
            f"they come to is known to within {verdict.total_error / verdict.total:.0%}. Attributed with a "
            "larger --audit it is known more closely."
        )
    for right in RIGHTS:
        owner_of = rights.works.recording if right == "recording" else rights.works.work
        owned = _owned(named, owner_of)
        whole = _whole(attribution, verdict, owned, owner_of)
        if owned and whole > verdict.total:
            notes.append(
                f"In the {right} right the named tracks' effects come to more than all training tracks' "
                f"together ({whole:.3g} and {verdict.total:.3g}); shares are of the former."
            )
        of_right, rest = _lines(right, owned, whole, rights, rule, PARTS - (base or 0))
        of_right = _withhold(of_right, smallest)
        totals.append(_total(right, whole, of_right, rest, base))
        lines += of_right
    order = {right: place for place, right in enumerate(RIGHTS)}
    lines.sort(key=lambda x: (order[x.right], -x.parts, x.recording, x.party, x.role))
    return Shared(lines, totals, party_totals(lines), notes)


def base_parts(attribution: Attribution) -> int | None:
    """The parts that are the base model's, of a clip of an adapter; None where there is none, or its part is
    not known.
    """
    share = attribution.adapter.share if attribution.adapter else None
    return None if share is None else PARTS - round(share * PARTS)


def _owned(named: Sequence[TrackScore], owner_of: Any) -> list[_Owned]:
    by_owner: dict[str, list[TrackScore]] = defaultdict(list)
    for track in named:
        by_owner[owner_of[track.track_id]].append(track)
    for members in by_owner.values():
        members.sort(key=lambda t: (-_effect(t).expected, t.track_id))
    return [_Owned(owner, by_owner[owner]) for owner in sorted(by_owner)]


def _whole(attribution: Attribution, verdict: Verdict, owned: Sequence[_Owned], owner_of: Any) -> float:
    """What shares are of: all tracks' effects less those of tracks for which another one stands."""
    standing = {each.owner: each.tracks[0].track_id for each in owned}
    left_out = [
        max(0.0, track.effect.expected)
        for track in attribution.tracks
        if track.effect and track.split == "train"
        if standing.get(owner_of[track.track_id], track.track_id) != track.track_id
    ]
    return max(
        math.fsum([verdict.total, *(-effect for effect in left_out)]),
        math.fsum(each.effect.expected for each in owned),
    )


def _lines(
    right: Right, owned: Sequence[_Owned], whole: float, rights: Rights, rule: Rule, parts_of_all: int
) -> tuple[list[Line], int]:
    """The lines of one right, and the parts that no named track accounts for, of those that training tracks
    share.
    """
    if not owned:
        return [], parts_of_all
    own = Fraction(parts_of_all, PARTS)
    effects = [each.effect for each in owned]
    weights = weigh([effect.expected for effect in effects], whole, rule)
    limits = bounds([e.low for e in effects], [e.high for e in effects], whole, rule)
    *parts, rest = apportion([*weights, 1 - sum(weights, Fraction(0))], parts_of_all)
    lines = []
    for each, of_each, (low, high) in zip(owned, parts, limits, strict=True):
        held = rights.holdings[right].get(each.owner, NOBODY)
        for holding, count in zip(held, apportion([h.split for h in held], of_each), strict=True):
            share = portion(count, low * own * holding.split, high * own * holding.split)
            lines.append(_line(right, each, holding, share, rights))
    return lines, rest


def _line(right: Right, each: _Owned, holding: Holding, share: Portion, rights: Rights) -> Line:
    strongest, works = each.tracks[0], rights.works
    recording, work = works.recording[strongest.track_id], works.work[strongest.track_id]
    kind: Kind = "paid" if holding.party != UNKNOWN else "unknown"
    return Line(
        kind=kind,
        right=right,
        recording=strongest.track_id,
        title=strongest.title,
        artist=strongest.artist,
        isrc=works.isrc.get(recording, ""),
        work=works.work_name.get(work, ""),
        iswc=works.iswc.get(work, ""),
        tracks=sorted(track.track_id for track in each.tracks),
        party=holding.party,
        role=holding.role,
        ipi=holding.ipi,
        isni=holding.isni,
        groups=dict(holding.groups),
        split=f"{holding.split}",
        **_shown(share),
    )


def _withhold(lines: Sequence[Line], smallest: Fraction) -> list[Line]:
    """Lines of one right, those of parties below the smallest share marked as not paid."""
    sums: dict[str, int] = defaultdict(int)
    for line in lines:
        sums[line.party] += line.parts
    return [
        line.model_copy(update={"kind": "withheld"})
        if line.kind == "paid" and Fraction(sums[line.party], PARTS) < smallest
        else line
        for line in lines
    ]


def _total(right: Right, whole: float, lines: Sequence[Line], rest: int, base: int | None) -> RightTotal:
    sums = {kind: sum(line.parts for line in lines if line.kind == kind) for kind in KINDS}
    remainder = {NOT_TOLD_APART: rest, UNKNOWN_PARTIES: sums["unknown"], BELOW: sums["withheld"]}
    remainder |= {} if base is None else {BASE_MODEL: base}
    unpaid = sum(remainder.values())
    return RightTotal(
        right=right,
        whole=whole,
        paid=sums["paid"],
        remainder=remainder,
        total=sums["paid"] + unpaid,
        remainder_share=unpaid / PARTS,
    )


def party_totals(lines: Sequence[Line]) -> list[PartyTotal]:
    """What each party and each group is paid in each right, the largest first; bounds are sums of bounds, as
    if all of a party's tracks erred together.
    """
    sums: dict[tuple[Right, str, str], list[Line]] = defaultdict(list)
    for line in lines:
        if line.kind == "paid":
            sums[line.right, "party", line.party].append(line)
            for group in GROUPS:
                if name := line.groups.get(group):
                    sums[line.right, group, name].append(line)
    found = []
    for (right, of, name), members in sums.items():
        share = Portion(
            sum(line.parts for line in members),
            sum(round(line.low * PARTS) for line in members),
            min(PARTS, sum(round(line.high * PARTS) for line in members)),
        )
        found.append(PartyTotal(right=right, of=of, name=name, **_shown(share)))
    places = {"party": 0, **{group: place for place, group in enumerate(GROUPS, start=1)}}
    return sorted(found, key=lambda t: (places[t.of], RIGHTS.index(t.right), -t.parts, t.name))


def _shown(share: Portion) -> dict[str, Any]:
    return {
        "parts": share.parts,
        "share": share.parts / PARTS,
        "low": share.low / PARTS,
        "high": share.high / PARTS,
    }


def _effect(track: TrackScore) -> Effect:
    if track.effect is None:
        raise LinernotesError(f"track {track.track_id!r} has no effect: attribute the clip anew")
    return track.effect
