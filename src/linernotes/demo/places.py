"""Where the built-in model and catalogue, and the benchmark's parts, lie. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

BUILTIN = "builtin"
BUNDLE = Path(__file__).parent / "bundle"
MODEL = BUNDLE / "model"
CATALOGUE = BUNDLE / "catalogue"
BENCHMARK = "benchmark"
# the trained parts of the small model, the planted tracks, the retrain bank
BENCHMARK_PARTS = BUNDLE / "benchmark"
CALIBRATIONS = BENCHMARK_PARTS / "calibrations"  # what scores are worth, one file a method
