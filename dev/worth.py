"""The figures of docs/worth.md that 'linernotes calibrate' does not print: how many tracks are named, whether
those are that must be, rows that were swapped for decoys, what 'audit --challenge' can tell, and strangers.

    python dev/worth.py

Of the benchmark, by the default method and the calibration that is shipped; from the shipped bank and scores,
but for the strangers, for which the model makes some 300 clips: ten minutes on one core, two without.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

import linernotes
from linernotes.attribution.effects import Calibration, Effects, effects_of
from linernotes.attribution.fitness import STRANGER, clip_loss, likely_own, loss_draws
from linernotes.attribution.query import segment_query
from linernotes.demo.provider import judge_for
from linernotes.evaluation.bank.opened import OpenedBank
from linernotes.evaluation.challenge import judge_claims
from linernotes.models.contract import GenerativeModel
from linernotes.settings.methods import DEFAULT_METHOD, METHOD_SETTINGS

CLIPS = 16  # of the model's own, and decoys
AUDITS = 40  # drawn for each row of the table


def main(strangers: bool = True) -> None:
    opened = linernotes.open_bank()
    settings = METHOD_SETTINGS[DEFAULT_METHOD]()
    judge = judge_for(opened.prepared.model, opened.prepared.catalogue, DEFAULT_METHOD, settings)
    assert judge
    draws = loss_draws(opened.prepared.model, 0)
    loss_q = np.array([clip_loss(opened.prepared.model, clip, draws) for clip in opened.clips])
    scores_qt = opened.clip_scores(DEFAULT_METHOD, settings).scores_qt.astype(np.float64)
    n = len(opened.bank.tracks)  # a benchmark's training tracks come first, and are one segment each
    found = [effects(judge.calibration, s[:n], loss, n) for s, loss in zip(scores_qt, loss_q, strict=True)]
    print_named(found)
    print_power(opened, [each.low_t > 0 for each in found])
    with_decoys = [effects(judge.calibration, s, loss, n) for s, loss in zip(scores_qt, loss_q, strict=True)]
    print_swapped(opened, [each.low_t > 0 for each in with_decoys])
    print_challenge(opened, np.stack([np.where(e.low_t > 0, e.expected_t, 0) for e in found]), loss_q)
    if strangers:
        print_strangers(opened)


def effects(calibration: Calibration, scores_t: np.ndarray, loss: float, n: int) -> Effects:
    """Of tracks of one segment."""
    return effects_of(calibration, scores_t, np.ones(len(scores_t)), float(loss), n)


def print_named(found: Sequence[Effects]) -> None:
    counts = [int((each.low_t > 0).sum()) for each in found]
    carried = [each.expected_t[each.low_t > 0].sum() / np.maximum(each.expected_t, 0).sum() for each in found]
    print(
        f"named a clip: {np.mean(counts):.1f} ({min(counts)} to {max(counts)}), which carry "
        f"{np.mean(carried):.0%} of what all tracks are expected to have done"
    )


def print_power(opened: OpenedBank, named: Sequence[np.ndarray]) -> None:
    """Tracks that a clip must owe something to."""
    tracks = opened.prepared.catalogue.tracks[: len(opened.bank.tracks)]
    rare = np.array([track.extra.get("relation") == "rare" for track in tracks])
    shares, both = [], []
    for query, is_named in zip(opened.bank.queries, named, strict=True):
        if query.kind == "rare":
            shares.append(float(is_named[rare].mean()))
        if query.kind == "duplicated":
            copies = [t.extra.get("relation") == "duplicate" and t.caption == query.prompt for t in tracks]
            both.append(bool(is_named[np.array(copies)].all()))
    print(
        f"of the {rare.sum()} rare tracks {np.mean(shares):.0%} are named ({len(shares)} clips, "
        f"{min(shares):.0%} to {max(shares):.0%}); both copies of a duplicate in {sum(both)} of {len(both)}"
    )


def print_swapped(opened: OpenedBank, named: Sequence[np.ndarray]) -> None:
    """Decoys, had they stood in the catalogue as training tracks."""
    tracks = opened.prepared.catalogue.tracks
    plain = np.array([t.split == "decoy" and not t.extra.get("relation") for t in tracks])
    trained = np.array([t.split == "train" for t in tracks])
    print(
        f"named a clip: {np.mean([each[plain].mean() for each in named]):.1%} of plain decoys, "
        f"{np.mean([each[trained].mean() for each in named]):.1%} of training tracks"
    )


def print_challenge(opened: OpenedBank, effect_qn: np.ndarray, loss_q: np.ndarray) -> None:
    """How often 'audit --challenge' tells right credits and made-up ones, whose named tracks are others."""
    bank = opened.bank
    halves = bank.which("half")
    present_hn, loss_hq = bank.present_mn[halves], bank.loss_mqk[halves].mean(axis=2) / loss_q
    having = np.flatnonzero((effect_qn > 0).any(axis=1))
    print("challenge: halves, clips; right credits borne out, not; made-up ones borne out, not")
    for count in (8, 16, 32):
        for clips in (1, 5):
            row = []
            for moved in (0, effect_qn.shape[1] * 2 // 5):
                random = np.random.default_rng(0)
                outcomes = []
                for _ in range(AUDITS):
                    q, h = random.permutation(having)[:clips], random.permutation(len(halves))[:count]
                    claimed = np.roll(effect_qn[q], moved, axis=1)
                    outcomes.append(judge_claims(claimed, present_hn[h], loss_hq[np.ix_(h, q)]).borne_out)
                row += [outcomes.count(True) / AUDITS, outcomes.count(False) / AUDITS]
            print(f"  {count}, {clips}; " + ", ".join(f"{share:.0%}" for share in row))


def print_strangers(opened: OpenedBank) -> None:
    """How many of the model's own clips, and of decoys, fit it worse than its own do."""
    model, catalogue = opened.prepared.model, opened.prepared.catalogue
    draws = loss_draws(model, 0)
    plain = [
        row
        for row, t in enumerate(catalogue.track_n)
        if catalogue.tracks[t].split == "decoy" and not catalogue.tracks[t].extra.get("relation")
    ]
    made = [replace(clip, latents_ct=_heard(model, clip.latents_ct)) for clip in opened.clips[:CLIPS]]
    for what, queries in (
        ("of its own clips", made),
        ("of decoys", [segment_query(catalogue, row) for row in plain[:CLIPS]]),
    ):
        own = [likely_own(model, query, clip_loss(model, query, draws), draws) for query in queries]
        count = sum(p is not None and p < STRANGER for p in own)
        print(f"taken for a stranger's: {count} of {len(own)} {what}", flush=True)


def _heard(model: GenerativeModel, latents_ct: Tensor) -> Tensor:
    """The latents of a clip that is only known by its sound."""
    with torch.inference_mode():
        return model.encode(model.decode(latents_ct[None]))[0].cpu()


if __name__ == "__main__":
    main("--without-strangers" not in sys.argv[1:])
