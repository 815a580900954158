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
    def draw(axes: Axes) -> None:
        for field, (label, colour, marker) in SECONDS.items():
            points = [(each.segments, getattr(each, field)) for each in found]
            points = [(count, value) for count, value in points if value is not None]
            if points:
                style = "--" if field == "build_s" else "-"
                axes.plot(*zip(*points, strict=True), style, color=colour, marker=marker, label=label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("segments")
        axes.set_ylabel("seconds")
        axes.spines[["top", "right"]].set_visible(False)
        memory = axes.twinx()
        for field, colour in (("product_mib", DECOY), ("codes_mib", ACCENT), ("build_mib", INK)):
            points = [(e.segments, getattr(e, field)) for e in found if getattr(e, field) is not None]
            if points:
                memory.plot(*zip(*points, strict=True), ":", color=colour, marker=".")
        memory.set_yscale("log")
        memory.set_ylabel("peak, MiB (dotted)")
        memory.spines[["top"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)

    return drawn(7.2, 3.6, draw)
