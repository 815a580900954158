"""Where the built-in model and catalogue, and the benchmark's parts, lie; and whether what people give is one
of their names or a place that can be opened. Imports nothing heavy.
"""

from __future__ import annotations

from pathlib import Path

from linernotes.catalog.folder import check_catalogue
from linernotes.evaluation.bank.folder import bank_file
from linernotes.models.folder import check_model
from linernotes.settings.places import cache_folder

BUILTIN = "builtin"
BUNDLE = Path(__file__).parent / "bundle"
MODEL = BUNDLE / "model"
CATALOGUE = BUNDLE / "catalogue"
BENCHMARK = "benchmark"
SHIPPED = (BUILTIN, BENCHMARK)
LARGE = "large"  # what catalogues of whole tunes say that their sound comes from
# the trained parts of the small model, the planted tracks, the retrain bank
BENCHMARK_PARTS = BUNDLE / "benchmark"
# what scores are worth: METHOD.json under its defaults, METHOD-WHAT.json under other settings
CALIBRATIONS = BENCHMARK_PARTS / "calibrations"


def require_model(model: str) -> None:
    """Refuses what is neither a name nor the folder of a model."""
    if model not in SHIPPED:
        check_model(Path(model))


def require_catalogue(catalogue: str) -> None:
    """Refuses what is neither a name nor the folder of a catalogue."""
    if catalogue not in SHIPPED:
        check_catalogue(Path(catalogue))


def require_bank(bank: str) -> None:
    """Refuses what is neither the benchmark's nor a finished bank."""
    if bank != BENCHMARK:
        bank_file(Path(bank))


def require_places(model: str, catalogue: str) -> None:
    """Refuses a model or a catalogue that is none, and a cache that cannot be written."""
    require_model(model)
    require_catalogue(catalogue)
    cache_folder()
