"""``linernotes evaluate ...``: whether attributions, and the model, are any good."""

from __future__ import annotations

from typing import Any

import typer

import linernotes
from linernotes.cli.options import (
    CatalogueOption,
    JsonOption,
    MethodOption,
    ModelOption,
    OutOption,
    SettingsOption,
    adaptable,
    given,
    method_flags,
    settings_flags,
)
from linernotes.cli.output import Bars, plainly, print_json, print_table, publish
from linernotes.cli.truth import app as truth_app
from linernotes.demo.places import BUILTIN, require_places
from linernotes.settings.reading import checked, parted, read_settings
from linernotes.settings.verbs import FidelitySettings, SelfInfluenceSettings

app = typer.Typer(no_args_is_help=True, help="Measure whether attributions, and the model, are any good.")
app.add_typer(truth_app)


@app.command("self-influence")
@plainly
@method_flags
@settings_flags(SelfInfluenceSettings)
@adaptable
def evaluate_self_influence(
    model: ModelOption = BUILTIN,
    catalog: CatalogueOption = BUILTIN,
    method: MethodOption = None,
    settings: SettingsOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Take training segments themselves as queries: each one's own track must come first."""
    asked, of_method = parted(SelfInfluenceSettings, given(flags))
    chosen, values = read_settings(method, settings, of_method)
    require_places(model, catalog)
    from linernotes.evaluation.own_first import measure_own_first
    from linernotes.report.truth import self_influence_table

    with Bars() as bars:
        ranks = linernotes.self_influence(
            model, catalog, chosen, on_progress=bars, segments=asked.segments, **values.model_dump()
        )
    publish(self_influence_table(measure_own_first(chosen, ranks)), out, as_json)


@app.command("model")
@plainly
@settings_flags(FidelitySettings)
def evaluate_model(as_json: JsonOption = False, **flags: Any) -> None:
    """Measure the built-in model: what its codec keeps, and whether clips
    have the instrument their prompt names.
    """
    checked(FidelitySettings, given(flags))
    from linernotes.report.truth import fidelity_table

    with Bars() as bars:
        found = linernotes.model_fidelity(on_progress=bars, **given(flags))
    if as_json:
        print_json(found.__dict__)
        return
    print_table(fidelity_table(found))
