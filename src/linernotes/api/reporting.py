"""Pages: an attribution's is drawn from its files alone, and can be drawn
again; a comparison's when it is made.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from linernotes.attribution.filing import PAGE
from linernotes.attribution.query import Clip, clip_sound
from linernotes.attribution.result import Attribution, TrackScore, record_at
from linernotes.attribution.run import FIRST_TRACKS
from linernotes.attribution.tables import read_evidence, read_track_scores
from linernotes.audio import AudioError, Sound
from linernotes.catalog.store import Catalogue
from linernotes.demo.provider import track_sound
from linernotes.errors import LinernotesError
from linernotes.evaluation.comparison import Compared
from linernotes.report.comparison import ComparedClip, write_comparison
from linernotes.report.page import ShownTrack, write_page

SIDE_BY_SIDE = 5  # first tracks of each method on a comparison's page


def draw_page(attribution: str | Path, out: str | Path | None = None) -> Path:
    """Draws the page of an attribution from its record and the tables beside it, without a model.

    What can no longer be heard (a clip or a catalogue that has gone or has
    changed) is left out, and the page says why.

    Args:
        attribution: an ``attribution.json``, or its folder.
        out: the page; ``report.html`` beside the record if None.

    Raises:
        LinernotesError: no record, a damaged one, or one that a newer linernotes wrote.
    """
    path = record_at(attribution)
    read = Attribution.load(path)
    scores, splits = read_track_scores(path.parent, read.method)
    change_t, missing = read_evidence(path.parent), []
    clip: Sound | None = None
    try:
        clip = clip_sound(read.sources.clips)
    except (AudioError, LinernotesError, OSError) as error:
        missing.append(f"The clip cannot be heard here: {error}.")
    first = read.first_trained(FIRST_TRACKS)
    sounds, why = _sounds(read, first)
    shown = [
        ShownTrack(t, list(t.details.items()), sounds.get(t.track_id), change_t.get(t.track_id))
        for t in first
    ]
    page = Path(out) if out else path.parent / PAGE
    by_split = {
        split: [s for name, s in scores.items() if splits[name] == split] for split in ("train", "decoy")
    }
    command = f"{read.sources.command} --settings {shlex.quote(str(path))} -o again"
    write_page(
        path=page,
        attribution=read,
        clip=clip,
        shown=shown,
        training=by_split["train"],
        decoys=by_split["decoy"],
        command=command,
        missing=[*missing, *why],
    )
    return page


def draw_comparison(
    folder: Path, found: Compared, clips: Sequence[Clip], catalogue: Catalogue, command: str
) -> Path:
    """Draws ``compare.html``: how far methods agree, and what each puts first for every clip.

    Args:
        command: what repeats the comparison.
    """
    one = next(iter(found.attributions.values()))
    shown = [
        ComparedClip(
            name=clip.query.name,
            prompt=clip.query.prompt,
            sound=clip.sound,
            first={m: done[q].first_trained(SIDE_BY_SIDE) for m, done in found.attributions.items()},
            cautions=one[q].cautions,
        )
        for q, clip in enumerate(clips)
    ]
    named = {
        t.track_id: t.best_segment_start_s for clip in shown for first in clip.first.values() for t in first
    }
    tracks = {track.track_id: track for track in catalogue.tracks}
    sounds = {name: track_sound(catalogue, tracks[name], start_s) for name, start_s in named.items()}
    page = folder / "compare.html"
    write_comparison(page, found.agreement, shown, sounds, command)
    return page


def _sounds(read: Attribution, first: list[TrackScore]) -> tuple[dict[str, Sound | None], list[str]]:
    """The sound of tracks from where their best segments begin, by identifier; and why there is none."""
    try:
        catalogue = Catalogue(Path(read.sources.catalogue))
    except LinernotesError as error:
        return {}, [f"Tracks cannot be heard here: {error}."]
    if catalogue.hash != read.catalogue_hash:
        return {}, [
            f"Tracks cannot be heard here: {catalogue.path} is no longer the catalogue that was attributed "
            "to."
        ]
    tracks = {track.track_id: track for track in catalogue.tracks}
    return {t.track_id: track_sound(catalogue, tracks[t.track_id], t.best_segment_start_s) for t in first}, []
