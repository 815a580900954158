"""Codes of an index: what they put first is what the exact product puts first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from linernotes.artefacts import load_tensors, save_tensors
from linernotes.errors import LinernotesError
from linernotes.index.codes import KIND, Codes
from linernotes.index.vectors import Vectors, in_bytes, resemblance

HEADER = {"index": "this one"}


def drawn(count: int, moments: int, latents: int, seed: int) -> Vectors:
    """Directions with a few strong numbers and many weak ones, in some clusters, of unequal length."""
    draw = torch.Generator().manual_seed(seed)

    def part(size: int) -> np.ndarray:
        if not size:
            return np.zeros((count, 0), np.int8)
        strength = torch.arange(1, size + 1) ** -0.3
        middles = torch.randn(20, size, generator=torch.Generator().manual_seed(size)) * strength
        own = torch.randn(count, size, generator=draw) * strength
        return in_bytes(middles[torch.randint(20, (count,), generator=draw)] + own)

    length = torch.rand(count, generator=draw).numpy() * 3 + 1
    return Vectors(part(moments), part(latents), length if moments else np.ones(count, np.float32))


@pytest.mark.parametrize(("moments", "latents"), [(256, 64), (0, 64), (30, 9)])
def test_what_codes_put_first_holds_what_is_first(moments: int, latents: int) -> None:
    """Also where the numbers make no whole codes."""
    vectors, asked = drawn(6000, moments, latents, 0), drawn(5, moments, latents, 1)
    codes = Codes.of(vectors[:3000], [vectors[:2500], vectors[2500:]])
    assert len(codes) == len(vectors)
    exact_qn = resemblance(asked, vectors)
    found = []
    for q, rows in enumerate(codes.first(asked, 240)):
        assert len(rows) == 240 and (np.diff(rows) > 0).all()
        found.append(np.isin(np.argsort(-exact_qn[q])[:60], rows).mean())
        (alone,) = codes.first(asked[[q]], 240)
        assert (rows == alone).all()
    assert np.mean(found) > 0.87  # by chance 0.04; forty numbers have fewer codes to be right by
    assert all((rows == np.arange(len(vectors))).all() for rows in codes.first(asked, 9999))


def test_latents_weigh_less_and_lengths_count() -> None:
    vectors, asked = drawn(3000, 64, 64, 2), drawn(20, 64, 64, 4)
    swapped = replace(vectors, moments_nr=vectors.latents_np, latents_np=vectors.moments_nr)
    other_lengths = replace(vectors, length_n=vectors.length_n[::-1].copy())
    codes = Codes.of(vectors, [vectors])

    def right(exact_of: Vectors) -> float:
        exact_qn = resemblance(asked, exact_of)
        firsts = [np.argsort(-exact_n)[:40] for exact_n in exact_qn]
        found = codes.first(asked, 80)
        return float(np.mean([np.isin(a, b).mean() for a, b in zip(firsts, found, strict=True)]))

    assert right(vectors) > 0.85 > 0.65 > max(right(swapped), right(other_lengths))


def test_codes_are_read_back_and_refused_where_they_do_not_belong(tmp_path: Path) -> None:
    vectors = drawn(1000, 64, 16, 3)
    codes, path = Codes.of(vectors, [vectors]), tmp_path / "codes.safetensors"
    codes.save(path, HEADER)
    again = Codes.load(path, HEADER)
    for found, before in zip(again.first(vectors[:3], 50), codes.first(vectors[:3], 50), strict=True):
        assert (found == before).all()
    with pytest.raises(LinernotesError, match="'another' is in use"):
        Codes.load(path, {"index": "another"})
    scanned = load_tensors(path, KIND)[0]["scanned"]
    save_tensors(path, {"scanned": scanned[:100]}, KIND, HEADER)
    with pytest.raises(LinernotesError, match="is damaged"):
        Codes.load(path, HEADER)
