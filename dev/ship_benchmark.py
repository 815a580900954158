"""Puts the numbers of a benchmark into the package: its bank, the leave-k-out beside it, and the scores of
its clips by every method of the table over benchmarks. Prints no figure of any method: that is for
`linernotes evaluate benchmarks`, when the scores of all of them stand.

    python dev/ship_benchmark.py NAME BANK [MODEL CATALOGUE]

A stopped run goes on. MODEL and CATALOGUE, of a benchmark that was made on this machine, save rendering its
tracks.
"""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import linernotes
from linernotes.artefacts import load_tensors, save_tensors
from linernotes.demo.places import BENCHMARK, OTHER_KINDS, SIZED, benchmark_parts, require_benchmark
from linernotes.errors import LinernotesWarning
from linernotes.evaluation.bank.folder import BANK_FILE
from linernotes.evaluation.bank.scores import BY, SCORES
from linernotes.evaluation.bank.store import BANK
from linernotes.evaluation.counterfactual import COUNTERFACTUAL_FILE
from linernotes.settings.methods import ACROSS, BY_SIZE, METHOD_SETTINGS


def ship(source: Path, target: Path) -> None:
    """A bank, without what the package has no use for: every draw's loss (their mean is kept), and clips that
    stand in the benchmark's bank or that nobody is to score by another method. Losses of tracks, from which
    planted relations are read there, have half precision elsewhere.
    """
    tensors, header = load_tensors(source, BANK)
    for what in ("loss_mqk", "change_mqk"):
        tensors[what] = tensors[what].double().mean(dim=2, keepdim=True).float()
    if target.name != BANK_FILE or target.parent.name.startswith(SIZED):
        tensors.pop("latents_qct", None)
    if target != benchmark_parts(BENCHMARK) / BANK_FILE:
        tensors["item_loss_ms"] = tensors["item_loss_ms"].half()
    save_tensors(target, tensors, BANK, {**header, "means": True})


def for_good(path: Path) -> None:
    """Scores that are read whatever has computed them: they are what was measured."""
    tensors, header = load_tensors(path, SCORES)
    if header.pop(BY, None) is not None:
        save_tensors(path, tensors, SCORES, header)


def halve(path: Path) -> None:
    """A file of scores in half precision, about the median of each clip's, in the unit of the farthest."""
    tensors, header = load_tensors(path, SCORES)
    if "unit_q1" in tensors:
        return
    scores_qt = tensors["scores_qt"]
    median_q1 = scores_qt.median(dim=1, keepdim=True).values
    unit_q1 = (scores_qt - median_q1).abs().amax(dim=1, keepdim=True).clamp_min(1e-30)
    halved = {"scores_qt": ((scores_qt - median_q1) / unit_q1).half()}
    save_tensors(path, {**halved, "unit_q1": unit_q1, "median_q1": median_q1}, SCORES, header)


def main() -> None:
    name, bank, *where = sys.argv[1:]
    require_benchmark(name)
    parts = benchmark_parts(name)
    warnings.simplefilter("error", LinernotesWarning)  # a bank of which something must be left out
    opened = linernotes.open_bank(bank, *(where or (name, name)))
    opened = replace(opened, kept=(parts / "scores",))
    methods = ACROSS
    if name in OTHER_KINDS:
        methods = tuple(m for m in ACROSS if m not in ("abu", "d-trak"))
    elif name.startswith(SIZED):  # they say how influence thins out
        methods = BY_SIZE
    for method in methods:
        start = time.perf_counter()
        opened.clip_scores(method, METHOD_SETTINGS[method]())
        print(f"{method:12} {time.perf_counter() - start:7.0f} s", flush=True)
    for file in (BANK_FILE, COUNTERFACTUAL_FILE):
        if (Path(bank) / file).exists():
            ship(Path(bank) / file, parts / file)
    for path in (parts / "scores").glob("*.safetensors"):
        for_good(path)
        if name.startswith(SIZED):
            halve(path)
    sizes = [path.stat().st_size for path in parts.rglob("*") if path.is_file()]
    print(f"{parts}: {sum(sizes) / 1e6:.1f} MB in {len(sizes)} files")


if __name__ == "__main__":
    main()
