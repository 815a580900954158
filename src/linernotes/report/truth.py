"""What evaluations found, as tables and pictures: intervals beside the ceiling, one line a method; a matrix of what is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from linernotes.artefacts import replacing, write_parquet
from linernotes.evaluation.counterfactual import Outcome
from linernotes.evaluation.groups import GroupScore
from linernotes.evaluation.hubs import HubShare, Repeatability
from linernotes.evaluation.intervals import Interval, bootstrap_mean
from linernotes.evaluation.lds import LdsTable
from linernotes.evaluation.planted import PlantedTable
from linernotes.evaluation.self_influence import SelfRank
from linernotes.report.pictures import ACCENT, DECOY, FAINT, INK, drawn
from linernotes.settings.methods import METHOD_SETTINGS

COLOURS = {"unlearning": ACCENT, "gradient": DECOY, "similarity": "#7a8450", "chance": FAINT}
LINE_INCHES = 0.26


@dataclass(frozen=True)
class Told:
    """An evaluation as JSON and Parquet have it, one row a method (and case), and its picture."""

    name: str
    about: dict[str, Any]
    methods: list[dict[str, Any]]
    svg: str

    def json(self) -> dict[str, Any]:
        return {**self.about, "methods": self.methods}

    def save(self, folder: Path) -> None:
        """Writes ``NAME.parquet`` and ``NAME.svg``."""
        about = {key: str(value) for key, value in self.about.items()}
        write_parquet(folder / f"{self.name}.parquet", self.methods, about)
        with replacing(folder / f"{self.name}.svg") as temporary:
            temporary.write_text(self.svg, encoding="utf-8")


def tell_lds(table: LdsTable) -> Told:
    """``{"ceiling": x, "methods": [{"method", "lds", "low", "high", ...}]}``, best first."""
    about = {
        "output": table.output, "split": table.split, "queries": table.queries, "models": table.models,
        "reference": table.reference, "within": table.within,
        **_named("ceiling", table.ceiling, "ceiling_"),
        **_named("seed_correlation", table.seed_correlation, "seed_correlation_"),
    }  # fmt: skip
    methods = [
        {
            "method": m.method, **_named("lds", m.lds), **_named("of_ceiling", m.of_ceiling, "of_ceiling_"),
            **_named("truncated", m.truncated, "truncated_"), "kept": m.kept,
            **_named("behind", m.behind, "behind_"),
            **_named("behind_truncated", m.behind_truncated, "behind_truncated_"),
            **{f"lds_{k}": v for k, v in m.by_kind.items()},
        }
        for m in table.methods
    ]  # fmt: skip
    asked = f"{table.output}, within each {table.within}" if table.within else table.output
    label = f"LDS ({asked}); hollow: only the first tracks of each clip count"
    svg = intervals_svg([(m.method, m.lds, m.truncated) for m in table.methods], label, table.ceiling, "noise ceiling")
    name = "lds" if table.output == "loss" else "lds-prediction"
    name += f"-within-{table.within}" if table.within else ""
    return Told(name, about, methods, svg)


def tell_counterfactual(outcomes: Sequence[Outcome]) -> Told:
    """One row for each method, share and form."""
    methods = [
        {
            "method": o.method, "percent": o.percent, "pooled": o.pooled, "retrains": o.retrains, "clips": o.clips,
            "tracks": o.tracks, **_named("specific", o.specific), **_named("rise", o.rise, "rise_"),
            **_named("control", o.control, "control_"), **_named("relative", o.relative, "relative_"),
            **_named("over_likeness", o.over_likeness, "over_likeness_"),
            **{k: v for name, i in o.distances.items() for k, v in _named(name, i, f"{name} ").items()},
        }
        for o in outcomes
    ]  # fmt: skip
    lines = [(f"{o.method}, {o.percent:g} %{', pooled' if o.pooled else ''}", o.specific, None) for o in outcomes]
    return Told(
        "counterfactual", {}, methods, intervals_svg(lines, "rise of the clip's loss, over random tracks and other clips")
    )


def tell_planted(table: PlantedTable) -> Told:
    """One row a method; what was learned from, by relation, stands above."""
    learned = [{"relation": r.relation, "pairs": r.pairs, **_named("learned", r.learned)} for r in table.relations]
    methods = [
        {
            "method": m, **_named("recall", recall), **{f"recall_{r.relation}": r.recall[m] for r in table.relations},
            "tie": table.tie[m], **_named("decoys", table.decoys[m], "decoys_"),
        }
        for m, recall in table.recall.items()
    ]  # fmt: skip
    share = {relation.relation: relation.recall for relation in table.relations}
    about = {"first": table.first, "decoys_by_chance": table.decoys_by_chance, "relations": learned}
    return Told("planted", about, methods, seen_svg(list(share), list(table.recall), share, f"recall@{table.first}"))


def tell_groups(by: str, measured: Sequence[GroupScore], rises: Mapping[str, float]) -> Told:
    """One row a method, best first."""
    methods = [
        {
            "method": m.method, **_named("top1", m.top1, "top1_"), **_named("ndcg", m.ndcg),
            **_named("truncated", m.truncated, "truncated_"), "queries": m.queries,
        }
        for m in measured
    ]  # fmt: skip
    svg = intervals_svg([(m.method, m.ndcg, None) for m in measured], "NDCG@3 of groups")
    return Told(f"groups-{by}", {"by": by, "rises": dict(rises)}, methods, svg)


def tell_hubs(found: Sequence[HubShare]) -> Told:
    """One row a method."""
    methods = [
        {"method": h.method, **_named("share", h.share), "most_common": h.most_common, "times": h.times, "queries": h.queries}
        for h in found
    ]
    svg = intervals_svg([(h.method, h.share, None) for h in found], "share of the first ten that two clips have in common")
    return Told("hubs", {}, methods, svg)


def tell_repeatability(seeds: int, found: Sequence[Repeatability]) -> Told:
    """One row a method."""
    methods = [
        {"method": r.method, **_named("pearson", r.pearson), **_named("first_shared", r.first_shared, "first_shared_")}
        for r in found
    ]
    svg = intervals_svg([(r.method, r.pearson, None) for r in found], "correlation with itself under other noise")
    return Told("repeatability", {"seeds": seeds}, methods, svg)


def tell_self_influence(method: str, ranks: Sequence[SelfRank]) -> Told:
    """One row a segment; how many have their own track first stands above."""
    first = bootstrap_mean(np.array([rank.track_rank == 1 for rank in ranks], dtype=float))
    mean = bootstrap_mean(np.array([rank.track_rank for rank in ranks], dtype=float))
    about = {
        "method": method, "first": sum(rank.track_rank == 1 for rank in ranks), "segments": len(ranks),
        **_named("first_share", first, "first_share_"), **_named("mean_rank", mean, "mean_rank_"),
        "ranks": [rank.__dict__ for rank in ranks],
    }  # fmt: skip
    row = {name: value for name, value in about.items() if name != "ranks"}
    return Told("self-influence", about, [row], intervals_svg([(method, first, None)], "share whose own track comes first"))


def _named(name: str, value: Interval | None, prefix: str = "") -> dict[str, float]:
    return {name: value.value, f"{prefix}low": value.low, f"{prefix}high": value.high} if value else {}


def intervals_svg(
    rows: Sequence[tuple[str, Interval, Interval | None]], label: str, band: Interval | None = None, band_label: str = ""
) -> str:
    """One line a method with its interval; a second, hollow mark where there is another form of the score.

    Args:
        band: drawn behind them all: the ceiling.
    """

    def draw(axes: Axes) -> None:
        if band:
            axes.axvspan(band.low, band.high, color=FAINT, alpha=0.35, linewidth=0)
            axes.axvline(band.value, color=INK, linewidth=0.8, linestyle="--", label=band_label)
        axes.axvline(0, color=INK, linewidth=0.6)
        for y, (name, first, second) in enumerate(rows):
            family = METHOD_SETTINGS[name].family if name in METHOD_SETTINGS else ""
            colour = COLOURS.get(family, INK)
            axes.plot([first.low, first.high], [y, y], color=colour, linewidth=2)
            axes.plot(first.value, y, "o", color=colour, markersize=5)
            if second:
                axes.plot([second.low, second.high], [y + 0.28] * 2, color=colour, linewidth=0.9)
                axes.plot(second.value, y + 0.28, "o", markersize=4, markerfacecolor="white", markeredgecolor=colour)
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel(label)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="x", color=FAINT, linewidth=0.4)
        axes.set_axisbelow(True)
        if band:
            axes.legend(frameon=False, fontsize=8, loc="lower right")

    return drawn(6.6, 0.9 + LINE_INCHES * len(rows), draw)


def seen_svg(relations: Sequence[str], methods: Sequence[str], share: Mapping[str, Mapping[str, float]], label: str) -> str:
    """Which relations each method sees: a matrix of shares from 0 to 1, numbers in it."""
    values = np.array([[share[relation][method] for relation in relations] for method in methods])

    def draw(axes: Axes) -> None:
        axes.imshow(values, vmin=0, vmax=1, cmap="Oranges", aspect="auto")
        axes.set_xticks(range(len(relations)), relations, rotation=30, ha="left", rotation_mode="anchor")
        axes.set_yticks(range(len(methods)), methods)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(label)
        for row in range(len(methods)):
            for column in range(len(relations)):
                shade = "white" if values[row, column] > 0.7 else INK
                axes.text(column, row, f"{values[row, column]:.2f}", ha="center", va="center", color=shade, fontsize=7.5)

    return drawn(1.8 + 0.75 * len(relations), 1.4 + LINE_INCHES * len(methods), draw)
