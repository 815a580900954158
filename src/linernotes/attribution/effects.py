"""What a score is worth: score -> expected rise of the clip's loss without the track, with an interval, as
retraining has shown it (``evaluation.calibration`` fits it).

Effects are shares of the clip's loss, over what an unrelated track does. They shrink as a catalogue grows, so
the map is kept free of its size: N times the effect is a function of N times the score over the clip's loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel
from scipy.special import ndtr
from scipy.stats import gamma

from linernotes.artefacts import hash_json, write_json
from linernotes.records.reading import parsed, read_content
from linernotes.settings.methods import METHOD_SETTINGS, Gather, MethodSettings
from linernotes.version import SCHEMA_VERSION, __version__

LEVEL = 0.90  # of the intervals of effects
# what changes the noise of a score, or nothing at all, but not its unit
NOT_ASKED = ("seed", "batch_size")
TINY = 1e-6  # keeps the slope of a power finite at 0
NODES = 100  # of the gamma distribution
TURNS, STRIDE = 4, 7  # maps that a node meets, and how far the next one's are from them
HALVINGS = 40  # of the reach of a quantile

Shape = Literal["power", "exponential"]


class Curve(BaseModel, frozen=True):
    """Four numbers: the map's level and bend, and how far single tracks lie from it.

    N x effect is f times a gamma variate of mean 1 and deviation ``share``, plus a normal one of variance
    ``own``^2 S, S the segments of the track: what a track does is some multiple of what is expected of it,
    and besides that a little for good or ill, as any unrelated track does.
    """

    scale: float  # a
    bend: float  # p
    share: float
    own: float


class Calibration(BaseModel, frozen=True):
    """What ``calibration.json`` holds: the map of one method's scores, and the retraining it rests on."""

    kind: Literal["calibration"] = "calibration"
    schema_version: int = SCHEMA_VERSION
    linernotes: str = __version__
    method: str
    settings: dict[str, Any]
    gather: Gather | None = None  # of tracks of several segments; None: each was one, or before norms
    shape: Shape
    curve: Curve
    resamples: list[Curve]  # over clips and retrained models together
    whole: float  # the effect of a track taken at random, times how many there are
    retrain_sd: float  # of a clip's loss from training seed to training seed, as a share of it
    fitness: float | None  # the model's loss of its own tracks, as a share of what knowing nothing costs
    clips: int
    models: int
    tracks: int
    bank: str
    model: str
    model_hash: str
    catalogue_hash: str

    @property
    def hash(self) -> str:
        """Names it in records."""
        said = self.model_dump()
        return hash_json(said if self.gather else {k: v for k, v in said.items() if k != "gather"})

    def fits(self, method: str, settings: MethodSettings, gather: Gather | None) -> bool:
        """Whether scores of a method under these settings have the unit that was calibrated.

        Args:
            gather: ``catalog.gathering.noted`` of the catalogue. What a score of several segments is worth is
                not what one is of a single segment.
        """
        asks = method, asked(settings.model_dump()), gather
        return (self.method, asked(self.settings), self.gather) == asks

    def save(self, path: Path) -> None:
        write_json(path, self.model_dump())

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Reads a ``calibration.json``, or the one in a folder.

        Raises:
            LinernotesError: missing, damaged, or of a newer linernotes.
        """
        file = path / "calibration.json" if path.is_dir() else path
        remedy = "make one with 'linernotes calibrate'"
        content = read_content(file, "calibration", SCHEMA_VERSION, remedy)
        return parsed(cls, file, content, remedy)


@dataclass(frozen=True)
class Effects:
    """Expected effects of T tracks on one clip, as shares of its loss."""

    expected_t: np.ndarray
    low_t: np.ndarray  # of the interval that holds LEVEL; nan where it was not asked for
    high_t: np.ndarray
    doubt_t: np.ndarray  # the probability that the track did no more than an unrelated one


def asked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a score's unit depends on."""
    return {name: value for name, value in settings.items() if name not in NOT_ASKED}


def shape_of(method: str) -> Shape:
    """What a method's scores are: differences of losses (a signed power), or likenesses in a unit of their
    own.
    """
    kind = METHOD_SETTINGS[method]
    return "power" if kind.family in ("unlearning", "gradient") and kind.gather == "norm" else "exponential"


def argument(shape: Shape, scores_t: np.ndarray, loss: float, n_training: int) -> np.ndarray:
    """What the map is a function of: N s / L of scores that are losses; of others, how many standard
    deviations a track stands above the clip's mean.
    """
    if shape == "power":
        return scores_t * n_training / loss
    return (scores_t - scores_t.mean()) / max(float(scores_t.std()), 1e-12)


def mapped(shape: Shape, argument_t: np.ndarray, curve: Curve) -> np.ndarray:
    """N times the expected effect: a sign(u) |u|^p, or a exp(p u)."""
    if shape == "power":
        return curve.scale * np.sign(argument_t) * (np.abs(argument_t) + TINY) ** curve.bend
    return curve.scale * np.exp(curve.bend * argument_t)


def effects_of(
    calibration: Calibration,
    scores_t: np.ndarray,
    segments_t: np.ndarray,
    loss: float,
    n_training: int,
    first: int | None = None,
) -> Effects:
    """Expected effects of training tracks on a clip.

    Args:
        first: of how many tracks, by expected effect, intervals are asked for; they take most of the time. Of
            all if None; others' have none, unless what they did may be told apart from nothing.
        scores_t: the tracks' scores of the calibrated method.
        segments_t: how many segments each has, or the sum of the squares of how often training saw them: a
            sum of many is less certain than one of few.
        loss: the clip's, under the model.
        n_training: training segments of the catalogue.
    """
    u_t = argument(calibration.shape, scores_t, loss, n_training)
    curve = calibration.curve
    f_t = mapped(calibration.shape, u_t, curve)
    # what is not known of the map, too: any of these may be it
    drawn_bt = np.stack([mapped(calibration.shape, u_t, drawn) for drawn in calibration.resamples])
    sd_t = curve.own * np.sqrt(segments_t)
    doubt_t = below(np.zeros_like(f_t), drawn_bt, sd_t, curve.share)
    if first is None or first >= len(f_t):
        asked_t = np.ones(len(f_t), dtype=bool)
    else:
        asked_t = np.zeros(len(f_t), dtype=bool)
        asked_t[np.argpartition(-f_t, first)[:first]] = True
        asked_t |= doubt_t <= 0.5 - LEVEL / 2
    low_t, high_t = np.full((2, len(f_t)), np.nan)
    for edge_t, p in ((low_t, 0.5 - LEVEL / 2), (high_t, 0.5 + LEVEL / 2)):
        edge_t[asked_t] = quantile(drawn_bt[:, asked_t], sd_t[asked_t], curve.share, p)
    return Effects(f_t / n_training, low_t / n_training, high_t / n_training, doubt_t)


def below(x_t: np.ndarray, f_bt: np.ndarray, sd_t: np.ndarray, share: float) -> np.ndarray:
    """The probability that f G + sd Z is at most x, f any of B maps' (all as probable), G gamma of mean 1 and
    deviation ``share``, Z normal.

    Each node of G meets ``TURNS`` of the maps, every map as many nodes low and high.
    """
    multiples = gamma.ppf((np.arange(NODES) + 0.5) / NODES, 1 / share**2, scale=share**2)
    sd_t, maps = np.maximum(sd_t, TINY), len(f_bt)
    turns = min(TURNS, maps)
    found_t = np.zeros(np.shape(x_t))
    for turn in range(turns):
        for i, multiple in enumerate(multiples):
            found_t += ndtr((x_t - f_bt[(STRIDE * i + turn) % maps] * multiple) / sd_t)
    return found_t / (turns * NODES)


def quantile(f_bt: np.ndarray, sd_t: np.ndarray, share: float, p: float) -> np.ndarray:
    """What f G + sd Z is at most with probability ``p``, by bisection."""
    largest_t, middle_t = np.abs(f_bt).max(axis=0), f_bt.mean(axis=0)
    reach_t = 10 * (sd_t + largest_t * max(share, 1.0)) + TINY
    low_t, high_t = middle_t - reach_t, middle_t + reach_t
    for _ in range(HALVINGS):
        middle_t = (low_t + high_t) / 2
        under_t = below(middle_t, f_bt, sd_t, share) < p
        low_t, high_t = np.where(under_t, middle_t, low_t), np.where(under_t, high_t, middle_t)
    return (low_t + high_t) / 2


def track_variance(f_t: np.ndarray, segments_t: np.ndarray, curve: Curve) -> np.ndarray:
    """Variance of N times the effect about the map, between tracks of the same score."""
    return curve.own**2 * segments_t + (curve.share * f_t) ** 2
