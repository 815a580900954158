"""How loud a sound is to listeners: integrated loudness after ITU-R BS.1770-4, in LUFS."""

from __future__ import annotations

import numpy as np
import pyloudnorm

from linernotes.audio.sound import Sound

BLOCK_S = 0.4  # of the standard's gate: what is shorter has no integrated loudness
RMS_OFFSET_DB = -0.691  # the standard's own, so that both figures are on one scale


def integrated_lufs(sound: Sound) -> float:
    """Integrated loudness of one or two channels; the root mean square in its stead where a sound is shorter
    than the standard's block or lies below its gate. ``-inf`` for digital silence.
    """
    samples_nc = sound.samples.T.astype(np.float64)
    if sound.seconds >= BLOCK_S:
        # the standard adds up the power of channels; of silence the gate leaves nothing
        with np.errstate(divide="ignore", invalid="ignore"):
            lufs = float(pyloudnorm.Meter(sound.rate_hz).integrated_loudness(samples_nc))
        if np.isfinite(lufs):
            return lufs
    power = float(np.mean(samples_nc**2, axis=0).sum()) if samples_nc.size else 0.0
    return RMS_OFFSET_DB + 10 * float(np.log10(power)) if power > 0 else float("-inf")
