"""Looks through an index: the exact product with every vector, or, in a large one, with those that its codes
put first.
"""

from __future__ import annotations

import numpy as np

from linernotes.index.store import Index
from linernotes.index.vectors import Vectors, resemblance

# of those that a shortlist takes: what codes put first and is held against the vectors themselves
CANDIDATES = 4


def look_up(index: Index, asked: Vectors, wanted: int) -> np.ndarray:
    """How much each of N segments is expected to have done to each of Q clips, ``[Q, N]`` float32, as
    ``resemblance`` has it; in an index with codes, of all but ``CANDIDATES`` times the ``wanted``, as much as
    of the last of these.
    """
    if index.codes is None:
        return resemblance(asked, index.vectors)
    rows = index.codes.first(asked, CANDIDATES * wanted)
    near_qn = resemblance(asked, index.take(rows))
    found_qn = np.repeat(near_qn.min(axis=1, keepdims=True), len(index), axis=1)
    found_qn[:, rows] = near_qn
    return found_qn
