"""Runs a comparison: each side in a process of its own, first once for its scores and its memory, then timed in turns.

The processes are spawned, so that none inherits what another has imported or allocated; memory is read from /proc (Linux).
"""

from __future__ import annotations

import gc
import multiprocessing
import re
import statistics
import time
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from sides import COMPARISONS, own_side
from world import World


@dataclass(frozen=True)
class Row:
    """One line of the table; pairs are (linernotes, peer)."""

    method: str
    peer: str
    spearman_mean: float
    spearman_least: float
    largest_difference: float  # of any score, as a share of the query's largest
    seconds: tuple[float, float]
    extra_mib: tuple[float, float]
    scores_per_s: tuple[float, float]
    aligned: str
    differs: str
    barred: bool


def serve(connection: Connection, number: int, own: bool, folder: Path, threads: int) -> None:
    """One side in a process of its own: a first run for scores and memory, then a timed run whenever it is asked."""
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    comparison = COMPARISONS[number]
    world = World(folder)
    settings = comparison.settings
    run = own_side(world, comparison.method, settings) if own else comparison.side(world, settings)
    gc.collect()
    gc.freeze()  # kronfluence collects garbage ten times a run: let that not cost what the imports left in memory
    before = memory_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    scores_qn = run()
    connection.send((scores_qn, memory_mib("VmHWM") - before))
    while connection.recv():
        start = time.perf_counter()
        run()
        connection.send(time.perf_counter() - start)


def memory_mib(field: str) -> float:
    """Of this process (Linux). ``ru_maxrss`` would not do: a process inherits its parent's."""
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def compare(number: int, folder: Path, repeats: int, threads: int) -> Row:
    comparison = COMPARISONS[number]
    context = multiprocessing.get_context("spawn")
    ends, firsts = [], []
    for own in (True, False):
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there, number, own, folder, threads), daemon=True)
        process.start()
        there.close()  # so that a side that dies is noticed
        ends.append(here)
        firsts.append(here.recv())
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for end, taken in zip(ends, times, strict=True):
            end.send(True)
            taken.append(end.recv())
    for end in ends:
        end.send(False)
    (own_qn, own_mib), (peer_qn, peer_mib) = firsts
    differs = comparison.differs
    if comparison.reference:
        exact_qn = comparison.reference(World(folder), comparison.settings)
        near = [statistics.mean(correlations(scores_qn, exact_qn)) for scores_qn in (own_qn, peer_qn)]
        differs += "; correlation with scores of whole gradients {:.2f} / {:.2f}".format(*near)
    rho_q = correlations(own_qn, peer_qn)
    seconds = tuple(statistics.median(taken) for taken in times)
    return Row(
        comparison.method, comparison.peer, statistics.mean(rho_q), min(rho_q),
        float((np.abs(own_qn - peer_qn).max(axis=1) / np.abs(peer_qn).max(axis=1)).max()),
        seconds, (own_mib, peer_mib), tuple(own_qn.size / s for s in seconds), comparison.aligned, differs,
        comparison.barred,
    )  # fmt: skip


def correlations(a_qn: np.ndarray, b_qn: np.ndarray) -> list[float]:
    """Spearman's, query by query."""
    return [float(spearmanr(a_n, b_n).statistic) for a_n, b_n in zip(a_qn, b_qn, strict=True)]
