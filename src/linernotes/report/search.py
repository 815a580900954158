"""A search as a table of its first trials, and as a picture: each trial a line through its settings to what
was measured (parallel coordinates).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

from linernotes.artefacts import replacing
from linernotes.evaluation.search import Search
from linernotes.report.pictures import drawn
from linernotes.report.table import Table, number, text

BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.85}


def search_table(found: Search, first: int) -> Table:
    """The ``first`` trials, best first: settings, then what was measured."""
    measured = list(found.trials[0].values)
    columns = [
        *(text(f"setting {setting}", setting) for setting in found.grid),
        *(number(f"measured {value}", value.replace("_", " "), ".3g") for value in measured),
    ]
    rows = [
        {
            **{f"setting {k}": f"{v:g}" if isinstance(v, float) else str(v) for k, v in trial.chosen.items()},
            **{f"measured {k}": v for k, v in trial.values.items()},
        }
        for trial in found.trials[:first]
    ]
    failed = [trial.failed for trial in found.trials if trial.failed]
    notes = [f"The first {len(rows)} of {len(found.trials)} trials. {found.unit}"]
    notes += [f"{len(failed)} failed, the first because {failed[0]}"] if failed else []
    return Table("trials", columns, rows, notes=notes)


def write_search(path: Path, found: Search) -> None:
    """Writes an SVG. Settings stand in the grid's order of values, the metric on the last axis with the best
    on top.
    """
    done = [trial for trial in found.trials if trial.values]
    names = list(found.grid)

    def draw(axes: Axes) -> None:
        axes.set_ylim(-0.08, 1.1)
        axes.set_xlim(-0.2, len(names) + 0.5)
        axes.axis("off")
        for x, name in enumerate([*names, found.unit]):
            axes.axvline(x, 0.06, 0.93, color="#c9c4b8", linewidth=1)
            axes.text(x, 1.05, name.replace("_", " "), ha="center", fontweight="bold", wrap=True)
        heights = [_heights(found, name) for name in names]
        for x, places in enumerate(heights):
            for value, y in places.items():
                axes.text(x - 0.04, y, str(value), ha="right", va="center", fontsize=8, bbox=BEHIND, zorder=3)
        if done:
            measured = np.array([next(iter(trial.values.values())) for trial in done])
            scaled = np.log(np.maximum(measured, 1e-12)) if (measured > 0).all() else measured
            low, high = float(scaled.min()), float(scaled.max())
            top = 1 - (scaled - low) / max(high - low, 1e-12)
            if done[0].values and measured[0] == measured.max() > measured.min():
                top = 1 - top
            for trial, y in sorted(zip(done, top, strict=True), key=lambda each: each[1]):
                line = [places[trial.chosen[name]] for name, places in zip(names, heights, strict=True)]
                axes.plot(
                    range(len(names) + 1),
                    [*line, y],
                    color=colormaps["viridis_r"](float(y)),
                    linewidth=1.2,
                    alpha=0.75,
                )
            for y, value in {
                round(float(y), 1): value for y, value in zip(top, measured, strict=True)
            }.items():
                axes.text(len(names) + 0.04, y, f"{value:.3g}", va="center", fontsize=8)

    with replacing(path) as temporary:
        temporary.write_text(drawn(2.2 + 1.9 * len(names), 4.2, draw), encoding="utf-8")


def _heights(found: Search, name: str) -> dict[object, float]:
    """Where each value of a setting stands on its axis, 0 to 1: the grid's, and those a sampler chose between
    them.
    """
    values = list(dict.fromkeys([*found.grid[name], *(trial.chosen[name] for trial in found.trials)]))
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        values.sort()
    return {value: (i + 0.5) / len(values) for i, value in enumerate(values)}
