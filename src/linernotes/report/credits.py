"""Credits, statements, rights and audits as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from linernotes.credits.checks import Check
from linernotes.credits.record import Credits
from linernotes.credits.rights import Rights
from linernotes.credits.shares import PARTS
from linernotes.credits.statement_record import Statement, StatementTotal
from linernotes.evaluation.intervals import Interval
from linernotes.report.table import Table, interval, number, text


def credits_table(credits: Credits) -> Table:
    """Parties with their shares in each right, then what nobody gets; each right sums to 100 %."""
    rows: list[dict[str, Any]] = []
    for right in credits.rights:
        rows += [
            {"right": right.right, "party": p.name, "share": Interval(p.share, p.low, p.high)}
            for p in credits.parties
            if (p.of, p.right) == ("party", right.right)
        ]
        rows += [
            {"right": right.right, "party": f"({why})", "rest": parts / PARTS}
            for why, parts in right.remainder.items()
            if parts
        ]
    columns = [
        text("right", "right"),
        text("party", "party"),
        interval("share", "share, with its 90 % interval", ".2f", "%"),
        number("rest", "nobody's", ".2f", "%"),
    ]
    return Table("credits", columns, rows, notes=credits.notes)


def statement_table(statement: Statement, first: int) -> Table:
    """Parties with what they get over all clips, then what nobody gets, in clips."""
    rows: list[dict[str, Any]] = [
        {"right": p.right, "party": p.party, "clips": p.clips} for p in statement.parties[:first]
    ]
    several = len({total.model_hash for total in statement.totals}) > 1

    def of_model(total: StatementTotal) -> str:
        return f", model {total.model_hash}" if several else ""

    for total in statement.totals:
        rows += [
            {"right": total.right, "party": f"({why}{of_model(total)})", "clips": parts / PARTS}
            for why, parts in total.remainder.items()
            if parts
        ]
    columns = [text("right", "right"), text("party", "party"), number("clips", "clips' worth", ".6f")]
    more = len(statement.parties) - first
    of_named = (
        f"{statement.named} tracks are named over all clips; {statement.expected_false:.1f} of them are "
        "expected to be wrong."
    )
    notes = [f"... and {more} more parties (statement.csv has all lines)"] if more > 0 else []
    return Table("statement", columns, rows, notes=[*notes, of_named, *statement.notes])


def rights_table(rights: Rights) -> Table:
    """How much of a catalogue a table of rights covers."""
    rows = [
        {
            "right": right,
            "covered": len(held),
            "parties": len({h.party for each in held.values() for h in each if h.party}),
            "unknown": sum(any(not h.party for h in each) for each in held.values()),
        }
        for right, held in rights.holdings.items()
    ]
    columns = [
        text("right", "right"),
        number("covered", "recordings or works with rows"),
        number("parties", "parties"),
        number("unknown", "with unknown parties"),
    ]
    return Table("rights", columns, rows, notes=rights.notes)


def audit_table(checks: Sequence[Check]) -> Table:
    """Every check and what came of it."""
    columns = [text("what", "check"), text("outcome", "outcome"), text("detail", "where, or why")]
    return Table("audit", columns, [vars(check) for check in checks])
