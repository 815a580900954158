"""Which clips a bank asks its models about: prompts that people give, or captions of the catalogue."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from linernotes.catalog.store import Catalogue
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.bank.folder import require_prompts
from linernotes.evaluation.bank.retraining import BankQuery

HEARD_QUERIES = 8  # how many of the first prompts are made again by every model, if none is marked as heard
FIRST_QUERIES = 24  # clips of a bank for which no prompts were given


def read_prompts(path: Path, seconds: float, seed: int) -> list[BankQuery]:
    """The clips of a bank from a CSV file with a column ``prompt`` and, if wanted, ``name``, ``kind``,
    ``split`` (tuning or reporting), ``seed``, ``heard``.

    Raises:
        LinernotesError: the file cannot be read, or a row has no prompt or an impossible value.
    """
    require_prompts(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LinernotesError(
            f"{path} cannot be read ({error}): give a CSV file with a column 'prompt'"
        ) from None
    queries = []
    for i, row in enumerate(rows):
        prompt, split = (row.get("prompt") or "").strip(), (row.get("split") or "reporting").strip()
        if not prompt or split not in ("tuning", "reporting"):
            what = "has no prompt" if not prompt else f"has split {split!r}"
            raise LinernotesError(
                f"row {i + 1} of {path} {what}: give a prompt, and 'tuning' or 'reporting' as its split"
            )
        own = (row.get("seed") or "").strip()
        if own and not own.isdigit():
            raise LinernotesError(f"row {i + 1} of {path} has seed {own!r}: give a whole number")
        heard = (row.get("heard") or "").strip().lower() in ("1", "true", "yes")
        name = (row.get("name") or "").strip() or f"clip-{i:02d}"
        kind = (row.get("kind") or "").strip() or "prompt"
        queries.append(
            BankQuery(
                name=name,
                prompt=prompt,
                seconds=seconds,
                seed=int(own) if own else seed + i,
                kind=kind,
                split=split,
                heard=heard,
            )
        )
    if not queries:
        raise LinernotesError(
            f"{path} holds no prompts: give a CSV file with a column 'prompt' and a row for every clip"
        )
    if not any(query.heard for query in queries):
        first = [query.name for query in queries if query.split == "reporting"][:HEARD_QUERIES]
        queries = [replace(query, heard=query.name in first) for query in queries]
    if len({query.name for query in queries}) < len(queries):
        raise LinernotesError(f"two clips in {path} have the same name: give each its own")
    return queries


def captions_as_queries(catalogue: Catalogue, seconds: float, seed: int) -> list[BankQuery]:
    """Clips for a bank without prompts of its own: captions drawn from the
    training tracks; two of five for tuning.
    """
    captions = sorted(
        {track.caption for track in catalogue.tracks if track.split == "train" and track.caption}
    )
    if not captions:
        raise UsageError(
            f"{catalogue.path} has no captions to generate clips from: give a file of prompts with --prompts"
        )
    drawn = np.random.default_rng(seed).permutation(len(captions))[:FIRST_QUERIES]
    return [
        BankQuery(
            name=f"caption-{i:02d}",
            prompt=captions[c],
            seconds=seconds,
            seed=seed + i,
            kind="caption",
            split="tuning" if i % 5 in (1, 3) else "reporting",
            heard=i % 5 == 0,
        )
        for i, c in enumerate(drawn)
    ]
