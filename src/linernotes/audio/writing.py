"""Writes sound: whole or not at all."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import numpy as np
import soundfile

from linernotes.artefacts import replacing
from linernotes.audio.sound import Sound
from linernotes.settings.paths import require_sound_name

WRITTEN_FRAMES = 1 << 16


def write_sound(path: Path, sound: Sound) -> None:
    """Writes 16-bit WAV or FLAC, or OGG Vorbis, by the suffix of ``path``; whole or not at all."""
    require_sound_name(path)
    with replacing(path) as temporary:
        try:
            with soundfile.SoundFile(temporary, "w", sound.rate_hz, len(sound.samples)) as file:
                # libsndfile's Vorbis dies of 2^21 at once
                for start in range(0, sound.samples.shape[1], WRITTEN_FRAMES):
                    file.write(np.clip(sound.samples[:, start : start + WRITTEN_FRAMES], -1, 1).T)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            full = shutil.disk_usage(path.parent).free < sound.samples.nbytes
            raise OSError(
                errno.ENOSPC if full else errno.EIO, str(error).split(": ", 1)[-1], str(path)
            ) from None
