"""How the cost of an index grows, as a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from linernotes.report.pictures import ACCENT, DECOY, INK, drawn
from linernotes.report.table import Table, number, text

if TYPE_CHECKING:
    from linernotes.evaluation.cost.scale import Growth

SECONDS = {
    "product_s": ("search: products with all vectors", DECOY, "o"),
    "codes_s": ("search: codes", ACCENT, "s"),
    "build_s": ("building the index", INK, "^"),
    "clip_s": ("attributing a clip", INK, "o"),
}
MEMORY = {
    "product_mib": SECONDS["product_s"],
    "codes_mib": SECONDS["codes_s"],
    "build_mib": SECONDS["build_s"],
}


def scale_table(found: Sequence[Growth]) -> Table:
    """One row a size."""
    columns = [
        number("segments", "segments", ",d"),
        text("of", "of"),
        number("build_ms_each", "building: a segment", ".0f", "ms"),
        number("build_mib", "its peak", ",.0f", "MiB"),
        number("disk_mib", "index on disk", ",.0f", "MiB"),
        number("product_s", "search: products with all", ".3f", "s"),
        number("product_mib", "their peak", ",.0f", "MiB"),
        number("codes_s", "search: codes", ".3f", "s"),
        number("codes_mib", "codes' peak", ",.0f", "MiB"),
        number("found", "of the first by product, found", ".1f", "%"),
        number("clip_s", "attributing a clip", ".1f", "s"),
        number("scored_share", "segments scored exactly", ".2f", "%"),
        number("every_s", "by scoring all", ",.0f", "s"),
        number("build_ratio", "building over scoring all", ".2f"),
        number("listed", "on the shortlist, of the tracks", ".2f", "%"),
        number("held", "of the exact first 20, it holds", ".0f", "%"),
        text("half", "in 0.5 %: of the first 20, of their score"),
        text("two", "in 2 %: the same"),
    ]
    rows = [
        {
            **vars(each),
            "of": "a catalogue" if each.real else "made-up vectors",
            "build_ms_each": None if each.build_s is None else 1000 * each.build_s / each.segments,
            "scored_share": None if each.scored is None else each.scored / each.segments,
            "build_ratio": each.build_s / each.every_s if each.build_s and each.every_s else None,
            "half": _pair(each.held_half, each.summed_half),
            "two": _pair(each.held_two, each.summed_two),
        }
        for each in found
    ]
    return Table(
        name="scale",
        columns=columns,
        rows=rows,
        about={"bytes_each": found[-1].bytes_each},
        notes=[
            f"Vectors of {found[-1].bytes_each} bytes. Peaks are of the whole program; a search is of one "
            "clip, all that it keeps in memory being there; above a million vectors their products are "
            "formed from the disk. Made-up vectors are real ones turned by noise. "
            "Attributing a clip: model, catalogue and index being open, with its audit, without drawing its "
            "page. Shortlists: means over the clips that the index was tried on; the default one as long as "
            "the other clips ask for."
        ],
        picture=_picture(found),
    )


def _pair(held: float | None, summed: float | None) -> str:
    return "" if held is None or summed is None else f"{held:.0%}, {summed:.0%}"


def _picture(found: Sequence[Growth]) -> str:
    """Seconds on the left, memory on the right."""

    def draw(seconds: Axes, memory: Axes) -> None:
        for panel, lines, unit in ((seconds, SECONDS, 1.0), (memory, MEMORY, 1 / 1024)):
            for field, (label, colour, marker) in lines.items():
                points = [(each.segments, getattr(each, field)) for each in found]
                points = [(count, value * unit) for count, value in points if value is not None]
                if points:
                    style = "--" if field.startswith("build") else "-"
                    panel.plot(*zip(*points, strict=True), style, color=colour, marker=marker, label=label)
            panel.set_xscale("log")
            panel.set_xlabel("segments")
            panel.spines[["top", "right"]].set_visible(False)
        seconds.set_yscale("log")
        seconds.set_ylabel("seconds")
        seconds.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        memory.set_ylim(bottom=0)
        memory.set_ylabel("peak of the whole program, GiB")

    return drawn(8.4, 3.6, draw, panels=(3, 2))
