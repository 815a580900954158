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
    of the last of these. What is found for a clip does not depend on those beside it.
    """
    if index.codes is None:
        return resemblance(asked, index.vectors)
    rows_q = index.codes.first(asked, CANDIDATES * wanted)
    union = np.unique(np.concatenate(rows_q))
    vectors = index.take(union)
    found_qn = np.empty((len(asked), len(index)), dtype=np.float32)
    for q, rows in enumerate(rows_q):
        near_n = resemblance(asked[q : q + 1], vectors[np.searchsorted(union, rows)])[0]
        found_qn[q] = near_n.min()
        found_qn[q, rows] = near_n
    return found_qn
