"""What evaluations found, each as one table with its picture: intervals beside the ceiling, one line a
method; a matrix of what is seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from linernotes.evaluation.bank.sanity import Sanity
from linernotes.evaluation.bank.store import Bank
from linernotes.evaluation.counterfactual import Outcome
from linernotes.evaluation.fidelity import ModelFidelity
from linernotes.evaluation.groups import GroupScore
from linernotes.evaluation.hubs import HubShare, Repeatability
from linernotes.evaluation.intervals import Interval
from linernotes.evaluation.lds import MeasuredLds
from linernotes.evaluation.own_first import OwnFirst
from linernotes.evaluation.planted import MeasuredPlanted
from linernotes.report.pictures import ACCENT, DECOY, FAINT, INK, drawn
from linernotes.report.table import Table, bounds, interval, name, number, text
from linernotes.settings.methods import METHOD_SETTINGS

COLOURS = {"unlearning": ACCENT, "gradient": DECOY, "similarity": "#7a8450", "chance": FAINT}
LINE_INCHES = 0.26
METHOD = name("method", "method")
FINE = "+.4f"  # of a change of loss


def lds_table(found: MeasuredLds) -> Table:
    """One row a method, best first: ``lds`` with ``low`` and ``high``, what stands beside it, and facts of
    the ceiling.
    """
    asked = f"{found.output}, within each {found.within}" if found.within else found.output
    notes = [
        f"Noise ceiling {found.ceiling}: two seeds correlate at {found.seed_correlation}. {found.queries} "
        "clips for "
        f"{found.split}, {found.models} models; {found.output}; 95 % intervals over clips and models."
    ]
    if found.within:
        notes.append(f"What the mere number of tracks of each {found.within} explains is taken out.")
    kinds = dict.fromkeys(kind for m in found.methods for kind in m.by_kind)
    return Table(
        name="-".join(
            [
                "lds",
                *(["prediction"] if found.output == "prediction" else []),
                *([f"within-{found.within}"] if found.within else []),
            ]
        ),
        columns=[
            METHOD,
            interval("lds", "LDS", prefix=""),
            interval("of_ceiling", "of the ceiling", ".0f", "%"),
            interval("truncated", "truncated"),
            number("kept", "to"),
            interval("behind", f"behind {found.reference}"),
            interval("behind_truncated"),
            *(number(f"lds_{kind}") for kind in kinds),
        ],
        rows=[{**vars(m), **{f"lds_{kind}": lds for kind, lds in m.by_kind.items()}} for m in found.methods],
        about={
            "output": found.output,
            "split": found.split,
            "queries": found.queries,
            "models": found.models,
            "reference": found.reference,
            "within": found.within,
            **bounds("ceiling", found.ceiling, "ceiling_"),
            **bounds("seed_correlation", found.seed_correlation, "seed_correlation_"),
        },
        notes=notes,
        picture=intervals_svg(
            [(m.method, m.lds, m.truncated) for m in found.methods],
            f"LDS ({asked}); hollow: only the first tracks of each clip count",
            found.ceiling,
            "noise ceiling",
        ),
    )


def counterfactual_table(outcomes: Sequence[Outcome]) -> Table:
    """One row for each method, share and form."""
    distances = dict.fromkeys(distance for o in outcomes for distance in o.distances)
    seen = next(iter(distances), "")
    lines = [
        (f"{o.method}, {o.percent:g} %{', pooled' if o.pooled else ''}", o.specific, None) for o in outcomes
    ]
    return Table(
        name="counterfactual",
        columns=[
            METHOD,
            number("percent", "left out, %", "g"),
            text("pooled", "pooled"),
            number("retrains"),
            number("clips"),
            number("tracks"),
            interval("specific", "its own rise", FINE, prefix=""),
            interval("rise", "of its loss", FINE),
            interval("control", "of others'", FINE),
            interval("relative"),
            interval("over_likeness", "over likeness", FINE),
            *(interval(d, "dB moved" if d == seen else None, "+.1f", prefix=f"{d} ") for d in distances),
        ],
        rows=[{**vars(o), **o.distances} for o in outcomes],
        notes=[
            "Rise of the clip's loss over what leaving out as many random tracks does; its own: less the "
            "other clips' rise under the same model. 95 % intervals over models and clips."
        ],
        picture=intervals_svg(lines, "rise of the clip's loss, over random tracks and other clips"),
    )


def planted_table(found: MeasuredPlanted) -> Table:
    """One row a method; what was learned from, by relation, stands above."""
    share = {relation.relation: relation.recall for relation in found.relations}
    return Table(
        name="planted",
        columns=[
            METHOD,
            interval("recall", f"recall@{found.first}", prefix=""),
            *(number(f"recall_{relation}", relation, ".2f") for relation in share),
            number("tie"),
            interval("decoys", f"decoys in the first {found.first}", ".1f"),
        ],
        rows=[
            {
                "method": method,
                "recall": recall,
                **{f"recall_{relation}": by_method[method] for relation, by_method in share.items()},
                "tie": found.tie[method],
                "decoys": found.decoys[method],
            }
            for method, recall in found.recall.items()
        ],
        about={"first": found.first, "decoys_by_chance": found.decoys_by_chance},
        notes=[
            f"Decoys among the first {found.first} of all tracks; {found.decoys_by_chance:.1f} by chance."
        ],
        above=[
            Table(
                name="relations",
                columns=[
                    text("relation", "relation"),
                    number("pairs", "pairs"),
                    interval("learned", "learned from, as a share of itself", prefix=""),
                ],
                rows=[vars(relation) for relation in found.relations],
            )
        ],
        picture=seen_svg(list(share), list(found.recall), share, f"recall@{found.first}"),
    )


def groups_table(by: str, measured: Sequence[GroupScore], rises: Mapping[str, float]) -> Table:
    """One row a method, best first; ``rises``: of the clips' losses without each group, mean."""
    most_first = sorted(rises.items(), key=lambda each: -each[1])
    return Table(
        name=f"groups-{by}",
        columns=[
            METHOD,
            interval("top1", "first group right"),
            interval("ndcg", "NDCG@3", prefix=""),
            interval("truncated", "truncated"),
            number("queries"),
        ],
        rows=[vars(m) for m in measured],
        about={"by": by, "rises": dict(rises)},
        notes=[
            "Mean rise of the clips' losses without each group: "
            + ", ".join(f"{group} {rise:{FINE}}" for group, rise in most_first)
        ],
        picture=intervals_svg([(m.method, m.ndcg, None) for m in measured], "NDCG@3 of groups"),
    )


def hubs_table(found: Sequence[HubShare]) -> Table:
    """One row a method."""
    return Table(
        name="hubs",
        columns=[
            METHOD,
            interval("share", "first ten shared by two clips", prefix=""),
            text("most_common", "most common track"),
            number("times", "times among the first ten"),
            number("queries", "of clips"),
        ],
        rows=[vars(h) for h in found],
        picture=intervals_svg(
            [(h.method, h.share, None) for h in found], "share of the first ten that two clips have in common"
        ),
    )


def repeatability_table(seeds: int, found: Sequence[Repeatability]) -> Table:
    """One row a method."""
    return Table(
        name="repeatability",
        columns=[
            METHOD,
            interval("pearson", "correlation with itself", prefix=""),
            interval("first_shared", "first ten in common"),
        ],
        rows=[vars(r) for r in found],
        about={"seeds": seeds},
        picture=intervals_svg(
            [(r.method, r.pearson, None) for r in found], "correlation with itself under other noise"
        ),
    )


def self_influence_table(found: OwnFirst) -> Table:
    """One row for records; readers see where each segment's own track stands, which stands above."""
    facts = {
        "method": found.method,
        "first": found.first,
        "segments": len(found.ranks),
        **bounds("first_share", found.first_share, "first_share_"),
        **bounds("mean_rank", found.mean_rank, "mean_rank_"),
    }
    return Table(
        name="self-influence",
        columns=[
            name("method", None),
            number("first"),
            number("segments"),
            interval("first_share"),
            interval("mean_rank"),
        ],
        rows=[{**facts, "first_share": found.first_share, "mean_rank": found.mean_rank}],
        about=facts,
        notes=[
            f"{found.first} of {len(found.ranks)} segments have their own track first ({found.first_share}); "
            f"mean rank {found.mean_rank.value:.2f}"
        ],
        above=[
            Table(
                name="ranks",
                columns=[
                    text("track_id"),
                    text("title", "track"),
                    number("start_s", "from", ".0f", "s"),
                    number("track_rank", "rank of its track", "g"),
                    number("segment_rank", "rank of the segment", "g"),
                ],
                rows=[vars(rank) for rank in found.ranks],
            )
        ],
        picture=intervals_svg([(found.method, found.first_share, None)], "share whose own track comes first"),
    )


def fidelity_table(found: ModelFidelity) -> Table:
    """What a model keeps and understands, beside the bar it must pass."""
    lost = 100 * (found.instrument_before - found.instrument_after)
    rows = [
        (
            f"chroma correlation, original and decoded ({found.tracks} tracks never trained on)",
            f"{found.chroma_correlation:.3f}",
            ">= 0.9",
        ),
        ("instrument named, original sound", f"{100 * found.instrument_before:.1f} %", ""),
        (
            "instrument named, decoded sound",
            f"{100 * found.instrument_after:.1f} % ({lost:.1f} points lost)",
            "<= 5 points lost",
        ),
        (
            f"instrument of the prompt found ({found.clips} generated clips)",
            f"{100 * found.instrument_generated:.1f} %",
            ">= 95 %",
        ),
    ]
    columns = [text("what", "what"), text("measured", "measured"), text("bar", "bar")]
    return Table(
        "fidelity", columns, [dict(zip(("what", "measured", "bar"), row, strict=True)) for row in rows]
    )


SPANS = {  # of a bank's models: what it is called, and to how many digits
    "own_loss": ("own loss", 2),
    "other_loss": ("others'", 2),
    "query_loss": ("clips'", 2),
    "contrast": ("contrast", 2),
    "moved_db": ("moved, dB", 1),
}


def bank_table(bank: Bank, lines: Sequence[Sanity]) -> Table:
    """A row for each kind of model of a bank, with the span of what ``check`` says of them."""
    kinds = {
        kind: [line for line in lines if line.kind == kind]
        for kind in dict.fromkeys(line.kind for line in lines)
    }
    notes = [
        "Mean losses of the tracks a model saw, of the others, of the clips; contrast and movement of the "
        "clips made again."
    ]
    if not any(line.wrong for line in lines):
        heard = any(query.heard for query in bank.queries)
        generates = ", and generates" if heard else "; none made a clip again"
        notes.append(f"Every model learned its tracks as well as one of all tracks does{generates}.")
    return Table(
        name="bank",
        columns=[
            name("kind", "models"),
            number("models", ""),
            number("tracks", "tracks"),
            *(text(field, heading) for field, (heading, _) in SPANS.items()),
        ],
        rows=[
            {
                "kind": kind,
                "models": len(some),
                "tracks": some[0].tracks,
                **{f: _span([getattr(line, f) for line in some], digits) for f, (_, digits) in SPANS.items()},
            }
            for kind, some in kinds.items()
        ],
        notes=notes,
    )


def _span(values: Sequence[float], digits: int) -> str:
    finite = sorted(v for v in values if v == v)
    return f"{finite[0]:.{digits}f}-{finite[-1]:.{digits}f}" if finite else ""


def intervals_svg(
    rows: Sequence[tuple[str, Interval, Interval | None]],
    label: str,
    band: Interval | None = None,
    band_label: str = "",
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
        for y, (method, first, second) in enumerate(rows):
            family = METHOD_SETTINGS[method].family if method in METHOD_SETTINGS else ""
            colour = COLOURS.get(family, INK)
            axes.plot([first.low, first.high], [y, y], color=colour, linewidth=2)
            axes.plot(first.value, y, "o", color=colour, markersize=5)
            if second:
                axes.plot([second.low, second.high], [y + 0.28] * 2, color=colour, linewidth=0.9)
                axes.plot(
                    second.value, y + 0.28, "o", markersize=4, markerfacecolor="white", markeredgecolor=colour
                )
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


def seen_svg(
    relations: Sequence[str], methods: Sequence[str], share: Mapping[str, Mapping[str, float]], label: str
) -> str:
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
                axes.text(
                    column,
                    row,
                    f"{values[row, column]:.2f}",
                    ha="center",
                    va="center",
                    color=shade,
                    fontsize=7.5,
                )

    return drawn(1.8 + 0.75 * len(relations), 1.4 + LINE_INCHES * len(methods), draw)
