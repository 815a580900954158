"""Whether a file is sound: run as a process of its own, which limits may end: ``python -m
linernotes.desk.examining FILE LONGEST_S``. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from linernotes.audio.reading import stream_sound
from linernotes.errors import LinernotesError

RATE_HZ = 44100


def main(path: Path, longest_s: float) -> dict[str, object]:
    """What the file holds, or why it cannot be used."""
    samples, channels = 0, 0
    try:
        for block in stream_sound(path, RATE_HZ, 2):
            samples, channels = samples + block.shape[1], len(block)
            if samples > longest_s * RATE_HZ:
                return {
                    "error": f"{path} lasts longer than {longest_s / 60:g} minutes: cut it, and drop a part"
                }
    except LinernotesError as error:
        return {"error": str(error)}
    return {"seconds": samples / RATE_HZ, "rate_hz": RATE_HZ, "channels": channels}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), float(sys.argv[2]))))
