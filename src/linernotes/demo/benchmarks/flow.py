"""Decides what the benchmark ``flow`` is: 256 tracks of one segment, learned by the first one's model as a
flow. Is what was found on v-prediction true of flow matching?
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from linernotes.demo.benchmarks.first import SIZE
from linernotes.demo.benchmarks.sized import sized_benchmark
from linernotes.demo.bundle import write_template
from linernotes.demo.places import FLOW

TRACKS = 256

FLOW_BENCHMARK = replace(
    sized_benchmark(TRACKS),
    name=FLOW,
    untrained=partial(write_template, SIZE, objective="flow"),
)
