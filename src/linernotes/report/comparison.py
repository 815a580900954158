"""The page of a comparison: how far methods agree, as pictures, and what each puts first for every clip, to
be heard.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.axes import Axes

from linernotes.artefacts import replacing
from linernotes.attribution.result import TrackScore
from linernotes.audio import Sound
from linernotes.evaluation.agreement import Agreement
from linernotes.report.pictures import INK, drawn, player_mp3
from linernotes.report.table import Table, name, number
from linernotes.settings.methods import METHOD_SETTINGS
from linernotes.version import __version__

MATRICES = {
    "spearman": "Spearman correlation of the scores of all training tracks",
    "pearson": "Pearson correlation of the same scores",
    "overlap": "share of the first places filled with the same tracks",
    "rank_biased_overlap": "rank-biased overlap: agreement of whole rankings, the first places counting most",
}


@dataclass(frozen=True)
class ComparedClip:
    """One clip, and the first tracks of every method."""

    name: str
    prompt: str
    sound: Sound
    first: Mapping[str, Sequence[TrackScore]]  # by method
    cautions: Sequence[str]  # what a reader must know first


def write_comparison(
    path: Path,
    agreement: Agreement,
    clips: Sequence[ComparedClip],
    sounds: Mapping[str, Sound | None],
    command: str,
) -> None:
    """Writes ``compare.html``, self-contained: each track's sound stands in it once, however often it is
    named.

    Args:
        sounds: by track id; None where a recording is gone.
    """
    families = {method: METHOD_SETTINGS[method].family for method in agreement.methods}
    players = {name: player_mp3(sound).inline for name, sound in sounds.items() if sound is not None}
    environment = Environment(
        loader=PackageLoader("linernotes.report", "."), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("comparison.html.j2").render(
        version=__version__,
        agreement=agreement,
        families=families,
        matrices=[
            (title, matrix_svg(getattr(agreement, name), agreement.methods))
            for name, title in MATRICES.items()
        ],
        clips=[
            {
                "name": c.name,
                "prompt": c.prompt,
                "audio": player_mp3(c.sound).inline,
                "first": c.first,
                "cautions": c.cautions,
            }
            for c in clips
        ],
        players=json.dumps(players).replace("<", "\\u003c"),
        playable=set(players),
        has_decoys=not np.isnan(agreement.decoys_first).all(),
        command=command,
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def agreement_table(a: Agreement) -> Table:
    """One row a method: what its first places hold."""
    of_all = {"concentration": a.concentration, "hub_share": a.hub_share, "decoys_first": a.decoys_first}
    return Table(
        name="agreement",
        columns=[
            name("method", "method"),
            number("concentration", f"held by the first {a.first}", ".0f", "%"),
            number("hub_share", "first shared between clips", ".0f", "%"),
            number("decoys_first", "decoys first", ".1f"),
        ],
        rows=[
            {"method": method, **{field: float(values[i]) for field, values in of_all.items()}}
            for i, method in enumerate(a.methods)
        ],
    )


def correlations_table(a: Agreement) -> Table:
    """Spearman's correlation of each two methods' scores."""
    return Table(
        name="spearman",
        columns=[
            name("method", "Spearman"),
            *(number(f"with {method}", method, ".2f") for method in a.methods),
        ],
        rows=[
            {"method": method, **{f"with {b}": float(value) for b, value in zip(a.methods, row, strict=True)}}
            for method, row in zip(a.methods, a.spearman, strict=True)
        ],
    )


def matrix_svg(value: np.ndarray, names: Sequence[str]) -> str:
    """A square matrix of numbers from -1 to 1 as a picture, with the numbers in it."""
    size = 1.6 + 0.42 * len(names)

    def draw(axes: Axes) -> None:
        axes.imshow(value, vmin=-1, vmax=1, cmap="RdBu_r")
        axes.set_xticks(range(len(names)), names, rotation=60, ha="left", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for row in range(len(names)):
            for column in range(len(names)):
                shade = "white" if abs(value[row, column]) > 0.6 else INK
                text = f"{value[row, column]:.2f}".replace("0.", ".").replace("1.00", "1")
                axes.text(column, row, text, ha="center", va="center", color=shade, fontsize=6.5)

    return drawn(size, size, draw, font_size=8)
