"""Replays an attribution from its record: the same clip, model, catalogue, settings and draws must give the
same scores, or what differs is said.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from linernotes.attribution.query import Clip, load_clip, sidecar_path
from linernotes.attribution.result import Attribution
from linernotes.attribution.run import content_hash, grouped, window_shares
from linernotes.attribution.tables import SCORES, read_table, read_weights
from linernotes.errors import LinernotesError
from linernotes.methods.all import METHODS, score
from linernotes.methods.contract import Prepared
from linernotes.models.contract import GenerativeModel, device_of
from linernotes.settings.methods import MethodSettings
from linernotes.settings.reading import checked, settings_of
from linernotes.version import __version__

ROUNDING = 1e-5  # of the largest score: what another device or version of a library may differ by


@dataclass(frozen=True)
class Replay:
    """What a replay found."""

    segments: int  # that were scored again
    of: int  # that were scored exactly
    differing: list[str]  # what is not as it was, one sentence each
    worst: float  # difference of a score, as a share of the largest
    same: bool  # no score differs by more than rounding

    @property
    def sentence(self) -> str:
        """The outcome."""
        what = "every segment" if self.segments == self.of else f"{self.segments} of {self.of} segments"
        found = (
            f"{what} scored again, the same to the last digit"
            if self.worst == 0
            else f"{what} scored again, the largest difference {self.worst:.1e} of the largest score"
        )
        return "; ".join([found, *self.differing])


def clips_of(read: Attribution, model: GenerativeModel) -> list[Clip]:
    """A record's clips as they are now; the prompt is the record's where no sidecar says it."""
    prompt = read.query.prompt if read.query.prompt_known else None
    paths = [Path(file.path) for file in read.sources.clips]
    return [load_clip(path, model, None if sidecar_path(path).exists() else prompt) for path in paths]


def require_same(place: Path, read: Attribution, clips: Sequence[Clip], prepared: Prepared) -> MethodSettings:
    """Refuses other things than a record was made from.

    Args:
        place: the record's, for the sentence.
        clips: as they are now.

    Returns:
        The record's settings.

    Raises:
        LinernotesError: the clip, the model or the catalogue is another one.
    """
    settings = checked(settings_of(read.method), read.settings, f" for {read.method}")
    for what, before, now in (
        ("clip", read.query.content_hash, content_hash(grouped(list(clips), settings)[0])),
        ("model", read.model_hash, prepared.model.weights_hash),
        ("catalogue", read.catalogue_hash, prepared.catalogue.hash),
    ):
        if before != now:
            raise LinernotesError(
                f"{place} was made from another {what} ({before}, not {now}): give that one, or attribute "
                "anew"
            )
    return settings


def replay(
    folder: Path, read: Attribution, clips: Sequence[Clip], prepared: Prepared, share: float, seed: int = 0
) -> Replay:
    """Scores a share of the segments again and holds them against ``scores.parquet``.

    Args:
        folder: of the record.
        clips: as they are now.
        share: of the segments, drawn at random; 1 for all.

    Raises:
        LinernotesError: the clip, the model or the catalogue is another one, so that nothing can be
            compared.
    """
    settings = require_same(folder, read, clips, prepared)
    if METHODS[read.method].reads(prepared, settings):
        raise LinernotesError(f"{read.method} reads files besides model and catalogue, and is not replayed")
    table = read_table(folder / SCORES)
    before_n = table["score"].to_numpy()
    total = len(prepared.rows)
    if len(before_n) != total:
        raise LinernotesError(f"{folder / SCORES} holds {len(before_n)} segments of {total}: attribute anew")
    exact = np.flatnonzero(read_weights(folder))
    count = max(1, round(share * len(exact)))
    rows = np.sort(np.random.default_rng(seed).permutation(exact)[:count])
    some = prepared if count == total else replace(prepared, only=tuple(int(row) for row in rows))
    if read.drawn != prepared.drawn:
        raise LinernotesError(
            f"{folder} is of training that drew {read.drawn} evenly: open the workspace with that"
        )
    work = Path(tempfile.mkdtemp(prefix="linernotes-replay-"))
    try:
        windows = [window for clip in clips for window in clip.windows]
        scores = score(read.method, some, windows, settings, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    hashed = scores.draws.hash if scores.draws else ""
    if read.noise_hash != hashed:
        raise LinernotesError(
            f"{folder} was scored on other draws ({read.noise_hash}, not {hashed}): attribute anew"
        )
    as_one = len(scores.scores_qn) == 1  # one window, or a set that was unlearned as one
    now_n = scores.scores_qn[0] if as_one else window_shares(list(clips))[0] @ scores.scores_qn
    now_n = some.as_seen(now_n, settings.gather)
    largest = float(np.abs(before_n).max()) or 1.0
    worst = float(np.abs(now_n - before_n[rows]).max()) / largest
    differing = [
        f"{what} was {before} and is {now}"
        for what, before, now in (
            ("linernotes", read.linernotes, __version__),
            ("the device", read.device, device_of(prepared.model).type),
        )
        if before != now
    ]
    return Replay(count, len(exact), differing, worst, worst <= ROUNDING)
