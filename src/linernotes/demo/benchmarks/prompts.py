"""The clips of a benchmark on which nothing is tuned: half made by captions that were trained on, half by new
ones.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from linernotes.demo.benchmarks.description import Planned, PlannedQuery

CLIPS_OF_A_KIND = 12
HEARD_OF_A_KIND = 3  # clips that are made again by every retrain


def half_by_new_captions(
    planned: Sequence[Planned], seed: int, without: Collection[str] = ()
) -> list[PlannedQuery]:
    """Clips by captions of training tracks (``caption``), and by captions that decoys have and no training
    track (``recombined``). All are for reporting.

    Args:
        seed: of the choice; the clips' own seeds count on from it.
        without: prompts that are not taken.
    """
    draw = random.Random(seed)
    plain = [p.track for p in planned if not p.track.extra.get("relation")]
    trained = {p.track.caption for p in planned if p.track.trained}
    pools = {
        "caption": {track.caption for track in plain if track.trained},
        "recombined": {track.caption for track in plain if not track.trained} - trained,
    }
    return [
        PlannedQuery(
            name=f"{kind}-{i:02d}",
            prompt=prompt,
            seed=seed + 100 * k + i,
            kind=kind,
            split="reporting",
            heard=i < HEARD_OF_A_KIND,
        )
        for k, (kind, pool) in enumerate(pools.items())
        for i, prompt in enumerate(draw.sample(sorted(pool - set(without)), CLIPS_OF_A_KIND))
    ]
