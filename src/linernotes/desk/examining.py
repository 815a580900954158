"""Whether a file is sound: run as a process of its own, which limits may end: ``python -m
linernotes.desk.examining FILE LONGEST_S SECONDS BYTES``. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

RATE_HZ = 44100
NICENESS = 10  # pages go first


def main(path: Path, longest_s: float) -> dict[str, object]:
    """What the file holds, or why it cannot be used."""
    from linernotes.audio.reading import stream_sound
    from linernotes.errors import LinernotesError

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


def limit(seconds: int, most_bytes: int) -> None:
    """What this process may take, after others; beyond, it is ended.

    Set here: between fork and exec of a server with threads nothing may be done that takes a lock.
    """
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)


if __name__ == "__main__":
    limit(int(sys.argv[3]), int(sys.argv[4]))
    print(json.dumps(main(Path(sys.argv[1]), float(sys.argv[2]))))
