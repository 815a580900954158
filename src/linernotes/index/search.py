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
    ``resemblance`` has it; in an index with codes 0 for all but ``CANDIDATES`` times the ``wanted``, of which
    nothing is said.
    """
    if index.codes is None:
        return resemblance(asked, index.vectors)
    rows = index.codes.first(asked, CANDIDATES * wanted)
    found_qn = np.zeros((len(asked), len(index)), dtype=np.float32)
    found_qn[:, rows] = resemblance(asked, index.take(rows))
    return found_qn
