"""What shortlists from an index miss, as a table."""

from __future__ import annotations

from linernotes.evaluation.intervals import Interval
from linernotes.index.recall import FIRST, WANTED, WANTED_SCORE, Recall
from linernotes.report.table import Table, interval, number

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.1)  # of the tracks


def recall_table(recall: Recall) -> Table:
    """How much of the exact first tracks is in shortlists of several sizes."""
    sizes = sorted({max(1, round(share * recall.tracks)) for share in SHARES} | {recall.size_for()})
    rows = [
        {
            "tracks": size,
            "share": size / recall.tracks,
            "recall": Interval(*recall.of(size)),
            "score": Interval(*recall.of_score(size)),
        }
        for size in sizes
    ]
    return Table(
        name="recall",
        columns=[
            number("tracks", "tracks", "d"),
            number("share", "of all", ".1f", "%"),
            interval("recall", f"of the exact first {FIRST}", ".3f"),
            interval("score", "of their summed score", ".3f"),
        ],
        rows=rows,
        about={"method": recall.method, "clips": recall.clips, "shortlist": recall.size_for()},
        notes=[
            f"Exact scores are {recall.method}'s; mean over {recall.clips}. A shortlist is as long as it "
            f"takes to hold {WANTED:.0%} of these clips' exact first {FIRST} and {WANTED_SCORE:.0%} of their "
            f"summed score on average; as long as the others of them ask for, it holds "
            f"{Interval(*recall.of_chosen())} of each one's."
        ],
    )
