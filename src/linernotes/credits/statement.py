"""Credits of many clips -> one statement for a period: who gets how much of which recording and work, what
nobody gets, and from which clips each line comes.

Amounts are in clips: a line of 0.25 is a quarter of one clip's worth, whatever a clip is worth. Credits made
by different rules or methods are not added up, since their shares do not mean the same; those of different
models are, and each model has its own lines and totals.
"""

from __future__ import annotations

import math
import re
import uuid
from calendar import monthrange
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from linernotes.credits.entries import RIGHTS, Right
from linernotes.credits.record import KINDS, Credits, Estimator, Line, LineKind, left_over
from linernotes.credits.shares import PARTS
from linernotes.credits.statement_record import (
    ClipEntry,
    FromClip,
    PartyAmount,
    Statement,
    StatementLine,
    StatementTotal,
)
from linernotes.errors import LinernotesError, UsageError
from linernotes.records.seal import canonical

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://linernotes.invalid/statement")
MOST_NOTES = 20  # that a statement repeats from its clips' credits
PERIOD = re.compile(r"(\d{4})(?:-(?:(0[1-9]|1[0-2])|Q([1-4])))?")


@dataclass(frozen=True)
class Source:
    """Credits with the file they were read from, as the statement names it."""

    file: str
    sha256: str
    credits: Credits
    place: str = ""  # as whoever asks calls it

    @property
    def called(self) -> str:
        """What a sentence names."""
        return self.place or self.file


def build_statement(
    sources: Sequence[Source], period: str, reporter: str | None, computed_at: str
) -> Statement:
    """One statement over the clips of ``sources``. The order of the sources does not matter.

    Raises:
        UsageError: the period is none.
        LinernotesError: credits of different rules or methods, or two different ones of one clip.
    """
    start, end = period_days(period)
    counted, notes = _each_clip_once(sources)
    _require_alike(counted)
    first = counted[0].credits
    notes += _noted(counted)
    if reporter is None and len({source.credits.reporter for source in counted}) == 1:
        reporter = first.reporter
    lines = _lines(counted, period, reporter)
    content: dict[str, Any] = {
        "period": period,
        "period_start": start.isoformat(),
        "period_end": end.isoformat(),
        "reporter": reporter,
        "rule": first.rule,
        "smallest_share": first.smallest_share,
        "estimator": _estimator(first.estimator),
        "named": sum(source.credits.validation.named for source in counted),
        "expected_false": math.fsum(source.credits.validation.expected_false for source in counted),
        "notes": notes,
        "clips": [_clip(source) for source in counted],
        "totals": statement_totals(lines, [source.credits.hashes.model for source in counted]),
        "parties": party_amounts(lines),
        "lines": lines,
    }
    draft = Statement(statement_id="", computed_at="", **content)
    identity = uuid.uuid5(NAMESPACE, canonical(draft.model_dump(mode="json")).decode())
    return draft.model_copy(update={"statement_id": str(identity), "computed_at": computed_at})


def period_days(period: str) -> tuple[date, date]:
    """First and last day of a month (``2026-11``), a quarter (``2026-Q4``) or a year (``2026``).

    Raises:
        UsageError: it is none of these.
    """
    found = PERIOD.fullmatch(period)
    if not found or int(found[1]) == 0:
        raise UsageError(f"{period!r} is no period: write 2026-11, 2026-Q4 or 2026")
    year = int(found[1])
    if found[2]:
        first = last = int(found[2])
    elif found[3]:
        first, last = 3 * int(found[3]) - 2, 3 * int(found[3])
    else:
        first, last = 1, 12
    return date(year, first, 1), date(year, last, monthrange(year, last)[1])


def line_id(line: StatementLine, period: str, reporter: str | None) -> str:
    """The globally unique identifier of a line (UUID version 5): the same for the same content, in any
    run.
    """
    content = {**line.model_dump(mode="json", exclude={"line_id"}), "period": period, "reporter": reporter}
    return str(uuid.uuid5(NAMESPACE, canonical(content).decode()))


def _each_clip_once(sources: Sequence[Source]) -> tuple[list[Source], list[str]]:
    """The credits that count, by clip, and a sentence for each that does not."""
    replaced = {source.credits.supersedes for source in sources} - {None}
    counted: dict[str, Source] = {}
    notes = []
    for source in sorted(sources, key=lambda s: (s.sha256, s.file)):
        if source.sha256 in counted:
            notes.append(f"{source.file} holds the same credits as another file: counted once.")
        elif source.sha256 in replaced:
            notes.append(f"{source.file} is superseded by newer credits of its clip: not counted.")
        else:
            counted[source.sha256] = source
    by_clip: dict[str, Source] = {}
    for other in sorted(counted.values(), key=lambda s: s.file):
        for clip in other.credits.hashes.of_clip:
            one = by_clip.setdefault(clip, other)
            if one is not other:
                raise LinernotesError(
                    f"the clip {one.credits.query.get('name')!r} stands twice, in {one.called} and "
                    f"{other.called}, and a clip counts once: leave one out, or credit it with --supersedes "
                    "and the other"
                )
    if not counted:
        raise LinernotesError("no credits are left to count: give the newest of each clip")
    return sorted(counted.values(), key=lambda s: (s.credits.hashes.clip, s.sha256)), sorted(notes)


def _estimator(estimator: Estimator) -> dict[str, Any]:
    """What the shares of all clips rest on alike."""
    said = estimator.model_dump(include={"method", "settings", "gather", "orientation"})
    return {name: value for name, value in said.items() if name != "gather" or value}


def _require_alike(sources: Sequence[Source]) -> None:
    """Refuses to add up shares that do not mean the same."""
    first = sources[0]
    for source in sources[1:]:
        for what, one, other in (
            ("rule", first.credits.rule, source.credits.rule),
            ("smallest share", first.credits.smallest_share, source.credits.smallest_share),
            ("method", first.credits.estimator.method, source.credits.estimator.method),
            ("settings", first.credits.estimator.settings, source.credits.estimator.settings),
        ):
            if one != other:
                raise LinernotesError(
                    f"{first.called} and {source.called} have another {what} ({_apart(one, other)}), so "
                    "their shares do not add up: credit all clips alike, or make two statements"
                )
    by_catalogue: dict[str, Source] = {}
    for source in sources:
        alike = by_catalogue.setdefault(source.credits.hashes.catalogue, source)
        if source.credits.estimator.gather != alike.credits.estimator.gather:
            older, newer = sorted((alike, source), key=lambda each: bool(each.credits.estimator.gather))
            raise LinernotesError(
                f"{older.called} is from before the scores of a track's segments were gathered as those of "
                f"{newer.called} are, so their shares do not add up: attribute and credit that clip anew, or "
                "make two statements"
            )


def _apart(one: Any, other: Any) -> str:
    """What differs."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return f"{one} and {other}"
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return ", ".join(f"{name}: {one.get(name)} and {other.get(name)}" for name in names)


def _noted(sources: Sequence[Source]) -> list[str]:
    """What the credits of clips note, each sentence once with how many clips it is said of."""
    counts = Counter(note for source in sources for note in dict.fromkeys(source.credits.notes))
    said = [f"{count} of {len(sources)} clips: {note}" for note, count in sorted(counts.items())]
    more = [f"{len(said) - MOST_NOTES} further notes stand in the clips' credits."]
    return said if len(said) <= MOST_NOTES else said[:MOST_NOTES] + more


def _clip(source: Source) -> ClipEntry:
    credits, hashes = source.credits, source.credits.hashes
    return ClipEntry(
        clip=hashes.clip,
        name=str(credits.query.get("name", "")),
        file=str(credits.query.get("file", "")),
        credits_file=source.file,
        credits_sha256=source.sha256,
        attribution_sha256=hashes.attribution_sha256,
        model_hash=hashes.model,
        catalogue_hash=hashes.catalogue,
        rights_hash=hashes.rights,
        calibration_hash=hashes.calibration,
        named=credits.validation.named,
        expected_false=credits.validation.expected_false,
    )


def _lines(sources: Sequence[Source], period: str, reporter: str | None) -> list[StatementLine]:
    gathered: dict[tuple[str, ...], list[tuple[Source, Line]]] = defaultdict(list)
    rest: dict[tuple[str, str, Right, LineKind], list[tuple[Source, int]]] = defaultdict(list)
    for source in sources:
        hashes = source.credits.hashes
        for line in source.credits.lines:
            gathered[hashes.model, hashes.catalogue, *_about(line)].append((source, line))
        for right in source.credits.rights:
            for kind, parts in left_over(right):
                rest[hashes.model, hashes.catalogue, right.right, kind].append((source, parts))
    lines = [_gathered(members) for members in gathered.values()]
    lines += [_left_over(right, kind, members) for (_, _, right, kind), members in rest.items()]
    lines = [line.model_copy(update={"line_id": line_id(line, period, reporter)}) for line in lines]
    order = [*KINDS]
    return sorted(
        lines,
        key=lambda x: (
            RIGHTS.index(x.right),
            x.model_hash,
            order.index(x.kind),
            -x.parts,
            x.recording,
            x.party,
            x.line_id,
        ),
    )


def _about(line: Line) -> tuple[str, ...]:
    """What lines of several clips must share to be one: a composition is its work, whichever recording speaks
    for it.
    """
    known_work = line.right == "composition" and (line.work or line.iswc)
    subject = (line.work, line.iswc) if known_work else (line.recording, line.isrc)
    return (line.right, line.kind, *subject, line.party, line.role, line.ipi, line.isni)


def _gathered(members: Sequence[tuple[Source, Line]]) -> StatementLine:
    line = min(members, key=lambda m: (m[1].recording, m[0].sha256))[1]
    return StatementLine(
        kind=line.kind,
        recording=line.recording,
        title=line.title,
        artist=line.artist,
        isrc=line.isrc,
        work=line.work,
        iswc=line.iswc,
        party=line.party,
        role=line.role,
        ipi=line.ipi,
        isni=line.isni,
        low=sum(round(each.low * PARTS) for _, each in members) / PARTS,
        high=sum(round(each.high * PARTS) for _, each in members) / PARTS,
        **_amount(line.right, [(each, of_clip.parts) for each, of_clip in members]),
    )


def _left_over(right: Right, kind: LineKind, members: Sequence[tuple[Source, int]]) -> StatementLine:
    names = ("recording", "title", "artist", "isrc", "work", "iswc", "party", "role", "ipi", "isni")
    amount = _amount(right, members)
    empty: dict[str, Any] = dict.fromkeys(names, "")
    return StatementLine(kind=kind, low=amount["clips"], high=amount["clips"], **empty, **amount)


def _amount(right: Right, members: Sequence[tuple[Source, int]]) -> dict[str, Any]:
    parts = sum(count for _, count in members)
    hashes = members[0][0].credits.hashes
    return {
        "line_id": "",
        "right": right,
        "model_hash": hashes.model,
        "catalogue_hash": hashes.catalogue,
        "parts": parts,
        "clips": parts / PARTS,
        "usages": len({source.credits.hashes.clip for source, _ in members}),
        "sources": [
            FromClip(clip=source.credits.hashes.clip, credits_sha256=source.sha256, parts=count)
            for source, count in sorted(members, key=lambda m: (m[0].credits.hashes.clip, m[1]))
        ],
    }


def statement_totals(lines: Sequence[StatementLine], models: Sequence[str]) -> list[StatementTotal]:
    """What the lines come to, for each right and model; ``models`` are the clips' models, by hash."""
    totals = []
    for right in RIGHTS:
        for model in sorted(set(models)):
            sums = {
                kind: sum(x.parts for x in lines if (x.right, x.model_hash, x.kind) == (right, model, kind))
                for kind in KINDS
            }
            shown = [kind for kind in KINDS if kind != "paid" and (kind != "base model" or sums[kind])]
            remainder = {KINDS[kind]: sums[kind] for kind in shown}
            totals.append(
                StatementTotal(
                    right=right,
                    model_hash=model,
                    clips=models.count(model),
                    paid=sums["paid"],
                    remainder=remainder,
                    total=sum(sums.values()),
                )
            )
    return totals


def party_amounts(lines: Sequence[StatementLine]) -> list[PartyAmount]:
    """What each party is paid in each right, the most first."""
    sums: dict[tuple[Right, str], list[StatementLine]] = defaultdict(list)
    for line in lines:
        if line.kind == "paid":
            sums[line.right, line.party].append(line)
    found = [
        PartyAmount(
            right=right,
            party=party,
            ipi=max(line.ipi for line in members),
            isni=max(line.isni for line in members),
            parts=sum(line.parts for line in members),
            clips=sum(line.parts for line in members) / PARTS,
        )
        for (right, party), members in sums.items()
    ]
    return sorted(found, key=lambda p: (RIGHTS.index(p.right), -p.parts, p.party))
