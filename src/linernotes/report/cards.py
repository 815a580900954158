"""What a page shows and plays of the clip and of each track: pictures, sounds with their loudness, the
interval of the effect, and the passages that belong together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from linernotes.attribution.result import Span, TrackScore
from linernotes.attribution.spans import CHANCE
from linernotes.audio import Sound
from linernotes.audio.loudness import integrated_lufs
from linernotes.report.excerpts import Excerpt, gains
from linernotes.report.media import Shelf
from linernotes.report.pictures import (
    alignment_png,
    evidence_svg,
    interval_svg,
    player_mp3,
    spectrogram_png,
)

Aligned = tuple[np.ndarray, np.ndarray, np.ndarray]  # products [clip, track], where each passage begins, in s


@dataclass(frozen=True)
class ShownTrack:
    """A track of the page: its place, what can be heard of it, and the evidence."""

    score: TrackScore
    details: list[tuple[str, str]]  # label and text: album, key, licence, ...
    duration_s: float | None = None  # of the whole track, where the catalogue is at hand
    excerpts: Sequence[Excerpt] = ()  # the main one first; none when the recording is no longer where it was
    change_t: np.ndarray | None = None  # change of loss per frame of the main one, for methods that have it
    aligned: Aligned | None = None  # for methods that know where


@dataclass(frozen=True)
class Player:
    """A sound of the page, turned down to be as loud as the others."""

    id: str
    name: str
    source: str
    start_s: float  # where in its recording it begins
    seconds: float
    lufs: float
    gain: float

    @property
    def down_db(self) -> float:
        """The gain in dB, 0 or less."""
        return 20 * float(np.log10(self.gain))


@dataclass(frozen=True)
class Pair:
    """A passage of the clip and one of a track, and the player that has the latter, if any."""

    span: Span
    player: Player | None

    @property
    def told_apart(self) -> bool:
        """Whether few shuffled tracks have a pair as strong."""
        return self.span.chance <= CHANCE


@dataclass(frozen=True)
class HeatMap:
    """The picture of an alignment, its extent in seconds, and its marked pairs in percent of it."""

    source: str
    clip_s: float
    track_s: float
    boxes: list[tuple[float, float, float, float]]  # left, bottom, width, height


@dataclass(frozen=True)
class Card:
    """One track as the page shows it."""

    number: int  # on the page; ranks may skip decoys
    shown: ShownTrack
    players: list[Player]
    spectrogram: str
    evidence: str
    interval: str
    pairs: list[Pair]
    heat_map: HeatMap | None

    @property
    def named(self) -> bool:
        effect = self.shown.score.effect
        return bool(effect and effect.named)


def cards_of(
    clip: Sound | None, shown: Sequence[ShownTrack], shelf: Shelf
) -> tuple[Player | None, list[Card]]:
    """The clip's player and the tracks' cards; all sounds are turned down to one loudness, and all intervals
    and evidence strips are drawn on one scale.

    Args:
        shelf: where sounds and pictures are put.
    """
    sounds = [clip] if clip else []
    sounds += [e.sound for t in shown for e in t.excerpts]
    loudness = [integrated_lufs(sound) for sound in sounds]
    levels = iter(zip(loudness, gains(loudness), strict=True))
    mine = None
    if clip:
        source = shelf(player_mp3(clip), "clip")
        mine = Player("clip", "the clip", source, 0.0, clip.seconds, *next(levels))
    low, high = effect_scale(shown)
    strips = [t.change_t for t in shown if t.change_t is not None and t.change_t.size]
    highest = max((float(np.abs(change_t).max()) for change_t in strips), default=1.0)
    cards = []
    for number, track in enumerate(shown, start=1):
        score = track.score
        players = []
        for i, e in enumerate(track.excerpts):
            identifier = f"passage-{number}-{i}" if i else f"track-{number}"
            name = f"track {number}, {score.title or score.track_id}"
            source = shelf(player_mp3(e.sound), identifier)
            players.append(Player(identifier, name, source, e.start_s, e.sound.seconds, *next(levels)))
        having = list(zip(track.excerpts, players, strict=True))
        pairs = [
            Pair(span, next((player for e, player in having if mine and e.holds(span)), None))
            for span in score.spans
        ]
        cards.append(
            Card(
                number,
                track,
                players,
                shelf(spectrogram_png(track.excerpts[0].sound), f"spectrogram-{number}")
                if track.excerpts
                else "",
                evidence_svg(track.change_t, highest) if track.change_t is not None else "",
                interval_svg(score.effect, low, high) if score.effect else "",
                pairs,
                heat_map(track.aligned, score.spans, shelf, f"alignment-{number}") if track.aligned else None,
            )
        )
    return mine, cards


def effect_scale(shown: Sequence[ShownTrack]) -> tuple[float, float]:
    """Ends of the scale on which the effects of all tracks are drawn; nothing, 0, is on it."""
    effects = [t.score.effect for t in shown if t.score.effect]
    return min([0.0, *(e.low for e in effects)]), max([0.0, *(e.high for e in effects)])


def heat_map(aligned: Aligned, spans: Sequence[Span], shelf: Shelf, name: str) -> HeatMap:
    """The picture of a clip's passages (upward) against a track's (to the right)."""
    pairs_qn, clip_q, track_n = aligned
    # all passages are equally long; of a single one the length is not known, and need not be
    cell_s = float((np.diff(track_n) if len(track_n) > 1 else np.diff(clip_q)).min(initial=np.inf))
    cell_s = cell_s if np.isfinite(cell_s) else 1.0
    clip_s, track_s = float(clip_q[-1]) + cell_s, float(track_n[-1]) + cell_s
    boxes = [
        (
            100 * s.track_start_s / track_s,
            100 * s.clip_start_s / clip_s,
            100 * (s.track_end_s - s.track_start_s) / track_s,
            100 * (s.clip_end_s - s.clip_start_s) / clip_s,
        )
        for s in spans
    ]
    return HeatMap(shelf(alignment_png(pairs_qn), name), clip_s, track_s, boxes)
