"""The leaderboard as a Markdown page: every method, every measure, with the rules at its head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from linernotes.artefacts import replacing
from linernotes.evaluation.counterfactual import Outcome
from linernotes.evaluation.groups import GroupScore
from linernotes.evaluation.hubs import HubShare
from linernotes.evaluation.intervals import Interval
from linernotes.evaluation.lds import LdsTable
from linernotes.evaluation.planted import PlantedTable
from linernotes.report.truth import tell_lds, tell_planted
from linernotes.settings.methods import METHOD_SETTINGS

RULES = """\
- **Truth.** {models} models of the same architecture and recipe were trained anew on random halves of the {tracks}
  training tracks, {pairs} of the halves a second time with another seed. A method is asked for its scores of
  {reporting} generated clips; the other {tuning} clips were there to choose settings with, and are not reported on.
- **LDS** is the Spearman correlation, over the retrained models, of the summed scores of the tracks a model saw and
  its loss of the clip (sign turned), mean over clips. Intervals are 95 %, by bootstrap over clips and models
  together.
- **The ceiling** is what a perfect predictor of the expected loss would reach: {ceiling}. Two seeds on the same
  half correlate at {seeds} only, since training is a matter of chance.
- **Truncated**: only the first tracks of each clip count, by how far they stand above the next; how many is chosen
  on the tuning clips. A likeness that is not truncated is a straw man.
- **Leave-k-out**: by how much a clip's loss rises when the model is trained without the method's first tracks for
  it, over what leaving out as many random tracks does, and over what it does to the other clips (*its own rise*).
  *Pooled*: one set of tracks for all clips is left out, those that stand highest for any of them. Intervals are
  over models and clips.
- *LDS of predictions*: the same, with how far the retrained model's predictions moved in place of its loss. *Hub
  share*: the share of the first ten that two clips have in common. *s a clip*: seconds, all clips in one run, some of
  what is computed once per model being there already; what methods cost is measured in docs/measured/costs.md.
  *Spectrum moved*: how much further the clip made again moved than without random tracks. *NDCG@3*: how good the
  first three groups are; 1 is best.
- Methods run with their defaults unless the command says otherwise. Defaults were chosen on the tuning clips; the
  figures of the others were seen, too, while methods were developed (dev/LOG.md), and all clips share the same
  retrained models. Planted relatives are scored on fewer draws (4, or one a noise band).
- A method that does not beat the likenesses (`latent`, `timbre`, `tonal`, `activations`) has not shown that it sees
  inside the model. `tracin` is `grad-dot` where a model kept no checkpoints.{absent}
"""


@dataclass(frozen=True)
class Board:
    """All that the page says."""

    lds: LdsTable
    prediction: LdsTable
    within: LdsTable | None  # without what the numbers of tracks of each value of a column explain
    planted: PlantedTable | None  # None for a catalogue without known relations
    hubs: Mapping[str, HubShare]
    outcomes: Sequence[Outcome]  # empty while there is no leave-k-out
    groups: Mapping[str, Sequence[GroupScore]]  # by column, for those that were left out group by group
    seconds: Mapping[str, float]  # a clip, of all clips in one run
    tracks: int
    tuning: int
    pairs: int
    command: str


def write_leaderboard(path: Path, board: Board) -> None:
    """Writes the page, and beside it its pictures ``NAME-lds.svg`` and ``NAME-planted.svg``."""
    pictures = {"lds": tell_lds(board.lds).svg, **({"planted": tell_planted(board.planted).svg} if board.planted else {})}
    for name, svg in pictures.items():
        with replacing(path.with_name(f"{path.stem}-{name}.svg")) as temporary:
            temporary.write_text(svg, encoding="utf-8")
    with replacing(path) as temporary:
        temporary.write_text(_page(board, path.stem), encoding="utf-8")


def _page(board: Board, stem: str) -> str:
    t = board.lds
    absent = [f"`{name}`" for name in METHOD_SETTINGS if name not in {m.method for m in t.methods}]
    rules = RULES.format(
        models=t.models, tracks=board.tracks, pairs=board.pairs, reporting=t.queries, tuning=board.tuning, ceiling=t.ceiling,
        seeds=t.seed_correlation, absent=f" Not on this board: {', '.join(absent)}." if absent else "",
    )  # fmt: skip
    parts = [
        "# Leaderboard: attribution held against retraining",
        f"Written by `{board.command}`, from a retrain bank and the scores kept with it.",
        "## Rules",
        rules,
        "## LDS",
        f"![LDS of every method beside the noise ceiling]({stem}-lds.svg)",
        _lds_table(board),
        _strata(board),
        "## Leave-k-out",
        _counterfactual_table(board.outcomes),
    ]
    if board.groups:
        parts += ["## Groups", _groups_table(board)]
    if board.planted:
        parts.append("## What each method sees")
        parts.append(f"![Recall of planted relatives, by method and relation]({stem}-planted.svg)")
        parts.append(_planted_table(board.planted))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _lds_table(board: Board) -> str:
    prediction = {m.method: m.lds for m in board.prediction.methods}
    ceiling = board.lds.ceiling.value
    rows = [
        [
            f"`{m.method}`", _bounds(m.lds), _percent(m.of_ceiling) if ceiling else "",
            f"{_bounds(m.truncated)} ({m.kept})" if m.truncated else "", _bounds(m.behind) if m.behind else "",
            _bounds(m.behind_truncated) if m.behind_truncated else "",
            _bounds(prediction[m.method]), f"{board.hubs[m.method].share.value:.2f}",
            f"{board.seconds[m.method]:.1f}" if m.method in board.seconds else "",
        ]
        for m in board.lds.methods
    ]  # fmt: skip
    head = [
        "method", "LDS", "of the ceiling", "truncated (to)", f"behind `{board.lds.reference}`", "truncated, behind it",
        "LDS of predictions", "hub share", "s a clip",
    ]  # fmt: skip
    return _table(head, rows)


def _strata(board: Board) -> str:
    """LDS by kind of prompt, and within the groups of a column."""
    kinds, within = list(board.lds.methods[0].by_kind), board.within
    left = {m.method: m for m in within.methods} if within else {}
    head = ["method", *kinds, *([f"within each {within.within}", "truncated", "behind", "truncated, behind"] if within else [])]
    rows = [
        [
            f"`{m.method}`", *(f"{m.by_kind[kind]:.2f}" for kind in kinds),
            *(
                _bounds(i) if i else ""
                for i in (
                    (left[m.method].lds, left[m.method].truncated, left[m.method].behind, left[m.method].behind_truncated)
                    if within else ()
                )
            ),
        ]
        for m in board.lds.methods
    ]  # fmt: skip
    told = "By kind of prompt"
    if within:
        told += (
            f", and within each {within.within} (what the mere *number* of tracks of each explains is taken out of losses and "
            f"predictions: what is left is *which* of them a model saw; ceiling {within.ceiling})"
        )
    return f"{told}:\n\n{_table(head, rows)}"


def _counterfactual_table(outcomes: Sequence[Outcome]) -> str:
    if not outcomes:
        return "Not trained yet: `linernotes evaluate counterfactual --methods ... -o OUT`."
    rows = [
        [
            f"`{o.method}`", f"{o.percent:g} %{' pooled' if o.pooled else ''} ({o.tracks:.0f})", f"{o.retrains} / {o.clips}",
            _fine(o.specific), f"{100 * o.relative.value:.1f} %", _fine(o.rise), _fine(o.control) if o.control else "",
            _fine(o.over_likeness) if o.over_likeness else "", _bounds(next(iter(o.distances.values()))),
        ]
        for o in sorted(outcomes, key=lambda o: (o.pooled, o.percent, -o.specific.value))
    ]  # fmt: skip
    head = [
        "method", "left out (tracks)", "retrains / clips", "the clip's own rise", "as a share", "rise of its loss",
        "of other clips'", "over the best likeness", "spectrum moved, dB",
    ]  # fmt: skip
    return _table(head, rows)


def _groups_table(board: Board) -> str:
    columns = list(board.groups)
    of = {column: {g.method: g for g in found} for column, found in board.groups.items()}
    head = ["method", *(f"{c}: {what}" for c in columns for what in ("first one right", "truncated", "NDCG@3"))]
    rows = [
        [
            f"`{m.method}`",
            *(
                _bounds(i) if i else ""
                for c in columns
                for i in (of[c][m.method].top1, of[c][m.method].truncated, of[c][m.method].ndcg)
            ),
        ]
        for m in board.lds.methods
    ]
    told = (
        "One model was trained without each group of tracks. Does a method's sum over a group (of scores less the clip's mean, "
        "since groups differ in size) name the one whose absence raises the clip's loss most, and how good are its first "
        "three? Intervals are over clips; the truth is a single retrain a group and noisy itself, so small differences mean "
        "nothing."
    )
    return f"{told}\n\n{_table(head, rows)}"


def _planted_table(p: PlantedTable) -> str:
    learned = _table(
        ["relation", "pairs", "what the model learns from the relative, as a share of what it learns of itself"],
        [[r.relation, str(r.pairs), _bounds(r.learned)] for r in p.relations if r.learned],
    )
    rows = [
        [
            f"`{m}`", _bounds(recall), *(f"{r.recall[m]:.2f}" for r in p.relations),
            f"{p.decoys[m].value:.1f} [{p.decoys[m].low:.1f}, {p.decoys[m].high:.1f}]", f"{p.tie[m]:.3f}",
        ]
        for m, recall in p.recall.items()
    ]  # fmt: skip
    head = [
        "method",
        f"recall@{p.first}",
        *(r.relation for r in p.relations),
        f"decoys in the first {p.first}",
        "duplicates apart",
    ]
    told = (
        f"By chance {p.decoys_by_chance:.1f} of the first {p.first} are decoys. Duplicates apart: how far two copies of one "
        "recording score from each other, as a share of how far the first training track stands above the median one. What a "
        "model learns from a duplicate is 1 by construction: it is the same recording."
    )
    return f"{learned}\n\n{_table(head, rows)}\n\n{told}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _percent(i: Interval) -> str:
    return f"{100 * i.value:.0f} % [{100 * i.low:.0f}, {100 * i.high:.0f}]"


def _bounds(i: Interval) -> str:
    return f"{i.value:.2f} [{i.low:.2f}, {i.high:.2f}]"


def _fine(i: Interval) -> str:
    return f"{i.value:+.4f} [{i.low:+.4f}, {i.high:+.4f}]".replace("-0.0000", "+0.0000")
