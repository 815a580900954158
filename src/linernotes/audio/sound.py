"""Sound in memory, and what is said of sound that cannot be used."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from linernotes.errors import LinernotesError

SILENCE_PEAK = 1e-4  # -80 dB of full scale: below the noise of a 14-bit recorder


class AudioError(LinernotesError):
    """A file that cannot be used. ``reason`` is its class in one or two words."""

    def __init__(self, path: Path, reason: str, detail: str) -> None:
        super().__init__(f"{path} is {reason}: {detail}")
        self.reason = reason
        self.detail = detail


# what the system says of a disk, a share or a process, and not of a file
NOT_OF_A_FILE = {
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOTCONN,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
}


def require_reach(path: str | Path, error: BaseException) -> None:
    """Passes on an error that is not about the file itself: nothing is known of one that cannot be read
    *now*, and it must not be taken for one that is damaged or missing.

    Raises:
        LinernotesError: the error is of that kind.
    """
    if not (isinstance(error, OSError) and error.errno in NOT_OF_A_FILE):
        return
    raise LinernotesError(
        f"{path} cannot be read now ({error.strerror or error}): look after the disk or share that it lies "
        "on, then run the same command again"
    ) from None


@dataclass(frozen=True)
class Sound:
    """Samples ``[channels, n]`` float32 and their rate."""

    samples: np.ndarray
    rate_hz: int

    @property
    def seconds(self) -> float:
        return self.samples.shape[1] / self.rate_hz

    def converted(self, rate_hz: int, channels: int) -> Sound:
        """The same sound at another rate (soxr, very high quality) and with 1 or 2 channels."""
        samples = with_channels(self.samples, channels)
        if self.rate_hz != rate_hz:
            samples = soxr.resample(samples.T, self.rate_hz, rate_hz, quality="VHQ").T
        return Sound(np.ascontiguousarray(samples, dtype=np.float32), rate_hz)


def with_channels(samples_cn: np.ndarray, channels: int) -> np.ndarray:
    """One or two channels from one or two: their mean, or the one repeated."""
    if samples_cn.shape[0] == channels:
        return samples_cn
    return np.repeat(samples_cn.mean(axis=0, keepdims=True), channels, axis=0)


def loudness_db(samples: np.ndarray, frame_samples: int) -> np.ndarray:
    """Root mean square of each frame in dB of full scale: ``[channels, T * frame_samples]`` -> ``[T]``
    float32.
    """
    framed = samples.reshape(samples.shape[0], -1, frame_samples)
    power = np.einsum("cts,cts->t", framed, framed, dtype=np.float64) / (framed.shape[0] * frame_samples)
    return (10 * np.log10(power + 1e-12)).astype(np.float32)
