"""The page of one attribution: a self-contained HTML file that can be sent to those it is about. It says what
can be said of the clip and how sure it is, plays and compares, and tells how all of it was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from linernotes.artefacts import replacing
from linernotes.attribution.result import Attribution, Effect, TrackScore
from linernotes.attribution.spans import CHANCE
from linernotes.audio import Sound
from linernotes.report.cards import ShownTrack, cards_of, effect_scale
from linernotes.report.media import Shelf, inline
from linernotes.report.pictures import scores_svg, spectrogram_png
from linernotes.report.shares import shares_of
from linernotes.report.table import Table, number, text
from linernotes.report.words import clock, percent
from linernotes.settings.methods import METHOD_SETTINGS

MEANINGS = {
    "unlearning": "how much a copy of the model that was made to forget the clip got worse at them.",
    "gradient": "how much training on them pulled the model toward the clip, as its gradients say.",
    "similarity": "how much they resemble the clip; what the model learned was not asked.",
    "chance": "chance.",
}


def in_words(effect: Effect) -> str:
    """An expected effect with its interval, in percent of the clip's loss."""
    return f"{effect.expected:.2%} [{effect.low:.2%}, {effect.high:.2%}]"


def score_in_words(track: TrackScore) -> str:
    """A score with its standard error, where that is known."""
    return f"{track.score:.3g}" + (f" ± {track.error.total:.1g}" if track.error else "")


def uncalibrated(attribution: Attribution) -> str:
    """What is said in a verdict's place where scores have no calibration."""
    several = ", of tracks of several segments," if attribution.gather else ""
    return (
        f"The tracks can be ranked, but none can be named: scores of {attribution.method} with these settings"
        f"{several} were never calibrated, so nothing tells what they are worth. 'linernotes calibrate' with "
        "them does."
    )


def ranking_table(attribution: Attribution, first: int) -> Table:
    """The ``first`` training tracks: scores with their standard errors, how many decoys stand above each, and
    effects.
    """
    shown = attribution.first_trained(first)
    columns = [
        number("rank", "#"),
        text("title", "title"),
        text("artist", "artist", spare=True),
        text("scored", "score"),
    ]
    columns += [text("above", "decoys above", spare=True)] if attribution.decoys else []
    if attribution.verdict and not attribution.verdict.reasons:
        columns += [
            text("effect", "expected effect"),
            text("a_minute", "a minute", spare=True),
            text("named", "named"),
        ]
    rows = [
        {
            **t.model_dump(),
            "scored": score_in_words(t),
            "a_minute": "" if t.effect_a_minute is None else f"{t.effect_a_minute:.2%}",
            "above": f"{t.decoys_above} of {attribution.decoys}",
            "effect": in_words(t.effect) if t.effect else "",
            "named": bool(t.effect and t.effect.named),
        }
        for t in shown
    ]
    skipped = bool(shown) and shown[-1].rank > len(shown)
    notes = (
        ["Ranks that are missing are decoys, which were never trained on and are neither shown nor named."]
        if skipped
        else []
    )
    further = (attribution.verdict.named if attribution.verdict else 0) - sum(
        bool(t.effect and t.effect.named) for t in shown
    )
    if further > 0:
        notes.append(f"{further} more that can be named are in the record, on its page and in its credits.")
    return Table("ranking", columns, rows, notes=notes)


@dataclass(frozen=True)
class Shown:
    """What the page of an attribution is drawn from."""

    attribution: Attribution
    clip: Sound | None  # None if it can no longer be heard
    tracks: Sequence[ShownTrack]
    training: Sequence[float]  # the scores of all tracks
    decoys: Sequence[float]
    command: str  # repeats the attribution
    missing: Sequence[str] = ()  # what cannot be heard, and why, one sentence each


def write_page(path: Path, shown: Shown) -> None:
    """Writes the page of an attribution, with everything in it."""
    page = _environment().get_template("page.html.j2").render(_context(shown, inline))
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def page_content(shown: Shown, shelf: Shelf) -> str:
    """What stands on that page between its head and foot, as HTML; sounds and pictures are on a shelf."""
    template = _environment().get_template("page.html.j2")
    context = template.new_context(_context(shown, shelf))
    return "".join(template.blocks["content"](context))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("linernotes.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"clock": clock, "percent": percent, "scored": score_in_words}
    return environment


def _context(shown: Shown, shelf: Shelf) -> dict[str, Any]:
    attribution, clip = shown.attribution, shown.clip
    described = METHOD_SETTINGS[attribution.method]
    player, cards = cards_of(clip, shown.tracks, shelf)
    low, high = effect_scale(shown.tracks)
    return {
        "a": attribution,
        "verdict": attribution.verdict,
        "judged": attribution.verdict is not None and not attribution.verdict.reasons,
        "meaning": MEANINGS[described.family],
        "summary": described.__doc__,
        "clip": player,
        "spectrogram": shelf(spectrogram_png(clip), "spectrogram") if clip else "",
        "cards": cards,
        "shares": shares_of(attribution),
        "last_named": max((card.number for card in cards if card.named), default=0),
        "scale": (low, high),
        "strips": any(card.evidence for card in cards),
        "chance": CHANCE,
        "missing": shown.missing,
        "uncalibrated": uncalibrated(attribution),
        "scores": scores_svg(list(shown.training), list(shown.decoys)),
        "n_training": len(shown.training),
        "n_decoys_between": max((t.score.rank for t in shown.tracks), default=0) - len(shown.tracks),
        "command": shown.command,
    }
