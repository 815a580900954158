"""``linernotes calibrate``: what scores are worth, from a retrain bank."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from linernotes.cli.checks import check_bank, check_places
from linernotes.cli.options import (
    BankOption,
    BenchmarkCatalogueOption,
    BenchmarkModelOption,
    JsonOption,
    MethodOption,
    SettingsOption,
    method_flags,
)
from linernotes.cli.output import Bars, plainly, print_json, print_table, stderr
from linernotes.settings.reading import read_settings

app = typer.Typer()


@app.command()
@plainly
@method_flags
def calibrate(
    bank: BankOption = "benchmark",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The calibration, a .json file for 'attribute --calibration'."),
    ] = None,
    model: BenchmarkModelOption = "benchmark",
    catalog: BenchmarkCatalogueOption = "benchmark",
    method: MethodOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Fit what a method's scores are worth from retraining, and show whether it holds where it was not
    fitted.

    The bank needs 16 halves, 4 of them trained on twice. Without a calibration of its own a model borrows the
    benchmark's, and every page says so.
    """
    chosen, values = read_settings(method, settings, flags)
    check_bank(bank)
    check_places(model, catalog)
    from linernotes import api
    from linernotes.report.calibration import calibration_table

    with Bars() as bars:
        opened = api.open_bank(bank, model, catalog, on_progress=bars)
        measured = api.calibrate(opened, chosen, out, **values.model_dump())
    table = calibration_table(measured)
    if as_json:
        print_json({"calibration": measured.calibration.model_dump(), "unseen": table.records()})
        return
    print_table(table)
    if out:
        stderr.print(f"\nCalibration: {escape(str(out))}")
