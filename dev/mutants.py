"""Plants faults, one at a time, and sees whether the tests notice: python dev/mutants.py COPY OUT.jsonl (see
dev/MUTATION.md).

COPY is a copy of this repository, whose sources are changed and put back; never give the repository itself.
The faults are cosmic-ray's (pip install cosmic-ray); a sample is drawn of the places where one can stand,
equally often from every room, and one fault is drawn for each place. Every fault is judged by the test files
that say most about its room, in a forked process, so that torch is imported once.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import os
import random
import resource
import sys
import time
from collections import defaultdict
from pathlib import Path

JUDGES = {
    "noise": ["laws", "artefacts"],
    "methods": ["laws", "unlearning", "methods"],
    "curvature": ["unlearning", "methods"],
    "attribution": ["attribution"],
    "evaluation": ["laws", "truth", "comparing"],
    "models": ["laws", "model", "training"],
}
# they start processes, wait for them or unpack the built-in bundle: half of the time for a tenth of the
# faults
LEFT_OUT = "not signal_9 and not number_of_cores and not killed and not clap and not builtin and not built_in"
SKIPPED = ("BitOr", "Decorator", "no-op", "Exception")
LIMIT_S = 90  # of processor time: the machine may be shared
PRELOADED = (
    "torch",
    "diffusers",
    "transformers",
    "sklearn.linear_model",
    "sklearn.neighbors",
    "scipy.stats",
    "scipy.signal",
    "soundfile",
    "soxr",
    "mutagen",
    "pyarrow.parquet",
    "pyarrow.dataset",
    "pydantic",
    "typer.testing",
    "rich.progress",
    "jinja2",
    "matplotlib.pyplot",
    "optuna",
    "music21",
    "symusic",
    "pretty_midi",
    "torchsde",
    "pytest",
    "diffusers.models.transformers.stable_audio_transformer",
    "diffusers.pipelines.stable_audio",
    "transformers.models.t5.modeling_t5",
)


def places(source: Path) -> dict[tuple[str, int, int], list[tuple[str, int]]]:
    """Where a fault can stand in the sources, and which (operator, occurrence) can stand there."""
    from cosmic_ray.ast import ast_nodes, get_ast_from_path
    from cosmic_ray.plugins import get_operator, operator_names

    found = defaultdict(list)
    for room in JUDGES:
        for path in sorted([*source.glob(f"{room}.py"), *source.glob(f"{room}/**/*.py")]):
            nodes = list(ast_nodes(get_ast_from_path(path)))
            for name in operator_names():
                operator = get_operator(name)
                # no type is evaluated, whose pipes cosmic-ray takes for code; it stumbles over dotted
                # exceptions
                if operator.arguments() or any(part in name for part in SKIPPED):
                    continue
                here = (span for node in nodes for span in operator().mutation_positions(node))
                for occurrence, (start, _end) in enumerate(here):
                    found[str(path.relative_to(source)), *start].append((name, occurrence))
    return found


def mutated(code: str, operator_name: str, occurrence: int) -> str:
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    return mutate_code(code, get_operator(operator_name)(), occurrence)


def judged(copy: Path, room: str, log: Path) -> str:
    """killed, survived or timeout."""
    tests = [f"tests/test_{name}.py" for name in JUDGES[room] if (copy / f"tests/test_{name}.py").exists()]
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))
        os.chdir(copy)
        sys.path.insert(0, str(copy / "src"))
        os.environ["PYTHONPATH"] = str(copy / "src")
        told = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(told, 1)
        os.dup2(told, 2)
        import pytest

        quiet = ["-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        os._exit(int(pytest.main(["-x", "-q", *quiet, "-k", LEFT_OUT, *tests])))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return "timeout" if code < 0 else "killed" if code else "survived"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("copy", type=Path)
    parser.add_argument("out", type=Path, help="one JSON line for each fault")
    parser.add_argument("--each", type=int, default=25, help="faults in every room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="start no further fault after that")
    parser.add_argument(
        "--again", action="store_true", help="only those that survived according to OUT, without noting it"
    )
    given = parser.parse_args()
    copy, start = given.copy.resolve(), time.monotonic()
    source = copy / "src/linernotes"
    if copy == Path(__file__).resolve().parents[1]:
        raise SystemExit(f"{copy} is the repository itself: copy it, and give the copy")
    sys.dont_write_bytecode = True
    for name in PRELOADED:
        importlib.import_module(name)
    log = given.out.with_suffix(".log")
    if given.again:
        for line in given.out.read_text().splitlines():
            fault = json.loads(line)
            if fault["outcome"] == "survived":
                print(
                    put(copy, source / fault["path"], fault["operator"], fault["occurrence"], log)[0],
                    fault["diff"],
                )
        return
    drawn, by_room = random.Random(given.seed), defaultdict(list)
    for (path, line, column), choices in sorted(places(source).items()):
        by_room[path.partition("/")[0].removesuffix(".py")].append((path, line, column, choices))
    samples = {room: drawn.sample(some, min(given.each, len(some))) for room, some in by_room.items()}
    print({room: f"{len(samples[room])} of {len(some)} places" for room, some in by_room.items()}, flush=True)
    survived_in: set[str] = set()
    before = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    judged_already = {(fault["path"], fault["line"], fault["column"]) for fault in before}
    for turn in range(given.each):
        for room, sample in samples.items():
            if turn >= len(sample) or time.monotonic() - start > given.seconds:
                continue
            path, line, column, choices = sample[turn]
            operator, occurrence = drawn.choice(choices)
            if (path, line, column) in judged_already:
                continue
            began = time.monotonic()
            outcome, diff = put(copy, source / path, operator, occurrence, log)
            fault = {"room": room, "path": path, "line": line, "column": column, "operator": operator}
            fault |= {
                "occurrence": occurrence,
                "outcome": outcome,
                "diff": diff,
                "seconds": time.monotonic() - began,
            }
            survived_in |= {room} if outcome == "survived" else set()
            with given.out.open("a") as out:
                out.write(json.dumps(fault) + "\n")
    for room in samples.keys() - survived_in:  # where every fault is killed, do the tests pass without any?
        if judged(copy, room, log) != "survived":
            raise SystemExit(f"the tests of {room} fail without any fault: see {log}")


def put(copy: Path, path: Path, operator: str, occurrence: int, log: Path) -> tuple[str, str]:
    """Plants one fault, has it judged and puts the source back; outcome and what was changed."""
    code = path.read_text()
    changed = mutated(code, operator, occurrence)
    lines = difflib.unified_diff(code.splitlines(), changed.splitlines(), n=0, lineterm="")
    diff = [line for line in lines if line[:2] not in ("--", "++", "@@")]
    try:
        path.write_text(changed)
        room = path.relative_to(copy / "src/linernotes").parts[0].removesuffix(".py")
        return judged(copy, room, log), "\n".join(diff)
    finally:
        path.write_text(code)


if __name__ == "__main__":
    main()
