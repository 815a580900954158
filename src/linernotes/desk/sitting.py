"""The sounds of a blind test: the clip, and both tracks of each pair, under names that say nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from linernotes.artefacts import replacing
from linernotes.attribution.tables import SCORES, read_table
from linernotes.audio import Sound, read_sound
from linernotes.audio.loudness import integrated_lufs
from linernotes.catalog.store import Catalogue
from linernotes.demo.sounds import track_sound
from linernotes.desk.sounds import GONE
from linernotes.errors import LinernotesError
from linernotes.evaluation.listening import Pair
from linernotes.report.excerpts import LONGEST_S, gains
from linernotes.report.pictures import player_mp3


def put_sounds(
    folder: Path,
    clip: Path,
    attribution: Path,
    catalogue: Catalogue,
    pairs: Sequence[Pair],
    on_progress: Callable[[str, int, int], None],
) -> list[dict[str, float]]:
    """Writes ``clip.mp3``, ``1a.mp3``, ``1b.mp3``, ... Of a track the segment with the highest score is
    heard, of one that is named and of one that is not.

    Args:
        folder: what they are written into.
        attribution: the folder with the scores.

    Returns:
        For each pair how far the clip, a and b are turned down to be equally loud.

    Raises:
        LinernotesError: a recording has gone.
    """
    best = _best_starts(attribution)
    whole = read_sound(clip)
    sound = Sound(whole.samples[:, : round(LONGEST_S * whole.rate_hz)], whole.rate_hz)
    _put(folder / "clip.mp3", sound)
    levels = []
    for number, pair in enumerate(pairs, start=1):
        on_progress("preparing pairs", number - 1, len(pairs))
        heard = {}
        for side in "ab":
            place = pair.named if side == pair.named_is else pair.other
            heard[side] = _heard(catalogue, place, best.get(catalogue.tracks[place].track_id, 0.0))
            _put(folder / f"{number}{side}.mp3", heard[side])
        found = gains([integrated_lufs(one) for one in (sound, heard["a"], heard["b"])])
        levels.append(dict(zip(("clip", "a", "b"), found, strict=True)))
    return levels


def _best_starts(folder: Path) -> dict[str, float]:
    """Where the highest-scoring segment of every track begins, in seconds."""
    table = read_table(folder / SCORES)
    best: dict[str, tuple[float, float]] = {}
    for name, start_s, score in zip(
        table["track_id"].to_pylist(), table["start_s"].to_pylist(), table["score"].to_pylist(), strict=True
    ):
        if name not in best or score > best[name][0]:
            best[name] = (score, start_s)
    return {name: start_s for name, (_, start_s) in best.items()}


def _heard(catalogue: Catalogue, place: int, start_s: float) -> Sound:
    track = catalogue.tracks[place]
    sound = track_sound(catalogue, track, start_s, min(catalogue.encoding.segment_s, LONGEST_S))
    if sound is None:
        raise LinernotesError(GONE.format(track.title or track.track_id))
    return sound


def _put(path: Path, sound: Sound) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(player_mp3(sound).content)
