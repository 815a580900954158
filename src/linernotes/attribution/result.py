"""The attribution of one query: ranked tracks with scores and evidence, and all that is needed to repeat
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from linernotes.artefacts import write_json
from linernotes.catalog.track import Split, Track
from linernotes.index.recall import Shortlist
from linernotes.records.reading import parsed, read_content
from linernotes.records.seal import sealed, unsealed
from linernotes.settings.methods import Gather
from linernotes.version import RECORD_VERSION, __version__

RECORD = "attribution.json"
PAGE = "report.html"  # drawn from a record, and beside it
FIRST_TRACKS = 10  # how many training tracks get evidence and are shown
KEPT_TRACKS = 100  # training tracks in a record, more if more are named; all scores are in scores.parquet


def record_at(path: str | Path) -> Path:
    """An ``attribution.json``, given by its path or its folder."""
    return Path(path) / RECORD if Path(path).is_dir() else Path(path)


class QueryRecord(BaseModel):
    """The clip that was attributed."""

    name: str
    file: str
    prompt: str
    seconds: float
    generated: dict[str, Any] | None  # the sidecar's seed and model, for a generated clip
    content_hash: str = ""  # of latents, text embedding and heard frames: what the scores were made from
    prompt_known: bool = True
    # a clip longer than the model hears is cut, and its score is the mean over its windows by seconds
    windows: int = 1


class Effect(BaseModel):
    """What a track did to the clip: how much its loss would rise without the track, as a share of that loss
    (0.01 is 1 %).
    """

    expected: float
    low: float  # 90 % interval
    high: float
    named: bool  # told apart from nothing, with false ones among a statement's named tracks bounded


class ScoreError(BaseModel):
    """The standard error of a score: how far it would lie elsewhere had other noise been drawn, as it is with
    another seed. Of a track of several segments, that of one segment which noise lifts as high.
    """

    total: float
    # the part by the draws that the clip's gradient is a mean over; the rest is by those that items are
    # scored on. None: not known, and not in ``total``
    clip: float | None = None


class Span(BaseModel):
    """A passage of the clip and the passage of a track that it owes most to, in step."""

    clip_start_s: float
    clip_end_s: float
    track_start_s: float
    track_end_s: float
    strength: float  # of all that speaks for the track in any pair of passages
    chance: float  # the share of shuffled tracks that have a pair as strong


class Verdict(BaseModel):
    """What can be said of a clip in one sentence, and on what it rests."""

    sentence: str
    named: int  # tracks that can be named
    # expected effects of all training tracks that are above nothing, together: the whole that shares are of
    total: float
    # half of its 95 % interval; 0 where all tracks were scored exactly, and none was met by an audit alone
    total_error: float = 0.0
    expected_false: float  # of the named ones
    reasons: list[str]  # why none may be named whatever the scores are
    loss: float  # of the clip, under the model
    fitness: float | None  # the model's loss of its own tracks, as a share of what knowing nothing costs
    own: (
        float | None
    )  # probability that a clip of the model's own is as far off; None if it is known to be one
    random_track: float  # the effect of a track taken at random
    retrain_sd: float  # of a clip's loss from training seed to training seed
    lent: bool  # whether the calibration is of another model than this one
    calibration: str  # where it was measured, in words
    calibration_hash: str
    # how what is not known of the calibration's curve stands in intervals: as normal, before; or as any of
    # the curves that may be
    unknown: Literal["normal", "mixed"] = "normal"


class AdapterPart(BaseModel):
    """What of a clip is an adapter's, and what its base model's.

    ``share`` = (loss without the adapter - loss with it) / (loss of predicting nothing - loss with it),
    between 0 and 1: of all that the adapted model's knowledge lowers the clip's loss by, the part that came
    with the adapter. It is the last step that is measured, from the base model to the adapted one, and what
    the two can only do together is counted as the adapter's. A loss is no measure of likeness: a small share
    may be all that a listener hears of a style.
    """

    base: str  # the base model
    base_hash: str
    loss: float  # of the clip with the adapter
    base_loss: float  # without it
    nothing: float | None  # of predicting 0; None for a model that predicts no numbers
    share: float | None


class TrackScore(BaseModel):
    """One track's place in an attribution."""

    rank: int  # among all tracks, decoys included; 1 is first
    track_id: str
    title: str
    artist: str
    score: float
    split: Split
    decoys_above: int  # (other) decoys that score at least as high; decoys were never trained on
    best_segment_start_s: float  # where in the track the highest-scoring segment begins
    seconds: float | None = None  # of the track, as far as the catalogue has it
    error: ScoreError | None = None  # of the score; of methods that compare losses on two draws or more
    estimated: bool = False  # it was not on the shortlist: its score is what such tracks have on average
    effect: Effect | None = None  # of a training track, where scores were calibrated
    spans: list[Span] = []  # of the first tracks, for methods that know where
    # what else the catalogue says of it: album, caption, licence, identifiers, ...
    details: dict[str, str] = {}

    @property
    def effect_a_minute(self) -> float | None:
        """The expected effect over the track's minutes, by which long and short tracks can be compared."""
        return 60 * self.effect.expected / self.seconds if self.effect and self.seconds else None


class ClipFile(BaseModel):
    """A file that was attributed, and a hash of its samples, so that a page never plays another one."""

    path: str
    sound_hash: str


class Sources(BaseModel):
    """Where all that an attribution was made from lay: what a page needs to be heard, and a person to repeat
    it.
    """

    clips: list[ClipFile]
    model: str = ""
    catalogue: str
    # that asks for the same on the command line, but for settings and output: those are the record's
    command: str


class Attribution(BaseModel):
    """What ``attribution.json`` holds. Scores are oriented: higher = removing the track would hurt the query
    more.
    """

    kind: Literal["attribution"] = "attribution"
    schema_version: int = RECORD_VERSION
    linernotes: str = __version__
    torch: str
    device: str
    query: QueryRecord
    method: str
    orientation: str
    settings: dict[str, Any]
    seed: int
    model: str
    model_hash: str
    catalogue: str
    catalogue_hash: str
    noise_hash: str
    # how scores of tracks of several segments were gathered from theirs (``catalog.gathering``); None: every
    # track is one segment, or has the highest of likenesses, or, before norms, the sum
    gather: Gather | None = None
    # what training drew evenly: a segment's score counts as often as training saw it
    drawn: Literal["segments", "tracks"] = "segments"
    verdict: Verdict | None = None  # None: scores of this method, so set, have no calibration
    adapter: AdapterPart | None = None  # where the model is one with an adapter
    cautions: list[str] = []  # what a reader must know before the ranking; shown wherever it is
    training_tracks: int
    decoys: int
    segments: int  # that were scored exactly
    shortlist: Shortlist | None = None  # how these were chosen; None: they are all
    tracks: list[TrackScore]  # the first ones; all are in scores.parquet
    sources: Sources

    def first_trained(self, n: int) -> list[TrackScore]:
        """The first ``n`` tracks that were trained on. Ranks that are missing among theirs belong to
        decoys.
        """
        return [track for track in self.tracks if track.split == "train"][:n]

    def save(self, path: Path) -> None:
        write_json(path, sealed(self.model_dump(mode="json")))

    @classmethod
    def load(cls, path: Path) -> Attribution:
        """Reads an ``attribution.json``.

        Raises:
            LinernotesError: missing, damaged, or of another schema version.
        """
        remedy = "attribute the clip anew, into another folder"
        content = read_content(path, "attribution", RECORD_VERSION, remedy)
        return parsed(cls, path, unsealed(content), remedy)


def rank_tracks(
    scores_n: np.ndarray,
    track_n: np.ndarray,
    start_s_n: np.ndarray,
    tracks: list[Track],
    scores_t: np.ndarray,
    effects: Mapping[int, Effect] | None = None,
    weight_n: np.ndarray | None = None,
    seconds_t: np.ndarray | None = None,
    errors: Sequence[ScoreError | None] = (),
) -> list[TrackScore]:
    """The first tracks, highest score first, until ``KEPT_TRACKS`` of them were trained on and all that are
    named are there; ties keep the catalogue's order.

    Args:
        scores_n, scores_t: of segments and of their tracks.
        effects: by a track's place in ``tracks``.
        weight_n: of how many tracks each one's track speaks; of none if it was not scored exactly. Of itself
            if None.
        seconds_t, errors: of all tracks, where they are known.
    """
    exact = np.ones(len(tracks)) if weight_n is None else np.bincount(track_n, weight_n, len(tracks))
    best, rising = np.full(len(tracks), -1), np.argsort(scores_n, kind="stable")
    best[track_n[rising]] = rising  # of several for one track the last stays
    decoys = np.sort(scores_t[[not track.trained for track in tracks]])
    order = np.argsort(-scores_t, kind="stable")
    trained = np.array([tracks[i].trained for i in order])
    named = [i for i, track in enumerate(order) if effects and track in effects and effects[track].named]
    kept = max(int(np.searchsorted(np.cumsum(trained), KEPT_TRACKS)), *named[-1:], 0)
    order = order[: kept + 1]
    return [
        TrackScore(
            rank=rank,
            track_id=tracks[i].track_id,
            title=tracks[i].title,
            artist=tracks[i].artist,
            score=float(scores_t[i]),
            split=tracks[i].split,
            decoys_above=len(decoys) - int(np.searchsorted(decoys, scores_t[i])) - (not tracks[i].trained),
            best_segment_start_s=float(start_s_n[best[i]]),
            seconds=None if seconds_t is None else float(seconds_t[i]),
            error=errors[i] if errors and exact[i] else None,
            estimated=not exact[i],
            effect=effects.get(int(i)) if effects else None,
            details=tracks[i].details,
        )
        for rank, i in enumerate(order, start=1)
    ]
