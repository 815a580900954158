"""The leaderboard as a Markdown page: every method, every measure, with the rules at its head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from linernotes.artefacts import replacing
from linernotes.evaluation.board import Board
from linernotes.evaluation.counterfactual import Outcome
from linernotes.evaluation.lds import MeasuredLds
from linernotes.evaluation.planted import MeasuredPlanted
from linernotes.report.table import Table, interval, number, text
from linernotes.report.truth import FINE, METHOD, lds_table, planted_table
from linernotes.settings.methods import METHOD_SETTINGS

RULES = """\
- **Truth.** Models of the same architecture and recipe were trained anew on {models} random halves of the
  {tracks} training tracks, {pairs} of the halves more than once with other seeds ({trained} models together).
  What becomes of a clip under a half is the mean over its models. A method is asked for its scores of
  {reporting} generated clips; the other {tuning} clips were there to choose settings with, and are not
  reported on.
- **LDS** is the Spearman correlation, over the retrained models, of the summed scores of the tracks a model
  saw and its loss of the clip (sign turned), mean over clips. Intervals are 95 %, by bootstrap over clips and
  models together.
- **The ceiling** is what a perfect predictor of the expected loss would reach: {ceiling}. Two seeds on the
  same half correlate at {seeds} only, since training is a matter of chance; the mean of several is surer, and
  the ceiling the higher.
- **Truncated**: only the first tracks of each clip count, by how far they stand above the next; how many is
  chosen on the tuning clips. A likeness that is not truncated is a straw man.
- **Leave-k-out**: by how much a clip's loss rises when the model is trained without the method's first tracks
  for it, over what leaving out as many random tracks does, and over what it does to the other clips (*its own
  rise*). *Pooled*: one set of tracks for all clips is left out, those that stand highest for any of them.
  Intervals are over models and clips.
- *LDS of predictions*: the same, with how far the retrained model's predictions moved in place of its loss.
  *Hub share*: the share of the first ten that two clips have in common. *s a clip*: seconds, all clips in one
  run, some of what is computed once per model being there already; what methods cost is measured in
  docs/measured/costs.md. *Spectrum moved*: how much further the clip made again moved than without random
  tracks. *NDCG@3*: how good the first three groups are; 1 is best.
- Methods run with their defaults unless the command says otherwise. Defaults were chosen on the tuning clips;
  the figures of the others were seen, too, while methods were developed (dev/LOG.md), and all clips share the
  same retrained models. Planted relatives are scored on fewer draws (4, or one a noise band).
- A method that does not beat the likenesses (`latent`, `timbre`, `tonal`, `activations`) has not shown that
  it sees inside the model. `tracin` is `grad-dot` where a model kept no checkpoints.{absent}
"""


UNTRAINED = "Not trained yet: `linernotes evaluate counterfactual --methods ... -o OUT`."
ABOUT_GROUPS = (
    "One model was trained without each group of tracks. Does a method's sum over a group (of scores less "
    "the clip's mean, since groups differ in size) name the one whose absence raises the clip's loss most, "
    "and how good are its first three? Intervals are over clips; the truth is a single retrain a group and "
    "noisy itself, so small differences mean nothing."
)


def write_leaderboard(path: Path, board: Board, command: str) -> None:
    """Writes the page, and beside it its pictures ``NAME-lds.svg`` and ``NAME-planted.svg``; ``command``
    repeats it.
    """
    tables = {
        "lds": lds_table(board.lds),
        **({"planted": planted_table(board.planted)} if board.planted else {}),
    }
    for what, table in tables.items():
        with replacing(path.with_name(f"{path.stem}-{what}.svg")) as temporary:
            temporary.write_text(table.picture, encoding="utf-8")
    with replacing(path) as temporary:
        temporary.write_text(leaderboard_page(board, path.stem, command), encoding="utf-8")


def leaderboard_page(board: Board, stem: str, command: str) -> str:
    """The page, in Markdown; ``stem`` is what its pictures' names begin with."""
    t = board.lds
    absent = [f"`{method}`" for method in METHOD_SETTINGS if method not in {m.method for m in t.methods}]
    rules = RULES.format(
        models=t.models,
        tracks=board.tracks,
        pairs=board.pairs,
        trained=board.trained,
        reporting=t.queries,
        tuning=board.tuning,
        ceiling=t.ceiling,
        seeds=t.seed_correlation,
        absent=f" Not on this board: {', '.join(absent)}." if absent else "",
    )
    parts = [
        "# Leaderboard: attribution held against retraining",
        f"Written by `{command}`, from a retrain bank and the scores kept with it. The same methods on "
        "deeper models, long tracks and other families: [benchmarks](benchmarks.md), "
        "[families](families.md).",
        "## Rules",
        rules,
        "## LDS",
        f"![LDS of every method beside the noise ceiling]({stem}-lds.svg)",
        _all_measures(board).markdown(),
        _about_strata(board.within),
        _strata(board.lds, board.within).markdown(),
        "## Leave-k-out",
        outcomes_table(board.outcomes).markdown() if board.outcomes else UNTRAINED,
    ]
    if board.groups:
        parts += ["## Groups", ABOUT_GROUPS, _groups(board).markdown()]
    if board.planted:
        parts += [
            "## What each method sees",
            f"![Recall of planted relatives, by method and relation]({stem}-planted.svg)",
            _seen(board.planted).markdown(),
        ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _all_measures(board: Board) -> Table:
    prediction = {m.method: m.lds for m in board.prediction.methods} if board.prediction else {}
    columns = [
        METHOD,
        interval("lds", "LDS"),
        interval("of_ceiling", "of the ceiling", ".0f", "%"),
        text("truncated_to", "truncated (to)"),
        interval("behind", f"behind `{board.lds.reference}`"),
        interval("behind_truncated", "truncated, behind it"),
        interval("prediction", "LDS of predictions"),
        number("hub_share", "hub share", ".2f"),
        number("seconds", "s a clip", ".1f"),
    ]
    written = interval("truncated").written
    rows = [
        {
            **vars(m),
            "truncated_to": f"{written(m.truncated)} ({m.kept})" if m.truncated else "",
            "prediction": prediction.get(m.method),
            "hub_share": board.hubs[m.method].share.value,
            "seconds": board.seconds.get(m.method),
        }
        for m in board.lds.methods
    ]
    return Table("leaderboard", columns, rows)


def _strata(lds: MeasuredLds, within: MeasuredLds | None) -> Table:
    """LDS by kind of prompt, and within the groups of a column."""
    kinds = list(lds.methods[0].by_kind)
    columns = [METHOD, *(number(f"lds_{kind}", kind, ".2f") for kind in kinds)]
    if within:
        columns += [
            interval("lds", f"within each {within.within}"),
            interval("truncated", "truncated"),
            interval("behind", "behind"),
            interval("behind_truncated", "truncated, behind"),
        ]
    inside = {m.method: vars(m) for m in within.methods} if within else {}
    rows = [
        {**inside.get(m.method, {}), "method": m.method, **{f"lds_{kind}": m.by_kind[kind] for kind in kinds}}
        for m in lds.methods
    ]
    return Table("strata", columns, rows)


def _about_strata(within: MeasuredLds | None) -> str:
    if not within:
        return "By kind of prompt:"
    return (
        f"By kind of prompt, and within each {within.within} (what the mere *number* of tracks of each "
        "explains is taken out of losses and predictions: what is left is *which* of them a model saw; "
        f"ceiling {within.ceiling}):"
    )


def outcomes_table(outcomes: Sequence[Outcome]) -> Table:
    """Leave-k-out: one row for each method, share and form."""
    columns = [
        METHOD,
        text("left_out", "left out (tracks)"),
        text("counts", "retrains / clips"),
        interval("specific", "the clip's own rise", FINE),
        number("share", "as a share", ".1f", "%"),
        interval("rise", "rise of its loss", FINE),
        interval("control", "of other clips'", FINE),
        interval("over_likeness", "over the best likeness", FINE),
        interval("distance", "spectrum moved, dB"),
    ]
    rows = [
        {
            **vars(o),
            "left_out": f"{o.percent:g} %{' pooled' if o.pooled else ''} ({o.tracks:.0f})",
            "counts": f"{o.retrains} / {o.clips}",
            "share": o.relative.value,
            "distance": next(iter(o.distances.values())),
        }
        for o in sorted(outcomes, key=lambda o: (o.pooled, o.percent, -o.specific.value))
    ]
    return Table("outcomes", columns, rows)


def _groups(board: Board) -> Table:
    measures = {"top1": "first one right", "truncated": "truncated", "ndcg": "NDCG@3"}
    columns = [
        METHOD,
        *(interval(f"{c}_{field}", f"{c}: {what}") for c in board.groups for field, what in measures.items()),
    ]
    of = {column: {g.method: g for g in found} for column, found in board.groups.items()}
    rows = [
        {
            "method": m.method,
            **{
                f"{c}_{field}": getattr(by_method[m.method], field)
                for c, by_method in of.items()
                for field in measures
            },
        }
        for m in board.lds.methods
    ]
    return Table("groups", columns, rows)


def _seen(p: MeasuredPlanted) -> Table:
    """Recall by relation; what the model learns of each stands above."""
    learned = Table(
        "relations",
        [
            text("relation", "relation"),
            number("pairs", "pairs"),
            interval(
                "learned", "what the model learns from the relative, as a share of what it learns of itself"
            ),
        ],
        [vars(relation) for relation in p.relations if relation.learned],
    )
    columns = [
        METHOD,
        interval("recall", f"recall@{p.first}"),
        *(number(f"recall_{r.relation}", r.relation, ".2f") for r in p.relations),
        interval("decoys", f"decoys in the first {p.first}", ".1f"),
        number("tie", "duplicates apart", ".3f"),
    ]
    rows = planted_table(p).rows
    note = (
        f"By chance {p.decoys_by_chance:.1f} of the first {p.first} are decoys. Duplicates apart: how far "
        "two copies of one recording score from each other, as a share of how far the first training track "
        "stands above the median one. What a model learns from a duplicate is 1 by construction: it is the "
        "same recording."
    )
    return Table("planted", columns, rows, notes=[note], above=[learned])
