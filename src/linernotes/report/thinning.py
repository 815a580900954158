"""How influence thins out with the size of a catalogue, as a Markdown page and a picture."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from linernotes.artefacts import replacing
from linernotes.evaluation.intervals import Interval
from linernotes.evaluation.lds import MeasuredLds
from linernotes.evaluation.thinning import FIRST, NOTICED, Foretold, Law, OfSize, Thinning
from linernotes.report.pictures import ACCENT, DECOY, INK, drawn
from linernotes.report.table import Column, Table, interval, name, number, text

ABOUT = """\
Each size is a benchmark of its own: the same architecture, and as many training steps a track. What one
more track of some ranks (by `{method}`) is worth is how much it lowers a clip's loss, in thousandths of
that loss, over one of the last half of the ranks: a regression of clips' losses, under models trained on
random halves, on how many tracks of each rank a model saw. Intervals are 95 %, by bootstrap over clips
and models together, which errs on the wide side where the noise of training is most of it."""
ABOUT_ALL = """\
*Told apart up to* is the last rank up to which every bin's interval lies above nothing: it says as much
of how many models were trained as of the tracks. *The first half* is what its tracks carry together over
as many of the last half, *the first 3* and so on the part of this that those carry, where this is told
apart from nothing. What an order of tracks is worth depends on the method's being right, so beside it
stands how well its scores predict retraining at that size (LDS), of how much that could be (ceiling)."""
ABOUT_METHODS = """\
A track's influence may thin out, or the method find it less well: other methods' orders, by what one more
of their first three tracks is worth, in thousandths, and by their LDS."""
ABOUT_LAW = """\
*Effect of rank r among N tracks = A r^-a (N/512)^-b*, where a model learns half of the N: A = {strength}
thousandths, a = {by_rank}, b = {by_size}, fitted to all bins of all sizes together. It misses them by
{misfit:.2f} times their noise (chi squared over {freedom} degrees of freedom){widened}. The intervals are
of this form and these catalogues; only differences between ranks are measured, and that effects fall to
nothing is assumed."""
ABOUT_FORETOLD = """\
Does it carry over to more tracks? What the law of all smaller sizes says of a size, beside what was
found there."""
ABOUT_ONE = "{tracks:,} tracks; a miss as large has a probability of {probability:.2g} by chance:"
ABOUT_FORECASTS = """\
What it says of models that learned more tracks than any here is an extrapolation: the same architecture,
trained for steps in proportion to the tracks, as often on each as a half's model was."""
MARKERS = ("o", "s", "^", "D", "v")
BESIDE = 1.12  # times the rank, from one size to the next


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
        ABOUT.format(method=found.methods[0]),
        f"![The effect of a track by its rank, on catalogues of several sizes]({picture})",
        effects_table(found).markdown(),
        sizes_table(found).markdown(),
        ABOUT_ALL,
    ]
    if len(found.methods) > 1:
        parts += ["## By other methods", ABOUT_METHODS, methods_table(found).markdown()]
    if law := found.law:
        widened = "; intervals are as much wider" if law.misfit > 1 else ""
        about = ABOUT_LAW.format(
            strength=_thousandths(law.strength),
            by_rank=law.by_rank,
            by_size=law.by_size,
            misfit=law.misfit,
            freedom=law.freedom,
            widened=widened,
        )
        parts += ["## A law", about]
        parts += [ABOUT_FORETOLD] if law.foretold else []
        for each in law.foretold:
            about = ABOUT_ONE.format(tracks=each.tracks, probability=each.probability)
            parts += [about, foretold_table(each).markdown()]
        parts += [ABOUT_FORECASTS, forecasts_table(law).markdown()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def thinning_records(found: Thinning) -> dict[str, list[dict[str, Any]]]:
    """The rows of all tables, by name, for machines."""
    tables = [effects_table(found), sizes_table(found), methods_table(found)]
    if law := found.law:
        tables += [_law_table(law), forecasts_table(law)]
        tables += [foretold_table(each) for each in law.foretold]
    return {table.name: table.records() for table in tables}


def effects_table(found: Thinning) -> Table:
    """One row a bin of ranks, one column a size: what one more track is worth, over the last ranks'."""
    sizes = found.sizes[found.methods[0]]
    columns = [
        name("ranks", "ranks"),
        *(interval(size.name, f"{size.tracks:,} tracks (`{size.name}`)") for size in sizes),
    ]
    effects = {s.name: {(e.first, e.last): _thousandths(e.effect) for e in s.ranks} for s in sizes}
    bins = sorted({bin_ for of in effects.values() for bin_ in of})
    rows = [
        {"ranks": f"{b[0]} to {b[1]}", **{size: of[b] for size, of in effects.items() if b in of}}
        for b in bins
    ]
    return Table("effects", columns, rows)


def sizes_table(found: Thinning) -> Table:
    """One row a size: how much all tracks do, and the part of it that the first ones carry."""
    columns = [
        number("tracks", "tracks", ",d"),
        number("halves", "halves"),
        number("models", "models of them"),
        number("clips", "clips"),
        interval("lds", "LDS"),
        interval("ceiling", "ceiling"),
        interval("together", "the first half", ".1f", "%"),
        *(interval(f"first_{count}", f"the first {count}", ".0f", "%") for count in FIRST),
        text("told", "told apart up to"),
    ]
    sizes = found.sizes[found.methods[0]]
    rows = [_size_row(size, lds) for size, lds in zip(sizes, found.lds, strict=True)]
    return Table("sizes", columns, rows)


def _size_row(size: OfSize, measured: MeasuredLds) -> dict[str, object]:
    first = {f"first_{count}": share for count, share in size.first.items()}
    own = next(m.lds for m in measured.methods if m.method == measured.reference)
    told = f"rank {size.told}" if size.told else "none"
    return {**vars(size), **first, "lds": own, "ceiling": measured.ceiling, "told": told}


def methods_table(found: Thinning) -> Table:
    """One row a method: what one more of its first three tracks is worth at each size, and its LDS there."""
    sizes = found.sizes[found.methods[0]]
    columns: list[Column] = [name("method", "method")]
    columns += [interval(f"first_{size.name}", f"first three of {size.tracks:,}") for size in sizes]
    columns += [interval(f"lds_{size.name}", f"LDS, {size.tracks:,}") for size in sizes]
    rows = []
    for method in found.methods:
        first = {f"first_{s.name}": _thousandths(s.ranks[0].effect) for s in found.sizes[method]}
        lds = {
            f"lds_{size.name}": m.lds
            for size, measured in zip(sizes, found.lds, strict=True)
            for m in measured.methods
            if m.method == method
        }
        rows.append({"method": method, **first, **lds})
    return Table("methods", columns, rows)


def _law_table(law: Law) -> Table:
    columns = [interval(field) for field in ("strength", "by_rank", "by_size")]
    return Table("law", [*columns, number("misfit"), number("freedom")], [vars(law)])


def foretold_table(foretold: Foretold) -> Table:
    """What the law of the smaller sizes says of one, beside what was found there."""
    columns = [
        name("ranks", "ranks"),
        interval("foretold", "foretold, thousandths"),
        interval("found", "found"),
    ]
    rows = [
        {
            "ranks": f"{found.first} to {found.last}",
            "foretold": _thousandths(said),
            "found": _thousandths(found.effect),
        }
        for found, said in foretold.ranks
    ]
    return Table(f"foretold-{foretold.tracks}", columns, rows)


def forecasts_table(law: Law) -> Table:
    """What the law says of models of many tracks; effects by themselves, not over the last ranks'."""
    columns = [
        number("learned", "tracks learned", ",d"),
        interval("first_effect", "the first three, each, thousandths", ".3f"),
        interval("noticed", f"tracks with at least {NOTICED * 1000:.0f} thousandth", ".0f"),
    ]
    rows = [{**vars(each), "first_effect": _thousandths(each.first_effect)} for each in law.forecasts]
    return Table("forecasts", columns, rows)


def _thousandths(found: Interval) -> Interval:
    return Interval(1000 * found.value, 1000 * found.low, 1000 * found.high)


def _picture(found: Thinning) -> str:
    sizes = found.sizes[found.methods[0]]
    shades = np.linspace(0.35, 1.0, len(sizes))

    def draw(axes: Axes) -> None:
        for i, (size, shade, marker) in enumerate(zip(sizes, shades, cycle(MARKERS), strict=False)):
            every = size.ranks
            beside = BESIDE ** (i - (len(sizes) - 1) / 2)  # or one size would hide another
            middle = [beside * np.sqrt(each.first * each.last) for each in every]
            values = [1000 * each.effect.value for each in every]
            low = [1000 * max(0.0, each.effect.value - each.effect.low) for each in every]
            high = [1000 * max(0.0, each.effect.high - each.effect.value) for each in every]
            label = f"{size.tracks:,} tracks"
            axes.errorbar(
                middle, values, [low, high], fmt=marker, color=ACCENT, alpha=shade, capsize=2, label=label
            )
            if found.law:
                rank, half = np.arange(1, size.tracks + 1), size.tracks // 2
                line = 1000 * found.law.effects(rank, size.tracks)
                line -= line[half:].mean()
                axes.plot(rank[:half], line[:half], color=INK, alpha=shade, linewidth=0.8)
        axes.axhline(0, color=DECOY, linewidth=0.8)
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=1.0)
        axes.set_xlabel("rank")
        axes.set_ylabel("effect of one more track over the last half's,\nthousandths of the clip's loss")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)

    return drawn(7, 4, draw)
