"""Scores the benchmark's clips anew by the code as it is, and holds them against the scores that the
leaderboard was made from: python dev/scores_again.py [METHOD ...] (all but the slow ones if left out; about
ten minutes on two cores).
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

import linernotes
from linernotes.evaluation.bank.scores import scores_of
from linernotes.settings.methods import METHOD_SETTINGS

SLOW = ("mucs", "abu", "abu-ekfac", "forward-inf", "tracin", "clap")

methods = sys.argv[1:] or [name for name in METHOD_SETTINGS if name not in SLOW]
opened = linernotes.open_bank()
names = [query.name for query in opened.bank.queries]
print("method           largest difference / largest score   lowest Spearman of a clip   seconds")
for method in methods:
    settings = METHOD_SETTINGS[method]()
    shipped = opened.clip_scores(method, settings).scores_qt
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        kept = (Path(folder),)
        made = scores_of(names, lambda: opened.clips, opened.prepared, opened.bank, method, settings, kept)
    difference = np.abs(made.scores_qt - shipped).max() / np.abs(shipped).max()
    lowest = min(spearmanr(one, other).statistic for one, other in zip(made.scores_qt, shipped, strict=True))
    print(f"{method:16} {difference:35.1e} {lowest:27.6f} {time.perf_counter() - start:9.0f}", flush=True)
