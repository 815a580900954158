"""What a sound is like, in numbers: chroma (pitch classes over time) and timbre (levels in bands). Nothing of
models.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from linernotes.audio import Sound

CHROMA_HZ = (60.0, 5000.0)
CHROMA_LAG = 6  # frames of 46 ms: the next note of a melody
BANDS = 48
RANGE_DB = 60.0


def chroma(sound: Sound) -> np.ndarray:
    """Energy in each of 12 pitch classes over time ``[12, frames]``, each frame scaled to length 1 (silence
    stays 0).
    """
    power, hz = _power(sound, window_s=0.186, hop_s=0.046)
    classes = np.round(69 + 12 * np.log2(np.maximum(hz, 1) / 440)).astype(int) % 12
    inside = (hz > CHROMA_HZ[0]) & (hz < CHROMA_HZ[1])
    folded = np.stack([power[inside & (classes == c)].sum(axis=0) for c in range(12)])
    length = np.linalg.norm(folded, axis=0)
    return folded / np.maximum(length, 1e-3 * max(float(length.max()), 1e-12))


def timbre(sound: Sound) -> np.ndarray:
    """Mean, deviation and mean rise of the level in 48 logarithmic bands, loudest moment = 0 dB:
    ``[144]``.
    """
    level_db = _levels_db(sound)
    rise = np.maximum(np.diff(level_db, axis=1), 0).mean(axis=1)
    return np.concatenate([level_db.mean(axis=1), level_db.std(axis=1), rise])


def tonal(sound: Sound) -> np.ndarray:
    """Pitch classes and how they follow each other, one row a transposition: ``[12, 156]``, each row of
    length 1.

    Row r describes the sound transposed up by r semitones: its mean chroma, and the mean product of each pair
    of pitch classes ``CHROMA_LAG`` frames apart.
    """
    chroma_pt = chroma(sound)
    before, after = (
        (chroma_pt[:, :-CHROMA_LAG], chroma_pt[:, CHROMA_LAG:])
        if chroma_pt.shape[1] > CHROMA_LAG
        else (chroma_pt,) * 2
    )
    mean_p, follow_pp = chroma_pt.mean(axis=1), before @ after.T / before.shape[1]
    rows = [
        np.concatenate([np.roll(mean_p, r), np.roll(follow_pp, (r, r), axis=(0, 1)).ravel()])
        for r in range(12)
    ]
    turned = np.stack(rows)
    return turned / max(float(np.linalg.norm(turned[0])), 1e-12)


def chroma_correlation(a: Sound, b: Sound) -> float:
    """Pearson correlation of two sounds' chroma over all frames and classes; 0 if either is constant."""
    one, two = chroma(a), chroma(b)
    frames = min(one.shape[1], two.shape[1])
    one, two = one[:, :frames].ravel(), two[:, :frames].ravel()
    return float(np.corrcoef(one, two)[0, 1]) if one.std() > 0 and two.std() > 0 else 0.0


def level_distance_db(a: Sound, b: Sound) -> float:
    """Root mean squared difference of two sounds' levels in 48 bands over time, each sound's loudest moment =
    0 dB.
    """
    one, two = _levels_db(a), _levels_db(b)
    frames = min(one.shape[1], two.shape[1])
    return float(np.sqrt(np.mean((one[:, :frames] - two[:, :frames]) ** 2)))


def _levels_db(sound: Sound) -> np.ndarray:
    """Level of 48 logarithmic bands over time, no lower than ``-RANGE_DB``: ``[48, frames]``."""
    power, hz = _power(sound, window_s=0.093, hop_s=0.023)
    edges = np.geomspace(160, min(10000, sound.rate_hz / 2), BANDS + 1)
    band = np.stack([power[(hz >= low) & (hz < high)].mean(axis=0) for low, high in pairwise(edges)])
    return np.maximum(10 * np.log10(band / max(float(band.max()), 1e-12) + 1e-12), -RANGE_DB)


def _power(sound: Sound, window_s: float, hop_s: float) -> tuple[np.ndarray, np.ndarray]:
    window = round(window_s * sound.rate_hz)
    transform = ShortTimeFFT(hann(window, sym=False), hop=round(hop_s * sound.rate_hz), fs=sound.rate_hz)
    mono = sound.samples.mean(axis=0)
    padded = np.pad(mono, (0, max(0, window - len(mono))))  # a sound may be a single latent frame
    return np.abs(transform.stft(padded)) ** 2, transform.f
