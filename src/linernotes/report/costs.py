"""Which methods there are and what they cost, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from linernotes.report.table import Table, name, number, text
from linernotes.settings.describing import MethodInfo

if TYPE_CHECKING:
    from linernotes.evaluation.cost.bench import MethodCost
    from linernotes.evaluation.cost.index_plan import IndexPlan
    from linernotes.evaluation.cost.planning import Plan


def methods_table(found: Sequence[MethodInfo]) -> Table:
    """One row a method."""
    columns = [
        name("name", "method"),
        text("family", "family"),
        text("summary", "what it does"),
        text("cost", "cost: once; per query"),
        text("paper", "source"),
    ]
    note = "N segments, K draws (--draws). The settings of each: linernotes methods --json"
    return Table("methods", columns, [vars(m) for m in found], notes=[note])


def plans_table(plans: Sequence[Plan]) -> Table:
    """One row a method: time, forward-equivalents, memory and disk of so many queries."""
    queries = "1 query" if plans[0].queries == 1 else f"{plans[0].queries} queries"
    columns = [
        name("method", "method"),
        number("segments", "segments scored", ",d"),
        number("once_s", "once per model", ".0f", "s"),
        number("queries_s", queries, ".0f", "s"),
        number("once_forwards", "forwards: once", ",.0f"),
        number("query_forwards", f"forwards: {queries}", ",.0f"),
        number("memory_gib", "memory", ".1f", "GiB"),
        number("disk_mib", "disk", ".0f", "MiB"),
    ]
    workers = "1 worker" if plans[0].workers == 1 else f"{plans[0].workers} workers"
    note = (
        f"With {workers}. Start-up is not counted. Forwards: what the time would pay for in forward passes "
        "of one segment."
    )
    rows = [{**vars(p), "memory_gib": p.memory_mib / 1024} for p in plans]
    return Table("plan", columns, rows, notes=[note])


def index_plan_table(plan: IndexPlan) -> Table:
    """One row: what the building of an index takes."""
    columns = [
        number("segments", "segments", ",d"),
        number("workers", "workers", "d"),
        number("once_s", "once", ",.0f", "s"),
        number("pass_s", "the pass", ",.0f", "s"),
        number("memory_gib", "memory", ".1f", "GiB"),
        number("disk_gib", "disk meanwhile", ".1f", "GiB"),
        number("index_gib", "of it kept", ".2f", "GiB"),
    ]
    gib = {name: getattr(plan, f"{name}_mib") / 1024 for name in ("memory", "disk", "index")}
    row = {**vars(plan), **{f"{name}_gib": value for name, value in gib.items()}}
    note = (
        "Once: the curvature, unless it is there, and the clips that recall is measured on. Start-up is not "
        "counted; workers in processes of their own take memory besides."
    )
    return Table("index-plan", columns, [row], notes=[note])


def costs_table(costs: Sequence[MethodCost]) -> Table:
    """One row a method: what was measured, and what the plan had said."""
    pairs = {
        "once per model, s": ("once_s", "planned_once_s"),
        "a query, s": ("query_s", "planned_query_s"),
        "peak, MiB": ("peak_mib", "planned_mib"),
        "disk, MiB": ("disk_mib", "planned_disk_mib"),
    }
    rows = [
        {
            "method": c.method,
            **{
                field: f"{getattr(c, field):.0f} / {getattr(c, planned):.0f}"
                for field, planned in pairs.values()
            },
        }
        for c in costs
    ]
    columns = [name("method", "method"), *(text(field, heading) for heading, (field, _) in pairs.items())]
    return Table("costs", columns, rows, notes=["Each measured / as 'linernotes plan' said just before."])


def figures_table(figures: Mapping[str, float]) -> Table:
    """One row a figure."""
    rows = [{"what": what.replace("_", " "), "measured": value} for what, value in figures.items()]
    return Table("figures", [text("what", "what"), number("measured", "measured", ".3g")], rows)
