"""What a shortlist costs in truth: the LDS of two-stage scores (exact on the shortlist, one score for all
others, no audit) beside that of exact ones.

    linernotes index build -o INDEX --model benchmark --catalog benchmark
    python dev/two_stage.py INDEX
"""

from __future__ import annotations

import sys

import numpy as np

import linernotes
from linernotes.attribution.indexing import unit_of
from linernotes.attribution.shortlisting import said_by
from linernotes.evaluation.lds import measure_lds
from linernotes.settings.methods import ReadoutSettings


def main(path: str) -> None:
    index = linernotes.open_index(path)
    with linernotes.open("benchmark", "benchmark") as work:
        opened = work.open_bank("benchmark")
        exact_qn = opened.training_scores({"readout": ReadoutSettings()})["readout"]
        rows, settings = work.catalogue.training_rows, unit_of(ReadoutSettings())  # a segment is a track here
        said_qn = said_by(index, work.prepared, opened.clips)[:, rows]
        expected = index.recall.expected("readout", settings, len(rows))
        place_qn = np.argsort(np.argsort(-said_qn, axis=1), axis=1)
        first = np.argsort(-exact_qn, axis=1)[:, :20]
        place = np.take_along_axis(place_qn, first, axis=1)
        size = index.recall.size_for()
        print(
            "exact first 20 in shortlists of",
            {m: f"{(place < m).mean():.3f}" for m in (10, 20, size, 50, 100)},
        )
        scores = {"exact": exact_qn, "the index alone": said_qn}
        scores |= {
            f"shortlist of {m}": np.where(place_qn < m, exact_qn, expected) for m in (10, 20, size, 50, 100)
        }
        for method in measure_lds(opened.bank, scores, reference="exact").methods:
            print(method.method, method.lds, "behind exact:", method.behind)


if __name__ == "__main__":
    main(*sys.argv[1:])
