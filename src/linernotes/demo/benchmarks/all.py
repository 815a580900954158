"""All benchmarks, by name."""

from __future__ import annotations

from linernotes.demo.benchmarks.adapter import ADAPTER_BENCHMARK
from linernotes.demo.benchmarks.codec_lm import CODEC_LM_BENCHMARK
from linernotes.demo.benchmarks.deep import DEEP_BENCHMARK
from linernotes.demo.benchmarks.description import Benchmark
from linernotes.demo.benchmarks.first import FIRST_BENCHMARK
from linernotes.demo.benchmarks.flow import FLOW_BENCHMARK
from linernotes.demo.benchmarks.long import LONG_BENCHMARK
from linernotes.demo.benchmarks.sized import SIZED_BENCHMARKS
from linernotes.demo.places import require_benchmark

_OF_ITS_KIND = (FIRST_BENCHMARK, DEEP_BENCHMARK, LONG_BENCHMARK, *SIZED_BENCHMARKS)
_OF_OTHER_KINDS = (FLOW_BENCHMARK, ADAPTER_BENCHMARK, CODEC_LM_BENCHMARK)
_ALL = {each.name: each for each in (*_OF_ITS_KIND, *_OF_OTHER_KINDS)}


def benchmark_of(name: str) -> Benchmark:
    """A benchmark by its name.

    Raises:
        UsageError: there is none of that name.
    """
    require_benchmark(name)
    return _ALL[name]
