"""Which clips a bank asks its models about: prompts that people give, or captions of the catalogue."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from linernotes.catalog.columns import Vocabulary
from linernotes.catalog.store import Catalogue
from linernotes.catalog.whole_table import read_whole_table
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.bank.folder import require_prompts
from linernotes.evaluation.bank.setting import BankQuery

HEARD_QUERIES = 8  # how many of the first prompts are made again by every model, if none is marked as heard
FIRST_QUERIES = 24  # clips of a bank for which no prompts were given
PROMPTS = Vocabulary(
    meanings={word: word for word in ("prompt", "name", "kind", "split", "seed", "heard")},
    weak={"prompt": "caption text"},
    about=frozenset({"prompt"}),
    example='{"prompt": ...}',
    remedy="add a column prompt",
    many_lines=False,
)


def read_prompts(path: Path, seconds: float, seed: int) -> list[BankQuery]:
    """The clips of a bank from a table with a column ``prompt`` and, if wanted, ``name``, ``kind``, ``split``
    (tuning or reporting), ``seed``, ``heard``.

    Raises:
        LinernotesError: the table cannot be read, or a row has no prompt or an impossible value.
    """
    require_prompts(path)
    table = read_whole_table(path, PROMPTS, "holds prompts", {}, "give a row for every clip", "prompts.csv")
    queries = []
    for i, row in enumerate(table.rows):
        given = row.values
        prompt, split = given.get("prompt", ""), given.get("split") or "reporting"
        if not prompt or split not in ("tuning", "reporting"):
            what = "has no prompt" if not prompt else f"has split {split!r}"
            raise LinernotesError(
                f"{row.where} {what}: give a prompt, and 'tuning' or 'reporting' as its split"
            )
        own = given.get("seed", "")
        if own and not (own.isdecimal() and int(own) < 2**32):
            raise LinernotesError(f"{row.where} has seed {own!r}: give a whole number below 2^32")
        queries.append(
            BankQuery(
                name=given.get("name") or f"clip-{i:02d}",
                prompt=prompt,
                seconds=seconds,
                seed=int(own) if own else seed + i,
                kind=given.get("kind") or "prompt",
                split=split,
                heard=given.get("heard", "").lower() in ("1", "true", "yes"),
            )
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
    captions = sorted({track.caption for track in catalogue.tracks if track.trained and track.caption})
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
