"""What jobs leave behind, entered into the database: lists and searches read it there, and never from
records.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, insert, select, text
from sqlalchemy.orm import Session

from linernotes.artefacts import hash_json
from linernotes.attribution.result import Attribution
from linernotes.catalog.store import Catalogue
from linernotes.desk import queue
from linernotes.desk.schema import AttributionRow, ShareRow, TrackRow
from linernotes.report.page import uncalibrated
from linernotes.report.shares import shares_of

WORDS = ("title", "artist", "album", "caption", "identifiers")  # what tracks are searched by


def clip_id(content: str, prompt: str | None, generated: bool) -> str:
    """The name of a clip: the same sound, given with the same prompt, is the same clip; with its sidecar it
    is another one, of which more is known.
    """
    return hash_json([content, prompt, *(["generated"] if generated else [])])


def attribution_id(clip_id: str, method: str, *rests_on: str) -> str:
    """The name of an answer: the same question has the same one, and whatever it rests on (model, catalogue,
    calibration, ...) gives another. So no answer is written over, and what was credited by it stays true.
    """
    return hash_json([clip_id, method, *rests_on])


def file_attribution(session: Session, name: str, clip_id: str, read: Attribution) -> None:
    """Enters an attribution; once, however often it is entered."""
    if session.get(AttributionRow, name) is not None:
        return
    shares, verdict = shares_of(read), read.verdict
    may_share = shares is not None and verdict is not None and not verdict.reasons
    session.add(
        AttributionRow(
            id=name,
            clip_id=clip_id,
            method=read.method,
            model=read.model,
            model_hash=read.model_hash,
            catalogue_hash=read.catalogue_hash,
            sentence=verdict.sentence if verdict else uncalibrated(read),
            named=verdict.named if verdict else 0,
            remainder=shares.remainder + shares.base if shares and may_share else None,
            lent=bool(verdict and verdict.lent),
            tracks=read.training_tracks,
        )
    )
    session.flush()
    share = {s.track.track_id: s.share for s in shares.named} if shares and may_share else {}
    session.add_all(
        ShareRow(
            attribution_id=name,
            track_id=track.track_id,
            number=number,
            score=track.score,
            named=bool(track.effect and track.effect.named),
            expected=track.effect.expected if track.effect else None,
            low=track.effect.low if track.effect else None,
            high=track.effect.high if track.effect else None,
            share=share.get(track.track_id),
            start_s=track.best_segment_start_s,
        )
        for number, track in enumerate(read.first_trained(len(read.tracks)), start=1)
    )


def file_tracks(session: Session, catalogue: Catalogue) -> None:
    """Enters the tracks of a catalogue, to be searched, in the place of those of the one before."""
    if queue.fact(session, "tracks").get("hash") == catalogue.hash:
        return
    session.execute(delete(TrackRow))
    session.execute(text("INSERT INTO track_words(track_words) VALUES ('delete-all')"))
    rows, words = [], []
    for place, (track, seconds) in enumerate(
        zip(catalogue.tracks, catalogue.seconds_t.tolist(), strict=True)
    ):
        rows.append(
            {
                "place": place,
                "track_id": track.track_id,
                "title": track.title or track.track_id,
                "artist": track.artist,
                "split": track.split,
                "seconds": seconds,
                "details": track.details,
            }
        )
        identifiers = " ".join([track.track_id, track.isrc, track.iswc, track.work_id])
        words.append(
            {
                "place": place,
                "title": track.title,
                "artist": track.artist,
                "album": track.album,
                "caption": track.caption,
                "identifiers": identifiers,
            }
        )
    if rows:
        session.execute(insert(TrackRow), rows)
        columns = ", ".join(WORDS)
        values = ", ".join(f":{word}" for word in WORDS)
        session.execute(text(f"INSERT INTO track_words(rowid, {columns}) VALUES (:place, {values})"), words)
    queue.note(session, "tracks", {"hash": catalogue.hash, "count": len(rows), "path": str(catalogue.path)})


def named_tracks(session: Session, attribution: str) -> Sequence[ShareRow]:
    """The tracks that an attribution names, first ones first."""
    rows = select(ShareRow).where(ShareRow.attribution_id == attribution, ShareRow.named)
    return session.scalars(rows.order_by(ShareRow.number)).all()
