"""What a decoder gives, as blocks of one kind: float32 in -1..1, one or two channels, one rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import soxr

from linernotes.audio.sound import with_channels

Block = np.ndarray  # [channels, n] float32

BLOCK_SAMPLES = 1 << 18
SCALE = {"u8": 128.0, "s16": 32768.0, "s32": 2147483648.0, "s64": 9223372036854775808.0}
# how loud each loudspeaker's channel is in the left and the right of two (ITU-R BS.775)
PLACES = {
    "FL": (1.0, 0.0),
    "FR": (0.0, 1.0),
    "FC": (0.7071, 0.7071),
    "LFE": (0.0, 0.0),
    "BL": (0.7071, 0.0),
    "BR": (0.0, 0.7071),
    "SL": (0.7071, 0.0),
    "SR": (0.0, 0.7071),
    "BC": (0.5, 0.5),
    "FLC": (1.0, 0.0),
    "FRC": (0.0, 1.0),
    "DL": (1.0, 0.0),
    "DR": (0.0, 1.0),
}


class Blocks:
    """Turns decoded frames into blocks ``[1 or 2, n]`` float32 at one rate; small frames are gathered."""

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz, self.channels, self.own_hz = rate_hz, 0, rate_hz
        self.resample: Any = None
        self.waiting: list[np.ndarray] = []

    def add(self, frame: Any) -> Block:
        samples = _two(_floats(frame), [channel.name for channel in frame.layout.channels])
        self.channels = self.channels or samples.shape[0]
        samples = with_channels(samples, self.channels)
        if frame.sample_rate != self.own_hz:
            self._flush()
            self.own_hz = frame.sample_rate
            if self.own_hz != self.rate_hz:
                self.resample = soxr.ResampleStream(self.own_hz, self.rate_hz, self.channels, quality="VHQ")
        self.waiting.append(
            self.resample.resample_chunk(np.ascontiguousarray(samples.T)).T if self.resample else samples
        )
        return self._taken() if sum(b.shape[1] for b in self.waiting) >= BLOCK_SAMPLES else self._nothing()

    def end(self) -> Block:
        self._flush()
        return self._taken()

    def _flush(self) -> None:
        if self.resample:
            self.waiting.append(
                self.resample.resample_chunk(np.zeros((0, self.channels), np.float32), last=True).T
            )
            self.resample = None

    def _taken(self) -> Block:
        block = np.concatenate(self.waiting, axis=1) if self.waiting else self._nothing()
        self.waiting = []
        return block

    def _nothing(self) -> Block:
        return np.zeros((max(1, self.channels), 0), dtype=np.float32)


def _floats(frame: Any) -> np.ndarray:
    """``[channels, n]`` float32; integers scaled to -1..1."""
    name = frame.format.name.removesuffix("p") if frame.format.is_planar else frame.format.name
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if name in SCALE:
        shifted = values.astype(np.float64) - (128.0 if name == "u8" else 0.0)
        return (shifted / SCALE[name]).astype(np.float32)
    return values.astype(np.float32)


def _two(samples_cn: np.ndarray, names: list[str]) -> np.ndarray:
    """At most two channels: those of loudspeakers are placed, channels that nobody named are averaged."""
    if len(samples_cn) <= 2:
        return samples_cn
    if not all(name in PLACES for name in names):
        return samples_cn.mean(axis=0, keepdims=True)
    places = np.array([PLACES[name] for name in names], dtype=np.float32)
    return places.T @ samples_cn
