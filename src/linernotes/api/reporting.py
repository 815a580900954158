"""Pages: an attribution's is drawn from its files alone, and can be drawn
again; a comparison's when it is made.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from linernotes.attribution.query import Clip, clip_sound
from linernotes.attribution.result import FIRST_TRACKS, PAGE, Attribution, TrackScore, record_at
from linernotes.attribution.spans import read_alignments
from linernotes.attribution.tables import read_evidence, read_track_scores
from linernotes.audio import AudioError, Sound
from linernotes.catalog.store import Catalogue
from linernotes.demo.sounds import track_sound
from linernotes.errors import LinernotesError
from linernotes.evaluation.comparison import Compared
from linernotes.report.cards import Aligned, ShownTrack
from linernotes.report.comparison import ComparedClip, write_comparison
from linernotes.report.excerpts import Excerpt, further_parts, main_part
from linernotes.report.media import beside
from linernotes.report.page import Shown, page_content, write_page

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
    page = Path(out) if out else path.parent / PAGE
    write_page(page, _page(path))
    return page


def draw_content(attribution: str | Path, folder: Path, prefix: str, clip: str | Path) -> str:
    """The same page for a server, as HTML between its own head and foot; sounds and pictures become files.

    Args:
        folder: what sounds and pictures are written into; the server has it at ``prefix``.
        clip: where the clip lies now.
    """
    return page_content(_page(record_at(attribution), Path(clip)), beside(folder, prefix))


def _page(path: Path, clip: Path | None = None) -> Shown:
    """What the page of the record at ``path`` is drawn from. The clip lies where it says unless given."""
    read = Attribution.load(path)
    scores, splits = read_track_scores(path.parent, read.method)
    missing = []
    sound: Sound | None = None
    files = read.sources.clips
    if clip is not None and len(files) == 1:
        files = [files[0].model_copy(update={"path": str(clip)})]
    try:
        sound = clip_sound(files)
    except (AudioError, LinernotesError, OSError) as error:
        missing.append(f"The clip cannot be heard here: {error}.")
    first = read.first_trained(FIRST_TRACKS)
    catalogue, why = _catalogue(read)
    by_split = {
        split: [s for name, s in scores.items() if splits[name] == split] for split in ("train", "decoy")
    }
    return Shown(
        attribution=read,
        clip=sound,
        tracks=_shown(first, catalogue, read_evidence(path.parent), read_alignments(path.parent)),
        training=by_split["train"],
        decoys=by_split["decoy"],
        command=f"{read.sources.command} --settings {shlex.quote(str(path))} -o again",
        missing=[*missing, *why],
    )


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


def _catalogue(read: Attribution) -> tuple[Catalogue | None, list[str]]:
    """The catalogue that was attributed to; or why nothing of it can be heard."""
    try:
        catalogue = Catalogue(Path(read.sources.catalogue))
    except LinernotesError as error:
        return None, [f"Tracks cannot be heard here: {error}."]
    if catalogue.hash != read.catalogue_hash:
        return None, [
            f"Tracks cannot be heard here: {catalogue.path} is no longer the catalogue that was attributed "
            "to."
        ]
    return catalogue, []


def _shown(
    first: list[TrackScore],
    catalogue: Catalogue | None,
    evidence: Mapping[str, np.ndarray],
    alignments: Mapping[str, Aligned],
) -> list[ShownTrack]:
    """The first tracks with what can be heard of them."""
    places = {track.track_id: n for n, track in enumerate(catalogue.tracks)} if catalogue else {}
    shown = []
    for t in first:
        duration_s, excerpts, change_t = None, [], evidence.get(t.track_id)
        if catalogue:
            duration_s = float(catalogue.seconds_t[places[t.track_id]])
            excerpts = _excerpts(t, catalogue, places[t.track_id])
        if change_t is not None and catalogue and excerpts:
            frame_s = catalogue.encoding.frame_samples / catalogue.encoding.rate_hz
            before = round((excerpts[0].start_s - t.best_segment_start_s) / frame_s)
            change_t = change_t[before : before + math.ceil(excerpts[0].sound.seconds / frame_s - 1e-6)]
        details = list(t.details.items())
        shown.append(ShownTrack(t, details, duration_s, excerpts, change_t, alignments.get(t.track_id)))
    return shown


def _excerpts(t: TrackScore, catalogue: Catalogue, place: int) -> list[Excerpt]:
    """The part of a track with the highest score, and the passages that it lacks; none if it cannot be
    read.
    """
    track = catalogue.tracks[place]
    start_s, seconds = main_part(t, catalogue.encoding.segment_s)
    sound = track_sound(catalogue, track, start_s, seconds)
    if sound is None:
        return []
    excerpts = [Excerpt(start_s, sound)]
    for start_s, seconds in further_parts(t, excerpts[0]):
        sound = track_sound(catalogue, track, start_s, seconds)
        excerpts += [Excerpt(start_s, sound)] if sound else []
    return excerpts
