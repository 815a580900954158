"""Holds linernotes against its peers on one small trained model and the same data: do the scores agree, and
what do they cost?

EK-FAC influence against kronfluence, TRAK against dattri, TracIn against captum and dattri. linernotes runs
as its users run it (``methods.all.score``); a peer is given the same model as a plain module, the same items
and the same draws. Each side has a process of its own: its first run is measured for memory and warms up,
then the two sides are timed in turns.

The peers go into an environment of their own; torch goes first and by itself, and kronfluence without what it
names but does not import (torchvision):

    python3 -m venv /tmp/peers
    /tmp/peers/bin/pip install -c constraints.txt torch==2.13.0
    /tmp/peers/bin/pip install -c constraints.txt -e . dattri captum einops einconv opt-einsum tqdm accelerate
    /tmp/peers/bin/pip install -c constraints.txt --no-deps kronfluence
    OMP_NUM_THREADS=1 /tmp/peers/bin/python dev/peers --json peers.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from measure import Row, compare
from sides import COMPARISONS
from world import FULL, QUICK, build

LEAST_CORRELATION = 0.98
LARGEST_DIFFERENCE = 1e-3  # twice the damping still correlates at 0.998 and differs by 0.2; rounding, by 3e-5


def table(rows: list[Row]) -> str:
    """Markdown; pairs and ratios are linernotes / peer, of one and the same run."""
    lines = [
        "| method | peer | Spearman: mean, least | largest difference | seconds | ratio | extra MiB | ratio "
        "| scores / s | made equal | left |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        (own, peer), (own_mib, peer_mib) = row.seconds, row.extra_mib
        cells = [
            row.method,
            row.peer,
            f"{row.spearman_mean:.4f}, {row.spearman_least:.4f}",
            f"{row.largest_difference:.1e}",
            f"{own:.2f} / {peer:.2f}",
            f"{own / peer:.2f}",
            f"{own_mib:.0f} / {peer_mib:.0f}",
            f"{own_mib / peer_mib:.2f}",
            "{:.0f} / {:.0f}".format(*row.scores_per_s),
            row.aligned,
            row.differs,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="linernotes against kronfluence, dattri and captum.")
    parser.add_argument("--json", type=Path, help="write the table's numbers to this file too")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each side, in turns")
    parser.add_argument("--threads", type=int, default=1, help="threads of each side")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the comparisons to run")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a quarter of the items, in one process, once: do the sides agree?",
    )
    given = parser.parse_args()
    extent, repeats = (QUICK, 0) if given.quick else (FULL, given.repeats)
    os.environ["TQDM_DISABLE"] = "1"  # for the processes of the sides
    torch.set_num_threads(given.threads)
    chosen = range(len(COMPARISONS)) if given.only is None else given.only
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), extent)
        rows = [compare(number, Path(folder), extent, repeats, given.threads) for number in chosen]
    packages = {name: version(name) for name in ("linernotes", "torch", "kronfluence", "dattri", "captum")}
    print(
        f"{extent.items} items, {extent.queries} queries, {given.threads} thread(s), {platform.machine()}; ",
        end="",
    )
    print(", ".join(f"{name} {number}" for name, number in packages.items()), end="\n\n")
    print(table(rows))
    if given.json:
        record = {
            "items": extent.items,
            "queries": extent.queries,
            "threads": given.threads,
            "packages": packages,
        }
        given.json.write_text(json.dumps({**record, "rows": [asdict(row) for row in rows]}, indent=2) + "\n")
    missed = [
        f"{row.method} / {row.peer}"
        for row in rows
        if row.barred
        and (row.spearman_least < LEAST_CORRELATION or row.largest_difference > LARGEST_DIFFERENCE)
    ]
    if missed:
        raise SystemExit(
            f"a Spearman correlation below {LEAST_CORRELATION} or a difference above {LARGEST_DIFFERENCE}: "
            f"{', '.join(missed)}"
        )


if __name__ == "__main__":
    main()
