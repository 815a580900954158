"""Whether a bank can be trusted: every retrain learned its tracks as well as a model of all of them, and
still generates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from linernotes.evaluation.bank.store import Bank

FAR = 1.25  # times that of models trained on everything: a loss that says training went wrong
FLAT = 0.5  # times the deviation of the original clips' latents: a clip without contrast is no music


@dataclass(frozen=True)
class Sanity:
    """One retrain: losses of the tracks it saw and of those it did not, of the queries, and what its clips
    are like.
    """

    name: str
    kind: str
    seed: int
    tracks: int
    own_loss: float
    other_loss: float  # nan if it saw all of them
    query_loss: float
    # deviation of the regenerated clips' latents over that of the originals; nan if none were made again
    contrast: float
    moved_db: float  # how far the heard clips' spectra moved, mean
    wrong: str  # why it cannot be trusted; empty if it can


def check_bank(
    bank: Bank, track_n: np.ndarray, trained_rows: np.ndarray, usual: float | None = None
) -> list[Sanity]:
    """A line for every retrain.

    Args:
        track_n: the track of each segment of the catalogue; ``trained_rows``: which tracks are training
            tracks, in the bank's order.
        usual: the tracks' loss under models of all of them; the bank's own if None.
    """
    column = np.full(int(track_n.max()) + 1, -1)
    column[trained_rows] = np.arange(len(trained_rows))
    segment = column[track_n]
    inside = segment >= 0
    heard = [q for q, query in enumerate(bank.queries) if query.heard]
    contrast = bank.latents_qct[heard].std() if heard and bank.holds_clips else np.nan
    lines = []
    for m, name in enumerate(bank.names):
        seen = np.zeros(len(segment), dtype=bool)
        seen[inside] = bank.present_mn[m][segment[inside]]
        unseen = inside & ~seen
        lines.append(
            Sanity(
                name=name,
                kind=str(bank.kinds[m]),
                seed=bank.seeds[m],
                tracks=int(bank.present_mn[m].sum()),
                own_loss=float(bank.item_loss_ms[m][seen].mean()),
                other_loss=float(bank.item_loss_ms[m][unseen].mean()) if unseen.any() else float("nan"),
                query_loss=float(bank.loss_mqk[m].mean()),
                contrast=float(bank.contrast_m[m] / contrast),
                moved_db=float(bank.distance_mhd[m][:, 0].mean())
                if bank.distance_mhd[m].size
                else float("nan"),
                wrong="",
            )
        )
    usual = usual or usual_loss(lines)
    known = (
        ("moved_db", bank.distance_mhd.size),
        ("contrast", bank.holds_clips and np.isfinite(bank.contrast_m).any()),
    )
    heard_of = [name for name, is_known in known if is_known]
    return [replace(line, wrong=_wrong(line, usual, heard_of)) for line in lines]


def usual_loss(lines: Sequence[Sanity]) -> float:
    """The tracks' loss under models that were trained on all of them, or under all models where there are
    none.
    """
    return float(
        np.nanmedian(
            [line.own_loss for line in lines if line.kind == "full"] or [line.own_loss for line in lines]
        )
    )


def _wrong(line: Sanity, usual: float, heard_of: Sequence[str]) -> str:
    """``heard_of``: what is known of the clips that were made again."""
    if not np.isfinite([getattr(line, name) for name in ("own_loss", "query_loss", *heard_of)]).all():
        return "losses or clips are not finite"
    if line.own_loss > FAR * usual:
        return f"its tracks' loss is {line.own_loss / usual:.2f} times that of a model trained on all of them"
    if line.contrast < FLAT:
        return f"its clips are flat: {line.contrast:.2f} of the originals' contrast"
    return ""
