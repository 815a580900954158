"""Where the built-in model and catalogue, and the benchmarks' parts, lie; and whether what people give is one
of their names or a place that can be opened. Imports nothing heavy.
"""

from __future__ import annotations

from pathlib import Path

from linernotes.catalog.folder import check_catalogue
from linernotes.errors import LinernotesError, UsageError
from linernotes.evaluation.bank.folder import BANK_FILE, bank_file
from linernotes.models.folder import check_model
from linernotes.settings.places import cache_folder

BUILTIN = "builtin"
BUNDLE = Path(__file__).parent / "bundle"
MODEL = BUNDLE / "model"
CATALOGUE = BUNDLE / "catalogue"
READY = BUNDLE / "ready"  # what is computed once for the built-in model and catalogue
SHIPPED_INDEX = READY / "index"
# the first, on which methods were developed; two more; other kinds of models; the first one's in other sizes
BENCHMARK, DEEP, LONG, SIZED = "benchmark", "deep", "long", "tracks-"
FLOW, ADAPTER, CODEC_LM = OTHER_KINDS = ("flow", "adapter", "codec-lm")
SIZES = (128, 256, 512, 1024, 2000)  # the built-in catalogue has 2,043 training tracks
SIZED_BENCHMARKS = tuple(f"{SIZED}{count}" for count in SIZES)
BENCHMARKS = (BENCHMARK, DEEP, LONG, *OTHER_KINDS, *SIZED_BENCHMARKS)
SHIPPED = (BUILTIN, *BENCHMARKS)
# what scores are worth: METHOD.json under its defaults, METHOD-WHAT.json under other settings
CALIBRATIONS = BUNDLE / BENCHMARK / "calibrations"


def benchmark_parts(benchmark: str) -> Path:
    """What the package holds of a benchmark, by its name: the trained parts of its model, its rendered tracks
    where they are small, its retrain bank and scores.
    """
    return BUNDLE / benchmark


def bank_place(bank: str | Path) -> Path:
    """Where a retrain bank lies: its path, or the name of a benchmark."""
    return benchmark_parts(str(bank)) if str(bank) in BENCHMARKS else Path(bank)


def require_benchmark(name: str) -> None:
    """Refuses what is no benchmark's name."""
    if name not in BENCHMARKS:
        raise UsageError(f"there is no benchmark {name!r}: choose one of {', '.join(BENCHMARKS)}")


def folder_of_that_name(name: str) -> str:
    """What is said more where a benchmark of which something is missing has the name of a folder here."""
    there = Path(name)
    return f"; the folder {name} here is meant by its whole path, {there.resolve()}" if there.exists() else ""


def name_of(place: str | Path) -> str:
    """What people give, or the name of what it leads to where that came with the package as it is."""
    if str(place) in SHIPPED:
        return str(place)
    return BUILTIN if Path(place).resolve() in (MODEL.resolve(), CATALOGUE.resolve()) else str(place)


def require_model(model: str) -> None:
    """Refuses what is neither a name nor the folder of a model."""
    if model not in SHIPPED:
        check_model(Path(model))


def require_catalogue(catalogue: str) -> None:
    """Refuses what is neither a name nor the folder of a catalogue."""
    if catalogue not in SHIPPED:
        check_catalogue(Path(catalogue))


def require_bank(bank: str) -> None:
    """Refuses what is neither a benchmark's nor a finished bank."""
    if bank in BENCHMARKS and not (benchmark_parts(bank) / BANK_FILE).exists():
        raise LinernotesError(
            f"this package holds no retrain bank of the benchmark {bank}: make it with 'linernotes rebuild "
            f"--benchmark {bank} -o OUT', build one with 'linernotes bank build --model OUT/trained "
            "--catalog OUT/catalogue --prompts OUT/prompts.csv -o BANK', and give --bank BANK"
            f"{folder_of_that_name(bank)}"
        )
    bank_file(bank_place(bank))


def require_held(benchmark: str) -> None:
    """Refuses what is no benchmark whose numbers the package holds: tables over benchmarks are of these."""
    require_benchmark(benchmark)
    if not (benchmark_parts(benchmark) / BANK_FILE).exists():
        raise LinernotesError(
            f"this package holds no retrain bank of the benchmark {benchmark}, and the table is of those "
            "that it holds: leave it out"
        )


def require_places(model: str, catalogue: str) -> None:
    """Refuses a model or a catalogue that is none, and a cache that cannot be written."""
    require_model(model)
    require_catalogue(catalogue)
    cache_folder()
