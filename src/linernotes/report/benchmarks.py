"""Methods on several benchmarks as a Markdown page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from linernotes.artefacts import replacing
from linernotes.evaluation.benchmarks import TOGETHER, Across, OnBenchmark, of_losses
from linernotes.evaluation.lds import MethodLds
from linernotes.report.leaderboard import outcomes_table
from linernotes.report.table import Column, Table, interval, name, number
from linernotes.report.truth import METHOD, lds_table

ABOUT = """\
All methods run with their defaults, which were chosen on the tuning clips of the first benchmark; on the
others nothing was chosen, and no figure of theirs was looked at before the scores of all methods stood{but}.
Intervals are 95 %, by bootstrap over clips and models together. What the benchmarks are, and what the figures
mean: [Held against retraining](evaluation.md)."""
BUT = """; but
that a track of several segments has the norm of their scores was decided after `long` had been looked at"""
ABOUT_TRUNCATED = (
    "Only the first tracks of each clip count, by how far they stand above the next. How many is chosen on "
    "the tuning clips of {kept_on}, and the same number is kept everywhere: {numbers}."
)
ABOUT_CONCORD = (
    "Kendall's tau of the methods' LDS on two benchmarks, `random` left out, with its interval over the "
    "clips and models of both, and the probability (exact, one-sided) of one as large if the orders had "
    "nothing to do with each other. Methods that are alike change places by chance, so an interval reaches "
    "far down."
)
ABOUT_GATHERED = (
    "On `{benchmark}` a track has several segments, of which training drew evenly. Its score can be the "
    "root of the sum of squares of those above 0, less what length alone makes of it (norm), their sum, "
    "their mean, or the highest (max). What a method does by default stands in the tables above."
)


def write_across(path: Path, across: Across, command: str) -> None:
    """Writes the page; ``command`` repeats it."""
    with replacing(path) as temporary:
        temporary.write_text(across_page(across, command), encoding="utf-8")


def across_page(across: Across, command: str) -> str:
    """The page, in Markdown."""
    parts = [
        f"# The same methods on {', '.join(each.name for each in across.benchmarks)}",
        f"Written by `{command}`, from retrain banks and the scores kept with them.",
        ABOUT.format(but=BUT if any(each.gathered for each in across.benchmarks) else ""),
        _benchmarks(across).markdown(),
        "## LDS",
        _by_benchmark(across, "lds", lambda m: m.lds).markdown(),
        "As a share of each benchmark's ceiling:",
        _by_benchmark(across, "of_ceiling", lambda m: m.of_ceiling, ".0f", "%").markdown(),
        f"Behind `{across.benchmarks[0].lds.reference}`:",
        _by_benchmark(across, "behind", lambda m: m.behind).markdown(),
    ]
    if across.kept_on:
        kept = {m.method: m.kept for m in across.benchmarks[0].lds.methods}
        numbers = ", ".join(f"`{method}` {count}" for method, count in kept.items())
        parts += [
            "## Truncated",
            ABOUT_TRUNCATED.format(kept_on=f"`{across.kept_on}`", numbers=numbers),
            _by_benchmark(across, "truncated", lambda m: m.truncated).markdown(),
            f"`{across.benchmarks[0].lds.reference}` in its plain form, less each one's truncated form:",
            _by_benchmark(across, "behind_truncated", lambda m: m.behind_truncated).markdown(),
        ]
    if across.concord:
        parts += ["## Do they agree on the order of methods?", ABOUT_CONCORD, _concord(across).markdown()]
    for each in across.benchmarks:
        if each.gathered:
            parts += [
                "## A track's score from its segments'",
                ABOUT_GATHERED.format(benchmark=each.name),
                lds_table(each.gathered).markdown(),
                "Over the same method's sum:",
                _over_sum(each).markdown(),
            ]
    for each in across.benchmarks:
        if each.outcomes:
            parts += [f"## Leave-k-out on `{each.name}`", outcomes_table(each.outcomes).markdown()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def across_table(across: Across) -> Table:
    """The LDS of every method on every benchmark, with what the benchmarks are and how far they agree."""
    table = _by_benchmark(across, "lds", lambda m: m.lds)
    return Table(
        table.name,
        table.columns,
        table.rows,
        above=[_benchmarks(across), *([_concord(across)] if across.concord else [])],
    )


def _benchmarks(across: Across) -> Table:
    columns = [
        name("benchmark", "benchmark"),
        number("tracks", "tracks"),
        number("models", "halves"),
        number("twice", "more than once"),
        number("queries", "clips"),
        interval("seed_correlation", "two seeds correlate at"),
        interval("ceiling", "ceiling"),
    ]
    rows = [
        {**vars(b.lds), "benchmark": b.name, "tracks": b.tracks, "twice": b.twice} for b in across.benchmarks
    ]
    return Table("benchmarks", columns, rows)


def _by_benchmark(
    across: Across,
    field: str,
    value: Callable[[MethodLds], object],
    form: str = ".2f",
    unit: str = "",
) -> Table:
    """One row a method, best first on the first benchmark; one column a benchmark."""
    columns: list[Column] = [
        METHOD,
        *(interval(f"{field}_{b.name}", b.name, form, unit) for b in across.benchmarks),
    ]
    of = {b.name: {m.method: value(m) for m in b.lds.methods} for b in across.benchmarks}
    rows = [
        {"method": m.method, **{f"{field}_{each}": found[m.method] for each, found in of.items()}}
        for m in across.benchmarks[0].lds.methods
    ]
    return Table(field, columns, rows)


def _concord(across: Across) -> Table:
    columns = [
        name("one", "benchmark"),
        name("other", "and"),
        number("methods", "methods"),
        interval("tau", "tau"),
        number("probability", "by chance", ".3f"),
        number("tau_truncated", "tau, truncated", ".2f"),
        number("probability_truncated", "by chance", ".3f"),
    ]
    return Table("concord", columns, [vars(each) for each in across.concord])


def _over_sum(measured: OnBenchmark) -> Table:
    rows: dict[str, dict[str, object]] = {}
    for way, over in measured.over_sum.items():
        method, _, gathered = way.partition(", ")
        if method == TOGETHER:
            continue
        rows.setdefault(method, {"method": method})[gathered] = over
    columns = [METHOD, interval("norm", "norm"), interval("mean", "mean"), interval("max", "highest")]
    notes = []
    if those := ", ".join(f"`{method}`" for method in rows if of_losses(method)):
        norm, mean, highest = (measured.over_sum[f"{TOGETHER}, {way}"] for way in ("norm", "mean", "max"))
        notes = [
            f"On average over {those}, which compare losses or gradients: {norm} the norm, {mean} the mean, "
            f"{highest} the highest."
        ]
    return Table("over_sum", columns, list(rows.values()), notes=notes)
