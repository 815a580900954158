"""Where a catalogue's sound comes from: the built-in tunes are played, other recordings are read."""

from __future__ import annotations

from pathlib import Path

from linernotes.audio import Sound, read_part
from linernotes.catalog.store import Catalogue
from linernotes.catalog.track import Track
from linernotes.demo.places import BUILTIN
from linernotes.demo.render import playing_of, render_track
from linernotes.errors import LinernotesError
from linernotes.models.encoding import Encoding


def builtin_sound(track: Track, start_s: float, shape: Encoding) -> Sound:
    """One track of the built-in catalogue or a benchmark, rendered now, from ``start_s`` on: one segment of
    it, or all of one that says how long it is.
    """
    whole = track.extra.get("seconds")
    samples = render_track(
        track.source,
        track.extra["instrument"],
        track.extra["tempo"],
        round(float(whole) * shape.rate_hz) if whole else shape.segment_samples,
        shape.rate_hz,
        playing_of(track),
    )
    return Sound(samples[:, round(start_s * shape.rate_hz) :], shape.rate_hz)


def track_sound(
    catalogue: Catalogue, track: Track, start_s: float, seconds: float | None = None
) -> Sound | None:
    """Sound of a track from ``start_s`` on, ``seconds`` of it or one segment; None when the recording cannot
    be read any more.
    """
    source, encoding = catalogue.record["source"], catalogue.encoding
    seconds = encoding.segment_s if seconds is None else seconds
    if source == BUILTIN:
        sound = builtin_sound(track, start_s, encoding)
        return Sound(sound.samples[:, : round(seconds * sound.rate_hz)], sound.rate_hz)
    try:
        # a folder of latents says of which recordings they are
        name = track.extra.get("recording") if catalogue.record.get("pre_encoded") else None
        sound = read_part(Path(source) / (name or track.file_name), start_s, seconds)
    except (LinernotesError, OSError):
        return None
    # one latent frame: what is shorter is not what was scored
    least = encoding.frame_samples / encoding.rate_hz
    return sound if sound.seconds >= least else None
