"""``linernotes bank ...``: build and look at retrain banks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

import linernotes
from linernotes.cli.options import (
    BankOption,
    BenchmarkCatalogueOption,
    BenchmarkModelOption,
    JsonOption,
    adaptable,
    given,
    settings_flags,
)
from linernotes.cli.output import Bars, plainly, print_json, print_table, stdout
from linernotes.demo.places import BENCHMARK, require_bank, require_places
from linernotes.evaluation.bank.folder import require_prompts
from linernotes.settings.engine import RetrainEngineSettings
from linernotes.settings.paths import require_folder
from linernotes.settings.reading import checked, parted
from linernotes.settings.verbs import BankSettings

app = typer.Typer(
    no_args_is_help=True,
    help="Build and look at retrain banks: models trained again on known tracks, the ground truth.",
)


@app.command("build")
@plainly
@settings_flags(RetrainEngineSettings, "Where it runs")
@settings_flags(BankSettings)
@adaptable
def bank_build(
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder of the bank; a stopped build in it goes on, a finished bank grows."
        ),
    ],
    model: BenchmarkModelOption = BENCHMARK,
    catalog: BenchmarkCatalogueOption = BENCHMARK,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="CSV file: prompt and, if wanted, name, kind, split (tuning or reporting), seed, heard."
        ),
    ] = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Train a small model again on many subsets of its catalogue, and keep what becomes of every clip.

    The first benchmark's takes an hour and a half on two cores. The model must be one that 'linernotes train'
    made. What is left out is, for a benchmark, its own: deep and long have 24 halves, 12 of them twice.
    """
    engine, asked = parted(RetrainEngineSettings, given(flags))
    checked(BankSettings, asked)
    if prompts:
        require_prompts(prompts)
    require_folder(out)
    require_places(model, catalog)
    with Bars() as bars:
        bank = linernotes.build_bank(out, model, catalog, prompts, on_progress=bars, engine=engine, **asked)
    if as_json:
        print_json(bank.header)
        return
    stdout.print(
        f"{escape(str(bank.path))}: {len(bank.names)} models, {len(bank.queries)} clips, {len(bank.tracks)} "
        "tracks"
    )


@app.command("show")
@plainly
@adaptable
def bank_show(
    bank: BankOption = BENCHMARK,
    model: BenchmarkModelOption = BENCHMARK,
    catalog: BenchmarkCatalogueOption = BENCHMARK,
    as_json: JsonOption = False,
) -> None:
    """Print whether a bank can be trusted: what every retrained model
    learned, and that it still generates.
    """
    require_bank(bank)
    require_places(model, catalog)
    from linernotes.report.truth import bank_table

    opened = linernotes.open_bank(bank, model, catalog, even_if_wrong=True)
    lines = opened.sanity()
    if as_json:
        print_json([line.__dict__ for line in lines])
        return
    b = opened.bank
    tuning, reporting = len(b.rows("tuning")), len(b.rows("reporting"))
    stdout.print(
        f"[bold]{escape(str(b.path))}[/]: {len(b.names)} models, {len(b.tracks)} training tracks, "
        f"{tuning} clips for tuning and {reporting} for reporting, {b.header['draws']} draws"
    )
    print_table(bank_table(b, lines))
    for line in lines:
        if line.wrong:
            stdout.print(f"[bold red]{escape(line.name)}[/] {escape(line.wrong)}")
