"""What scores are worth, held against retraining that the calibration has not seen."""

from __future__ import annotations

from matplotlib.axes import Axes

from linernotes.evaluation.unseen import MeasuredCalibration
from linernotes.report.pictures import ACCENT, FAINT, INK, drawn
from linernotes.report.table import Table, interval, number, text

PERCENT = ".2f"


def calibration_table(found: MeasuredCalibration) -> Table:
    """One row a bin of expected effects: what was expected, and what clips and models not fitted on show."""
    made, curve = found.calibration, found.calibration.curve
    about = {
        "method": found.method,
        "shape": made.shape,
        **{f"curve_{name}": value for name, value in curve.model_dump().items()},
        "coverage": found.coverage.value,
        "coverage_low": found.coverage.low,
        "coverage_high": found.coverage.high,
        "named": found.named,
        "named_above": found.named_above.value,
        "named_above_expected": found.named_above_expected,
        "random_track": made.whole / made.tracks,
        "retrain_sd": made.retrain_sd,
        "fitness": made.fitness,
    }
    notes = [
        f"Effects are shares of the clip's loss over what an unrelated track does, of {made.clips} clips "
        f"under {made.models} models of {made.tracks} tracks; each clip and model is looked at with a map "
        "fitted without a quarter of the clips, it among them, and on the other half of the models.",
        f"90 % intervals hold {found.coverage} of single tracks' contrasts (95 % interval over clips).",
        _of_named(found),
        f"A track at random: {made.whole / made.tracks:.3%} of the loss; from seed to seed a clip's loss "
        f"moves by {made.retrain_sd:.1%}.",
    ]
    return Table(
        name=f"calibration-{found.method}",
        columns=[
            text("bin", "expected effect"),
            number("pairs", "clips x tracks", ","),
            number("expected", "expected, mean", PERCENT, "%"),
            interval("measured", "by retraining, mean", PERCENT, "%"),
            number("coverage", "in their interval", ".0f", "%"),
        ],
        rows=[
            {
                "bin": f"{_bound(b.low)} to {_bound(b.high)}",
                "pairs": b.pairs,
                "expected": b.expected,
                "measured": b.measured,
                "coverage": b.coverage,
            }
            for b in found.bins
        ],
        about=about,
        notes=notes,
        picture=reliability_svg(found),
    )


def _of_named(found: MeasuredCalibration) -> str:
    if not found.named:
        return "No track of these clips can be named by this method."
    return (
        f"{found.named:.1f} tracks a clip can be named. A single contrast is noisy: of the named tracks' "
        f"{found.named_above} are above nothing, and {found.named_above_expected:.2f} would be if each "
        "effect were as expected."
    )


def _bound(value: float) -> str:
    return "less" if value == -float("inf") else "more" if value == float("inf") else f"{value:.2%}"


def reliability_svg(found: MeasuredCalibration) -> str:
    """Expected against measured, with the line where both are the same."""

    def draw(axes: Axes) -> None:
        low = min(min(b.expected, b.measured.low) for b in found.bins)
        high = max(max(b.expected, b.measured.high) for b in found.bins)
        axes.plot([low, high], [low, high], color=FAINT, linewidth=1)
        for b in found.bins:
            axes.plot([b.expected, b.expected], [b.measured.low, b.measured.high], color=INK, linewidth=1)
            axes.plot(b.expected, b.measured.value, "o", color=ACCENT, markersize=4)
        axes.set_xscale("symlog", linthresh=5e-4)
        axes.set_yscale("symlog", linthresh=5e-4)
        axes.set_xlabel("expected effect (share of the clip's loss)")
        axes.set_ylabel("by retraining, not seen")

    return drawn(5.2, 4.0, draw)
