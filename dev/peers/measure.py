"""Runs a comparison: each side in a process of its own, first once for its scores and its memory, then timed
in turns.

The processes are spawned, so that none inherits what another has imported or allocated; memory is read from
/proc (Linux).
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
from plain import Score
from scipy.stats import spearmanr
from sides import COMPARISONS, own_side
from world import Extent, World


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


def first_run(number: int, own: bool, folder: Path, extent: Extent) -> tuple[Score, np.ndarray, float]:
    """One side, ready to run again, with the scores and the extra memory (MiB) of a first run."""
    warnings.simplefilter("ignore")
    comparison = COMPARISONS[number]
    world = World(folder, extent)
    run = (
        own_side(world, comparison.method, comparison.settings)
        if own
        else comparison.side(world, comparison.settings)
    )
    gc.collect()
    # kronfluence collects garbage ten times a run: let that not cost what the imports left in memory
    gc.freeze()
    before = memory_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    scores_qn = run()
    return run, scores_qn, memory_mib("VmHWM") - before


def seconds_of(run: Score) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def serve(connection: Connection, number: int, own: bool, folder: Path, extent: Extent, threads: int) -> None:
    """One side in a process of its own: a first run for scores and memory, then a timed run whenever it is
    asked.
    """
    torch.set_num_threads(threads)
    run, scores_qn, extra_mib = first_run(number, own, folder, extent)
    connection.send((scores_qn, extra_mib))
    while connection.recv():
        connection.send(seconds_of(run))


def memory_mib(field: str) -> float:
    """Of this process (Linux). ``ru_maxrss`` would not do: a process inherits its parent's."""
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def compare(number: int, folder: Path, extent: Extent, repeats: int, threads: int) -> Row:
    """Both sides in processes of their own; without ``repeats`` both in this one, once, and timed while they
    warm up.
    """
    return row(
        number,
        folder,
        extent,
        *(in_turns if repeats else here_once)(number, folder, extent, repeats, threads),
    )


Firsts = list[tuple[np.ndarray, float]]  # scores and extra MiB of linernotes, of the peer
Times = tuple[list[float], list[float]]


def here_once(
    number: int, folder: Path, extent: Extent, _repeats: int, _threads: int
) -> tuple[Firsts, Times]:
    firsts, times = [], []
    for own in (True, False):
        start = time.perf_counter()
        # one process keeps what it once had
        firsts.append((first_run(number, own, folder, extent)[1], float("nan")))
        times.append([time.perf_counter() - start])
    return firsts, (times[0], times[1])


def in_turns(number: int, folder: Path, extent: Extent, repeats: int, threads: int) -> tuple[Firsts, Times]:
    context = multiprocessing.get_context("spawn")
    ends, firsts = [], []
    for own in (True, False):
        here, there = context.Pipe()
        process = context.Process(
            target=serve, args=(there, number, own, folder, extent, threads), daemon=True
        )
        process.start()
        there.close()  # so that a side that dies is noticed
        ends.append(here)
        firsts.append(here.recv())
    times: Times = ([], [])
    for _ in range(repeats):
        for end, taken in zip(ends, times, strict=True):
            end.send(True)
            taken.append(end.recv())
    for end in ends:
        end.send(False)
    return firsts, times


def row(number: int, folder: Path, extent: Extent, firsts: Firsts, times: Times) -> Row:
    comparison = COMPARISONS[number]
    (own_qn, own_mib), (peer_qn, peer_mib) = firsts
    differs = comparison.differs
    if comparison.reference:
        exact_qn = comparison.reference(World(folder, extent), comparison.settings)
        near = [statistics.mean(correlations(scores_qn, exact_qn)) for scores_qn in (own_qn, peer_qn)]
        differs += "; correlation with scores of whole gradients {:.2f} / {:.2f}".format(*near)
    rho_q = correlations(own_qn, peer_qn)
    seconds = tuple(statistics.median(taken) for taken in times)
    return Row(
        comparison.method,
        comparison.peer,
        statistics.mean(rho_q),
        min(rho_q),
        float((np.abs(own_qn - peer_qn).max(axis=1) / np.abs(peer_qn).max(axis=1)).max()),
        seconds,
        (own_mib, peer_mib),
        tuple(own_qn.size / s for s in seconds),
        comparison.aligned,
        differs,
        comparison.barred,
    )


def correlations(a_qn: np.ndarray, b_qn: np.ndarray) -> list[float]:
    """Spearman's, query by query."""
    return [float(spearmanr(a_n, b_n).statistic) for a_n, b_n in zip(a_qn, b_qn, strict=True)]
