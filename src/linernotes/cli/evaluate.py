"""``linernotes evaluate ...``: whether attributions, and the model, are any good."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from linernotes.cli.checks import check_places
from linernotes.cli.options import (
    CatalogueOption,
    JsonOption,
    MethodOption,
    ModelOption,
    SettingsOption,
    method_flags,
)
from linernotes.cli.output import Bars, plainly, print_json, print_table, publish
from linernotes.cli.truth import OutOption
from linernotes.cli.truth import app as truth_app
from linernotes.settings.reading import read_settings

app = typer.Typer(no_args_is_help=True, help="Measure whether attributions, and the model, are any good.")
app.add_typer(truth_app)


@app.command("self-influence")
@plainly
@method_flags
def evaluate_self_influence(
    model: ModelOption = "builtin",
    catalog: CatalogueOption = "builtin",
    segments: Annotated[
        int, typer.Option(help="Training segments to unlearn, each of another track as far as there are.")
    ] = 20,
    method: MethodOption = None,
    settings: SettingsOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Take training segments themselves as queries: each one's own track must come first."""
    chosen, values = read_settings(method, settings, flags)
    check_places(model, catalog)
    from linernotes import api
    from linernotes.evaluation.own_first import measure_own_first
    from linernotes.report.truth import self_influence_table

    with Bars() as bars:
        ranks = api.self_influence(model, catalog, segments, chosen, on_progress=bars, **values.model_dump())
    publish(self_influence_table(measure_own_first(chosen, ranks)), out, as_json)


@app.command("model")
@plainly
def evaluate_model(
    clips: Annotated[int, typer.Option(min=1, help="Clips to generate.")] = 96,
    every: Annotated[int, typer.Option(min=1, help="Hear every n-th track only, to see that it runs.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Measure the built-in model: what its codec keeps, and whether clips have the instrument their prompt
    names.
    """
    from linernotes import api
    from linernotes.report.truth import fidelity_table

    with Bars() as bars:
        found = api.model_fidelity(clips, on_progress=bars, every=every)
    if as_json:
        print_json(found.__dict__)
        return
    print_table(fidelity_table(found))
