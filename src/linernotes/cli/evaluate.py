"""``linernotes evaluate ...``: whether attributions, and the model, are any good."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

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
    listed,
    method_flags,
    settings_flags,
)
from linernotes.cli.output import Bars, plainly, print_json, print_table, publish, stdout
from linernotes.cli.truth import app as truth_app
from linernotes.demo.places import (
    BENCHMARKS,
    BUILTIN,
    require_held,
    require_places,
)
from linernotes.settings.methods import ACROSS, BY_SIZE
from linernotes.settings.paths import require_folder
from linernotes.settings.reading import checked, chosen_methods, parted, read_settings
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


@app.command("benchmarks")
@plainly
def evaluate_benchmarks(
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write (Markdown).")],
    benchmarks: Annotated[
        str | None,
        typer.Option(
            help=f"Some of {', '.join(BENCHMARKS)}, with commas between; if left out, those of Stable "
            "Audio's kind that the package holds."
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(help=f"Methods, with commas between; {', '.join(ACROSS)} if left out."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write one table over benchmarks: the same methods on each, and how far benchmarks agree on their order.

    It is made from the scores kept with the benchmarks; those that are missing are computed first.
    """
    for benchmark in listed(benchmarks) or ():
        require_held(benchmark)
    if methods:
        chosen_methods(listed(methods), {})
    require_folder(out.parent)
    from linernotes.report.benchmarks import across_table

    with Bars() as bars:
        across = linernotes.write_benchmarks(out, listed(benchmarks), listed(methods), on_progress=bars)
    if as_json:
        print_json(across_table(across).json())
        return
    stdout.print(escape(str(out)))


@app.command("thinning")
@plainly
def evaluate_thinning(
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write (Markdown).")],
    benchmarks: Annotated[
        str | None,
        typer.Option(
            help="Benchmarks of several sizes, with commas between; those tracks-N that the package holds if "
            "left out."
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Methods, with commas between: the first one's effects are told by rank and by a law, the "
            "others stand beside it. The default, likenesses and chance if left out."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write how influence thins out with the size of a catalogue: the effect of a track by its rank, and its
    law.
    """
    for benchmark in listed(benchmarks) or ():
        require_held(benchmark)
    chosen = listed(methods)
    chosen_methods(chosen or BY_SIZE, {})
    require_folder(out.parent)
    from linernotes.report.thinning import thinning_records

    with Bars() as bars:
        found = linernotes.write_thinning(out, listed(benchmarks), chosen, on_progress=bars)
    if as_json:
        print_json(thinning_records(found))
        return
    stdout.print(escape(str(out)))


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
