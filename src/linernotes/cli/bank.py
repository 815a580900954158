"""``linernotes bank ...``: build and look at retrain banks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from linernotes.cli.checks import check_bank, check_file, check_out, check_places
from linernotes.cli.options import (
    BankOption,
    BenchmarkCatalogueOption,
    BenchmarkModelOption,
    JsonOption,
    given,
    settings_flags,
)
from linernotes.cli.output import Bars, plainly, print_json, print_table, stdout
from linernotes.settings.engine import RetrainEngineSettings
from linernotes.settings.reading import checked

app = typer.Typer(
    no_args_is_help=True,
    help="Build and look at retrain banks: models trained again on known tracks, the ground truth.",
)


@app.command("build")
@plainly
@settings_flags(RetrainEngineSettings, "Where it runs")
def bank_build(
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder of the bank; a stopped build in it goes on, a finished bank grows."
        ),
    ],
    model: BenchmarkModelOption = "benchmark",
    catalog: BenchmarkCatalogueOption = "benchmark",
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="CSV file: prompt and, if wanted, name, kind, split (tuning or reporting), seed, heard."
        ),
    ] = None,
    halves: Annotated[
        int, typer.Option(min=0, help="Models trained on random halves of the training tracks.")
    ] = 64,
    again: Annotated[
        int, typer.Option(min=0, help="How many halves are trained again with another seed (the ceiling).")
    ] = 16,
    seeds: Annotated[
        int, typer.Option(min=1, help="How many models each of these halves has, the first included.")
    ] = 2,
    full: Annotated[int, typer.Option(min=1, help="Models trained on all training tracks.")] = 4,
    draws: Annotated[int, typer.Option(min=1, help="Draws each clip's loss is measured on.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of halves, models and draws.")] = 0,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Train a small model again on many subsets of its catalogue, and keep what becomes of every clip.

    The benchmark's takes an hour and a half on two cores. The model must be one that 'linernotes train' made.
    """
    if prompts:
        check_file(prompts, "a CSV file of prompts")
    check_out(out)
    check_places(model, catalog)
    engine = checked(RetrainEngineSettings, given(flags))
    from linernotes import api

    with Bars() as bars:
        bank = api.build_bank(
            out, model, catalog, prompts, halves, again, seeds, full, draws, seed, bars, engine
        )
    if as_json:
        print_json(bank.header)
        return
    stdout.print(
        f"{escape(str(bank.path))}: {len(bank.names)} models, {len(bank.queries)} clips, {len(bank.tracks)} "
        "tracks"
    )


@app.command("show")
@plainly
def bank_show(
    bank: BankOption = "benchmark",
    model: BenchmarkModelOption = "benchmark",
    catalog: BenchmarkCatalogueOption = "benchmark",
    as_json: JsonOption = False,
) -> None:
    """Print whether a bank can be trusted: what every retrained model learned, and that it still
    generates.
    """
    check_bank(bank)
    check_places(model, catalog)
    from linernotes import api
    from linernotes.report.truth import bank_table

    opened = api.open_bank(bank, model, catalog, even_if_wrong=True)
    lines = api.check(opened)
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
