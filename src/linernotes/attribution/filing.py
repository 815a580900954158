"""Attributions in their folder: those that are there already are taken, others are made, and nothing that is
of something else is written over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from linernotes.artefacts import held
from linernotes.attribution.query import Clip
from linernotes.attribution.result import PAGE, RECORD, Attribution, rank_tracks
from linernotes.attribution.run import Attributed, attribute_clips, content_hash, grouped
from linernotes.attribution.shortlisting import audited_of, listed_of
from linernotes.attribution.tables import read_scores_of, read_segment_scores, read_track_errors, read_weights
from linernotes.attribution.verdict import Judge
from linernotes.catalog.gathering import noted, weigh_tracks
from linernotes.errors import LinernotesError
from linernotes.methods.all import METHODS
from linernotes.methods.contract import Prepared
from linernotes.models.contract import device_of
from linernotes.settings.methods import MethodSettings
from linernotes.version import __version__


def attributions_in(
    folder: Path,
    clips: list[Clip],
    prepared: Prepared,
    method: str,
    settings: MethodSettings,
    command: Sequence[str] = (),
    judge: Judge | None = None,
) -> list[Attributed]:
    """The attributions of clips in ``folder``: found there, or made now.

    Args:
        command: the words that ask for the same on the command line, without settings and output.
        judge: what the scores are worth; attributions found there that another calibration judged are judged
            anew.

    Raises:
        LinernotesError: the folder holds others, or is being written.
    """
    clips = grouped(clips, settings)
    with held(folder):
        if found := finished(clips, prepared, method, settings, folder):
            return [_judged(item, clip, prepared, judge) for item, clip in zip(found, clips, strict=True)]
        refuse_others(clips, prepared, method, settings, folder)
        for place, _ in filed(clips, folder):
            if (place / PAGE).is_file():  # of a record that has gone, or is made anew
                (place / PAGE).unlink()
        return attribute_clips(
            clips=clips,
            prepared=prepared,
            method=method,
            settings=settings,
            out=folder,
            command=command,
            judge=judge,
        )


def _judged(item: Attributed, clip: Clip, prepared: Prepared, judge: Judge | None) -> Attributed:
    before = item.attribution.verdict
    as_now = before is None or before.unknown == "mixed"
    same = (before.calibration_hash if before else None) == (judge.calibration.hash if judge else None)
    if same and as_now:
        return item
    (item.folder / PAGE).unlink(missing_ok=True)
    return judged_anew(item, clip, prepared, judge)


def finished(
    clips: list[Clip], prepared: Prepared, method: str, settings: MethodSettings, out: Path
) -> list[Attributed] | None:
    """The attributions that ``attribute_clips`` would write, if they are all in ``out`` already, made from
    the very same.

    A method that reads files besides model and catalogue has none: these may have changed.
    """
    if METHODS[method].reads(prepared, settings):
        return None
    found = []
    for folder, content in filed(clips, out):
        if not (folder / RECORD).exists():
            return None
        read = Attribution.load(folder / RECORD)
        if not _same(read, content, prepared, method, settings):
            return None
        found.append(Attributed(read, folder))
    return found


def judged_anew(item: Attributed, clip: Clip, prepared: Prepared, judge: Judge | None) -> Attributed:
    """The same scores, judged by another calibration, or by none: the same tracks are listed as if the clip
    were attributed now. Standard errors and passages are those of the record.
    """
    read, catalogue = item.attribution, prepared.catalogue
    scores_n, weight_n = read_segment_scores(item.folder), read_weights(item.folder)
    scores_t = read_scores_of(item.folder, read.method, catalogue.track_n, len(catalogue.tracks))
    effects, verdict = None, None
    if judge:
        weight_t = weigh_tracks(weight_n, catalogue.track_n, len(catalogue.tracks))
        error_t = read_track_errors(item.folder, catalogue.track_n, len(catalogue.tracks))
        effects, verdict = judge.judge(clip, prepared, scores_t, weight_t, error_t)
    before = {track.track_id: track for track in read.tracks}
    tracks = rank_tracks(
        scores_n=scores_n,
        track_n=catalogue.track_n,
        start_s_n=catalogue.start_s_n,
        tracks=catalogue.tracks,
        scores_t=scores_t,
        effects=effects,
        weight_n=weight_n,
        seconds_t=catalogue.seconds_t,
    )
    kept = [
        track.model_copy(update={"error": old.error, "spans": old.spans}) if old else track
        for track, old in ((track, before.get(track.track_id)) for track in tracks)
    ]
    judged = read.model_copy(update={"verdict": verdict, "tracks": kept})
    judged.save(item.folder / RECORD)
    return replace(item, attribution=judged)


def refuse_others(
    clips: list[Clip], prepared: Prepared, method: str, settings: MethodSettings, out: Path
) -> None:
    """Refuses to write over an attribution of another clip, method, model or catalogue.

    Raises:
        LinernotesError: there is one.
    """
    for folder, content in filed(clips, out):
        path = folder / RECORD
        if path.exists() and not _same(Attribution.load(path), content, prepared, method, settings):
            raise LinernotesError(
                f"{folder} holds another attribution already (of another clip, or made otherwise), and it is "
                "kept: give another folder with --out, or remove it"
            )


def _same(read: Attribution, content: str, prepared: Prepared, method: str, settings: MethodSettings) -> bool:
    """Whether an attribution was made from the very same."""
    model, catalogue = prepared.model, prepared.catalogue
    asked = (read.method, read.settings, read.query.content_hash) == (method, settings.model_dump(), content)
    given = (read.model_hash, read.catalogue_hash) == (model.weights_hash, catalogue.hash)
    by = (read.linernotes, read.device) == (__version__, device_of(model).type)
    index = read.shortlist.index_hash if read.shortlist else None
    same_list = index == (prepared.index.hash if prepared.index else None)
    if read.shortlist and prepared.index:
        count = read.shortlist.tracks + read.shortlist.outside
        same_list &= read.shortlist.tracks == listed_of(prepared, count)
        same_list &= read.shortlist.audited == audited_of(prepared, count)
    as_now = read.gather == noted(catalogue, settings.gather)
    return asked and given and by and same_list and as_now and read.drawn == prepared.drawn


def filed(clips: list[Clip], out: Path) -> list[tuple[Path, str]]:
    """Where each attribution goes, and the hash of what it is made from."""
    return [(out if len(clips) == 1 else out / clip.query.name, content_hash(clip)) for clip in clips]
