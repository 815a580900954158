"""Settings: named once, and the same as flags, keywords and what every method can be asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

import linernotes
from linernotes.cli.app import app
from linernotes.errors import LinernotesError, UsageError
from linernotes.settings.engine import EngineSettings
from linernotes.settings.methods import METHOD_SETTINGS, MethodSettings
from linernotes.settings.reading import parted
from linernotes.settings.training import TrainingSettings
from linernotes.settings.verbs import VERB_SETTINGS, SearchSettings, VerbSettings

OF_METHODS = {name for kind in METHOD_SETTINGS.values() for name in kind.model_fields}
OF_ENGINES = set(EngineSettings.model_fields)
# verbs that take no method's settings
OWN = {"demo", "generate", "verify", "bank build", "index build", "evaluate model"}


def command(path: str) -> Any:
    found: Any = typer.main.get_command(app)
    for word in path.split():
        commands: Mapping[str, Any] = found.commands
        found = commands[word]
    return found


@pytest.mark.parametrize(("verb", "kind"), VERB_SETTINGS.items())
def test_every_setting_of_a_verb_is_a_flag_without_a_default_of_its_own(
    verb: str, kind: type[VerbSettings]
) -> None:
    """And has a default where no flag is given, so that nobody must name it."""
    defaults = {parameter.name: parameter.default for parameter in command(verb).params}
    assert {name: defaults[name] for name in kind.model_fields} == dict.fromkeys(kind.model_fields)
    assert set(kind().model_dump()) == set(kind.model_fields)


@pytest.mark.parametrize(
    ("verb", "names"),
    [
        *(
            (verb, set(kind.model_fields) | OF_METHODS)
            for verb, kind in VERB_SETTINGS.items()
            if verb not in OWN
        ),
        ("attribute", OF_METHODS),
        ("compare", OF_METHODS),
        ("evaluate hubs", OF_METHODS),
        ("evaluate planted", OF_METHODS),
        ("train", set(TrainingSettings.model_fields)),
        ("rebuild", set(TrainingSettings.model_fields)),
        *((verb, OF_ENGINES) for verb in ("attribute", "bank build", "catalog build", "index build", "plan")),
        *((verb, OF_ENGINES) for verb in ("evaluate counterfactual", "evaluate groups", "verify", "audit")),
    ],
)
def test_a_verb_takes_all_settings_of_what_it_runs(verb: str, names: set[str]) -> None:
    assert names <= {parameter.name for parameter in command(verb).params}


def test_a_verb_shares_no_name_with_the_methods_it_runs() -> None:
    """Nor with the engines they run on: else one keyword would mean two things."""
    for verb, kind in VERB_SETTINGS.items():
        assert verb in OWN or not set(kind.model_fields) & OF_METHODS, verb
        assert not set(kind.model_fields) & OF_ENGINES, verb
    assert not OF_METHODS & OF_ENGINES


def test_settings_are_parted_without_loss() -> None:
    asked, rest = parted(SearchSettings, {"segments": 3, "draws": 2, "metric": "lds"})
    assert (asked, rest) == (SearchSettings(segments=3, metric="lds"), {"draws": 2})
    with pytest.raises(UsageError, match="setting metric = 'tuba' is refused"):
        parted(SearchSettings, {"metric": "tuba"})


@pytest.mark.parametrize("kind", METHOD_SETTINGS.values())
def test_every_method_answers_what_all_can_be_asked(kind: type[MethodSettings]) -> None:
    """With its own setting where it has one, else as a method that cannot be set."""
    other = {"noise_bands": 2, "draws": 6, "layers": "mlp", "together": True}
    settings = kind(**{name: value for name, value in other.items() if name in kind.model_fields})
    own = settings.model_dump()
    assert settings.bands == own.get("noise_bands", 1)
    assert settings.item_draws == own.get("draws", 0)
    assert settings.layer_kind == own.get("layers", "all")
    assert settings.one_set == own.get("together", False)


def test_debug_lets_a_failure_through() -> None:
    plain = CliRunner().invoke(app, ["catalog", "show", "none"])
    assert plain.exit_code == 1 and "there is no catalogue at none" in plain.stderr
    whole = CliRunner().invoke(app, ["--debug", "catalog", "show", "none"])
    assert isinstance(whole.exception, LinernotesError) and not whole.stderr


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    assert not hasattr(linernotes, "tuba") and set(linernotes.__all__) <= set(dir(linernotes))
