"""Whether the built-in model is good enough to attribute: what its codec keeps, and whether clips are what the prompt says.

Melody is compared by chroma, instruments by a small classifier trained on sound that never went through the codec.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from linernotes.audio import Sound

CHROMA_HZ = (60.0, 5000.0)
BANDS = 48
RANGE_DB = 60.0


@dataclass(frozen=True)
class CodecFidelity:
    """What encoding and decoding keeps, on tracks the codec was not fitted on."""

    tracks: int
    chroma_correlation: float
    instrument_before: float  # share of original sounds whose instrument the classifier names
    instrument_after: float  # the same of decoded sounds


def chroma(sound: Sound) -> np.ndarray:
    """Energy in each of 12 pitch classes over time ``[12, frames]``, each frame scaled to length 1 (silence stays 0)."""
    power, hz = _power(sound, window_s=0.186, hop_s=0.046)
    classes = np.round(69 + 12 * np.log2(np.maximum(hz, 1) / 440)).astype(int) % 12
    inside = (hz > CHROMA_HZ[0]) & (hz < CHROMA_HZ[1])
    folded = np.stack([power[inside & (classes == c)].sum(axis=0) for c in range(12)])
    length = np.linalg.norm(folded, axis=0)
    return folded / np.maximum(length, 1e-3 * max(float(length.max()), 1e-12))


def chroma_correlation(a: Sound, b: Sound) -> float:
    """Pearson correlation of two sounds' chroma over all frames and classes."""
    one, two = chroma(a), chroma(b)
    frames = min(one.shape[1], two.shape[1])
    return float(np.corrcoef(one[:, :frames].ravel(), two[:, :frames].ravel())[0, 1])


def timbre(sound: Sound) -> np.ndarray:
    """What the classifier hears: mean, deviation and mean rise of the level in 48 logarithmic bands, loudest moment = 0 dB."""
    power, hz = _power(sound, window_s=0.093, hop_s=0.023)
    edges = np.geomspace(160, min(10000, sound.rate_hz / 2), BANDS + 1)
    band = np.stack([power[(hz >= low) & (hz < high)].mean(axis=0) for low, high in zip(edges, edges[1:], strict=False)])
    level_db = np.maximum(10 * np.log10(band / max(float(band.max()), 1e-12) + 1e-12), -RANGE_DB)
    rise = np.maximum(np.diff(level_db, axis=1), 0).mean(axis=1)
    return np.concatenate([level_db.mean(axis=1), level_db.std(axis=1), rise])


def fit_instrument_classifier(sounds: Sequence[Sound], instruments: Sequence[str]) -> Pipeline:
    """A logistic regression from ``timbre`` to the instrument's name."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    return classifier.fit(np.stack([timbre(sound) for sound in sounds]), list(instruments))


def instrument_accuracy(classifier: Pipeline, sounds: Sequence[Sound], instruments: Sequence[str]) -> float:
    """Share of sounds whose instrument the classifier names."""
    named = classifier.predict(np.stack([timbre(sound) for sound in sounds]))
    return float(np.mean(named == np.asarray(instruments)))


def codec_fidelity(
    classifier: Pipeline, sounds: Sequence[Sound], instruments: Sequence[str], through: Callable[[Sound], Sound]
) -> CodecFidelity:
    """Compares sounds with what ``through`` (encode, then decode) makes of them."""
    after = [through(sound) for sound in sounds]
    return CodecFidelity(
        tracks=len(sounds),
        chroma_correlation=float(np.mean([chroma_correlation(a, b) for a, b in zip(sounds, after, strict=True)])),
        instrument_before=instrument_accuracy(classifier, sounds, instruments),
        instrument_after=instrument_accuracy(classifier, after, instruments),
    )


def _power(sound: Sound, window_s: float, hop_s: float) -> tuple[np.ndarray, np.ndarray]:
    window = round(window_s * sound.rate_hz)
    transform = ShortTimeFFT(hann(window, sym=False), hop=round(hop_s * sound.rate_hz), fs=sound.rate_hz)
    return np.abs(transform.stft(sound.samples.mean(axis=0))) ** 2, transform.f
