"""Which parts of a track a page plays: the part with the highest score, and the passages that were aligned
with the clip where they lie elsewhere; and how far each sound is turned down so that all are equally loud.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from linernotes.attribution.result import Span, TrackScore
from linernotes.audio import Sound

LONGEST_S = 12.0  # of a track's main excerpt: ten tracks and their passages stay below about 6 MB
MARGIN_S = 0.5  # heard before and after a passage that lies outside the main excerpt
MOST_TURNED_DOWN_DB = 20.0  # one sound that is all but silent does not silence the others
SLACK_S = 0.11  # a passage's last cell may reach past the end of a recording


@dataclass(frozen=True)
class Excerpt:
    """Sound of a track from ``start_s`` of the track on."""

    start_s: float
    sound: Sound

    def holds(self, span: Span) -> bool:
        """Whether the track's passage of a span can be heard in it."""
        end_s = self.start_s + self.sound.seconds
        return self.start_s - 1e-3 <= span.track_start_s and span.track_end_s <= end_s + SLACK_S


def main_part(track: TrackScore, segment_s: float) -> tuple[float, float]:
    """Where the main excerpt of a track begins, and its length at most, in seconds: the best segment, or as
    much of it as a page may hold, about the strongest passage that lies in it.
    """
    first_s, length_s = track.best_segment_start_s, min(segment_s, LONGEST_S)
    last_s = first_s + segment_s - length_s
    inside = [s for s in track.spans if first_s <= s.track_start_s and s.track_end_s <= first_s + segment_s]
    if not inside:
        return first_s, length_s
    middle_s = (inside[0].track_start_s + inside[0].track_end_s) / 2
    return min(max(first_s, middle_s - length_s / 2), last_s), length_s


def further_parts(track: TrackScore, main: Excerpt) -> list[tuple[float, float]]:
    """Beginnings and lengths, in seconds, of short excerpts for the passages that the main one lacks."""
    return [
        (start_s, span.track_end_s + MARGIN_S - start_s)
        for span in track.spans
        if not main.holds(span)
        for start_s in [max(0.0, span.track_start_s - MARGIN_S)]
    ]


def gains(lufs: Sequence[float]) -> list[float]:
    """The factor, 0 to 1, at which each sound is played so that all are as loud as the quietest: a browser
    turns down, never up.
    """
    heard = [value for value in lufs if value != float("-inf")]
    if not heard:
        return [1.0] * len(lufs)
    level = max(min(heard), max(heard) - MOST_TURNED_DOWN_DB)
    return [min(1.0, 10 ** ((level - value) / 20)) if value in heard else 1.0 for value in lufs]
