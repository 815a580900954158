"""The page of one attribution: a self-contained HTML file that plays, compares and says how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from linernotes.artefacts import replacing
from linernotes.attribution.result import Attribution, Effect, TrackScore
from linernotes.audio import Sound
from linernotes.report.pictures import evidence_svg, player_source, scores_svg, spectrogram_png
from linernotes.report.table import Table, number, text
from linernotes.settings.methods import METHOD_SETTINGS

MEANINGS = {
    "unlearning": "how much a copy of the model that was made to forget the clip got worse at them.",
    "gradient": "how much training on them pulled the model toward the clip, as its gradients say.",
    "similarity": "how much they resemble the clip; what the model learned was not asked.",
    "chance": "chance.",
}


@dataclass(frozen=True)
class ShownTrack:
    """A track of the page: its place, its sound from where its best segment begins, and the evidence
    there.
    """

    score: TrackScore
    details: Sequence[tuple[str, str]]  # label and text: album, key, licence, ...
    sound: Sound | None  # None when the recording is no longer where it was
    change_t: np.ndarray | None  # change of loss per frame of its best segment, for methods that have it


def in_words(effect: Effect) -> str:
    """An expected effect with its interval, in percent of the clip's loss."""
    return f"{effect.expected:.2%} [{effect.low:.2%}, {effect.high:.2%}]"


def ranking_table(attribution: Attribution, first: int) -> Table:
    """The ``first`` training tracks, with how many decoys stand above each."""
    shown = attribution.first_trained(first)
    columns = [
        number("rank", "#"),
        text("title", "title"),
        text("artist", "artist"),
        number("score", "score", ".3g"),
    ]
    columns += [text("above", "decoys above")] if attribution.decoys else []
    if attribution.verdict:
        columns += [text("effect", "expected effect"), text("named", "named")]
    rows = [
        {
            **t.model_dump(),
            "above": f"{t.decoys_above} of {attribution.decoys}",
            "effect": in_words(t.effect) if t.effect else "",
            "named": bool(t.effect and t.effect.named),
        }
        for t in shown
    ]
    skipped = bool(shown) and shown[-1].rank > len(shown)
    notes = (
        ["Ranks that are missing are decoys: they were never trained on, so they are false alarms."]
        if skipped
        else []
    )
    return Table("ranking", columns, rows, notes=notes)


def write_page(
    path: Path,
    attribution: Attribution,
    clip: Sound | None,
    shown: Sequence[ShownTrack],
    training: Sequence[float],
    decoys: Sequence[float],
    command: str,
    missing: Sequence[str] = (),
) -> None:
    """Writes the page of an attribution.

    Args:
        clip: its sound, None if it can no longer be heard.
        training, decoys: the scores of all tracks.
        command: repeats the attribution.
        missing: what cannot be heard, and why, one sentence each.
    """
    best = max((t.score.score for t in shown), default=1.0)
    strips = [t.change_t for t in shown if t.change_t is not None]
    highest = max((float(np.abs(change_t).max()) for change_t in strips), default=1.0)
    described = METHOD_SETTINGS[attribution.method]
    tracks = [
        {
            "score": t.score,
            "details": t.details,
            "width": max(0.0, 100 * t.score.score / best) if best > 0 else 0.0,
            "audio": player_source(t.sound) if t.sound else None,
            "spectrogram": spectrogram_png(t.sound) if t.sound else None,
            "seconds": t.sound.seconds if t.sound else 0.0,
            "evidence": evidence_svg(t.change_t, highest) if t.change_t is not None else "",
        }
        for t in shown
    ]
    environment = Environment(
        loader=PackageLoader("linernotes.report", "."), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["clock"] = lambda s: f"{round(s) // 60}:{round(s) % 60:02d}"
    page = environment.get_template("page.html.j2").render(
        a=attribution,
        meaning=MEANINGS[described.family],
        summary=described.__doc__,
        strips=bool(strips),
        query={"audio": player_source(clip), "spectrogram": spectrogram_png(clip), "seconds": clip.seconds}
        if clip
        else None,
        missing=missing,
        tracks=tracks,
        scores=scores_svg(list(training), list(decoys)),
        n_training=len(training),
        n_decoys_between=max((t.score.rank for t in shown), default=0) - len(shown),
        command=command,
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
