"""How influence thins out with the size of a catalogue, as a Markdown page and a picture."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from linernotes.artefacts import replacing
from linernotes.evaluation.intervals import Interval
from linernotes.evaluation.thinning import FIRST, NOTICED, Law, OfSize, Thinning
from linernotes.report.pictures import ACCENT, DECOY, INK, drawn
from linernotes.report.table import Table, interval, name, number, text

ABOUT = """\
Each size is a benchmark of its own: the same architecture, and as many training steps a track. What one more
track of some ranks (by `{method}`) is worth is how much it lowers a clip's loss, in thousandths of that loss,
over one of the last ranks: a regression of clips' losses, under models trained on random halves, on how many
tracks of each rank a model saw. Intervals are 95 %, by bootstrap over clips and models together."""
ABOUT_ALL = (
    "All tracks' effects together, and the part of them that the first ones carry; all of it over the last "
    "ranks, those beyond the bins above. *Told apart up to* is the last rank up to which every bin stands "
    "above nothing."
)
ABOUT_LAW = (
    "The law *effect of rank r among N tracks = A r^-a (N/512)^-b*, fitted to all bins of all sizes: A = "
    "{strength} thousandths, a = {by_rank}, b = {by_size}. What it forecasts is an extrapolation, far beyond "
    "what was measured:"
)
MARKERS = ("o", "s", "^", "D", "v")


def write_thinning(path: Path, found: Thinning, command: str) -> None:
    """Writes the page and its picture ``NAME.svg`` beside it; ``command`` repeats it."""
    picture = path.with_suffix(".svg")
    with replacing(picture) as temporary:
        temporary.write_text(_picture(found), encoding="utf-8")
    with replacing(path) as temporary:
        temporary.write_text(thinning_page(found, picture.name, command), encoding="utf-8")


def thinning_page(found: Thinning, picture: str, command: str) -> str:
    """The page, in Markdown."""
    parts = [
        "# How influence thins out",
        f"Written by `{command}`, from retrain banks and the scores kept with them.",
        ABOUT.format(method=found.method),
        f"![The effect of a track by its rank, on catalogues of several sizes]({picture})",
        effects_table(found).markdown(),
        ABOUT_ALL,
        sizes_table(found).markdown(),
    ]
    if found.law:
        law = found.law
        parts += [
            "## A law",
            ABOUT_LAW.format(strength=_thousandths(law.strength), by_rank=law.by_rank, by_size=law.by_size),
            forecasts_table(law).markdown(),
        ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def thinning_records(found: Thinning) -> dict[str, list[dict[str, Any]]]:
    """The rows of all tables, by name, for machines."""
    tables = [effects_table(found), sizes_table(found), *([forecasts_table(found.law)] if found.law else [])]
    return {table.name: table.records() for table in tables}


def effects_table(found: Thinning) -> Table:
    """One row a bin of ranks, one column a size: what one more track is worth, over the last ranks'."""
    columns = [
        name("ranks", "ranks"),
        *(interval(size.name, f"{size.tracks} tracks (`{size.name}`)", ".1f") for size in found.sizes),
    ]
    bins = max((size.ranks for size in found.sizes), key=len)
    rows = []
    for b, ranks in enumerate(bins):
        values = {s.name: _thousandths(s.ranks[b].effect) for s in found.sizes if b < len(s.ranks)}
        rows.append({"ranks": f"{ranks.first} to {ranks.last}", **values})
    return Table("effects", columns, rows)


def sizes_table(found: Thinning) -> Table:
    """One row a size: how much all tracks do, and the part of it that the first ones carry."""
    columns = [
        number("tracks", "tracks", ",d"),
        number("models", "halves"),
        number("clips", "clips"),
        interval("together", "all together", ".1f", "%"),
        *(interval(f"first_{count}", f"the first {count}", ".0f", "%") for count in FIRST),
        text("told", "told apart up to"),
    ]
    return Table("sizes", columns, [_size_row(size) for size in found.sizes])


def _size_row(size: OfSize) -> dict[str, object]:
    first = {f"first_{count}": share for count, share in size.first.items()}
    return {**vars(size), **first, "told": f"rank {size.told}" if size.told else "none"}


def forecasts_table(law: Law) -> Table:
    """What the law says of large catalogues; effects by themselves, not over the last ranks'."""
    columns = [
        number("tracks", "tracks", ",d"),
        interval("first_effect", "the first three, each, thousandths", ".2f"),
        interval("first_share", "the first 20 of all", ".1f", "%"),
        interval("noticed", f"tracks with at least {NOTICED * 1000:.0f} thousandth", ".0f"),
    ]
    rows = [{**vars(each), "first_effect": _thousandths(each.first_effect)} for each in law.forecasts]
    return Table("forecasts", columns, rows)


def _thousandths(found: Interval) -> Interval:
    return Interval(1000 * found.value, 1000 * found.low, 1000 * found.high)


def _picture(found: Thinning) -> str:
    shades = np.linspace(0.35, 1.0, len(found.sizes))

    def draw(axes: Axes) -> None:
        for size, shade, marker in zip(found.sizes, shades, cycle(MARKERS), strict=False):
            every = size.ranks
            middle = [np.sqrt(each.first * each.last) for each in every]
            values = [1000 * each.effect.value for each in every]
            low = [1000 * (each.effect.value - each.effect.low) for each in every]
            high = [1000 * (each.effect.high - each.effect.value) for each in every]
            label = f"{size.tracks:,} tracks"
            axes.errorbar(
                middle, values, [low, high], fmt=marker, color=ACCENT, alpha=shade, capsize=2, label=label
            )
            if found.law:
                rank = np.arange(1, size.tracks + 1)
                line = 1000 * found.law.effects(rank, size.tracks)
                line -= line[size.last[0] - 1 :].mean()
                axes.plot(rank, line, color=INK, alpha=shade, linewidth=0.8)
        axes.axhline(0, color=DECOY, linewidth=0.8)
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=0.5)
        axes.set_xlabel("rank")
        axes.set_ylabel("effect of one more track over the last ranks',\nthousandths of the clip's loss")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)

    return drawn(7, 4, draw)
