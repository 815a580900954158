"""Where what is called by a name lies: ``builtin`` and the benchmarks come with the package, everything else
is a path.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from linernotes.attribution.effects import Calibration
from linernotes.attribution.result import Attribution
from linernotes.attribution.verdict import Judge
from linernotes.catalog.gathering import noted
from linernotes.catalog.store import Catalogue
from linernotes.demo.benchmarks.making import open_benchmark
from linernotes.demo.places import BENCHMARKS, BUILTIN, CALIBRATIONS, MODEL, SHIPPED
from linernotes.errors import UsageError
from linernotes.models.adapter_folder import paired
from linernotes.models.contract import GenerativeModel, PredictingModel
from linernotes.models.opening import open_model
from linernotes.settings.methods import MethodSettings


def model_folder(model: str | Path) -> Path:
    """Where a model lies: its path, ``builtin`` or the name of a benchmark."""
    if str(model) in BENCHMARKS:
        return open_benchmark(str(model))[0]
    return MODEL if str(model) == BUILTIN else Path(model)


def with_adapter(model: str | Path, adapter: str | Path) -> Path:
    """A folder that opens as a model with an adapter to it, wherever a model is asked for.

    Args:
        model: the adapter's base model: its path, ``builtin`` or ``benchmark``.
        adapter: a folder in PEFT's layout, or a folder or file in Stable Audio 3's.

    Raises:
        LinernotesError: no adapter there. Whether it fits the model is seen when it is opened.
    """
    return paired(model_folder(model), Path(adapter), str(model) if str(model) in SHIPPED else "")


def load_model(model: str | Path = BUILTIN) -> GenerativeModel:
    """A model by the path of its folder, the built-in one, or a benchmark's.

    Raises:
        LinernotesError: no such model, of a family that is not known, weights missing or in pickle form.
    """
    loaded = open_model(model_folder(model))
    if str(model) in SHIPPED:
        loaded.name = str(model)
        loaded.encoding = replace(loaded.encoding, model=str(model))
    return loaded


def model_place(read: Attribution) -> str:
    """Where the model of a record lies: its folder, or the name of one that came with the package; these are
    called otherwise than the folders that they lie in, and all others as theirs.
    """
    place = read.sources.model
    return read.model if read.model in SHIPPED and Path(place).name != read.model else place


def judge_for(
    model: GenerativeModel,
    catalogue: Catalogue,
    method: str,
    settings: MethodSettings,
    given: Path | None = None,
) -> Judge | None:
    """What scores of a method are worth: by a ``given`` calibration, else as far as the package knows, which
    measured it on benchmarks' models, of tracks of one segment and of several, and lends it to others that
    predict a target, as these do. None where these settings were not measured.

    Raises:
        UsageError: the given one is of another method, or of other settings.
    """
    gather = noted(catalogue, settings.gather)
    for path in [given] if given else sorted(CALIBRATIONS.glob(f"{method}*.json")):
        calibration = Calibration.load(path)
        if calibration.fits(method, settings, gather) and (given or isinstance(model, PredictingModel)):
            return Judge(calibration, calibration.model_hash != model.weights_hash)
        if given:
            raise UsageError(
                f"{given} says what scores of {calibration.method} are worth, made with other settings, by "
                "another method, or of tracks that are not gathered from their segments like these: make one "
                "anew with 'linernotes calibrate', or leave out --calibration"
            )
    return None
