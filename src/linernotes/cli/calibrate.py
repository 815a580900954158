"""``linernotes calibrate``: what scores are worth, from a retrain bank."""

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
    MethodOption,
    SettingsOption,
    adaptable,
    method_flags,
)
from linernotes.cli.output import Bars, plainly, print_json, print_table, stderr
from linernotes.demo.places import BENCHMARK, require_bank, require_places
from linernotes.settings.paths import require_new
from linernotes.settings.reading import read_settings

app = typer.Typer()


@app.command()
@plainly
@method_flags
@adaptable
def calibrate(
    bank: BankOption = BENCHMARK,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The calibration, a .json file for 'attribute --calibration'."),
    ] = None,
    model: BenchmarkModelOption = BENCHMARK,
    catalog: BenchmarkCatalogueOption = BENCHMARK,
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
    require_bank(bank)
    require_places(model, catalog)
    if out:
        require_new(out)
    from linernotes.report.calibration import calibration_table

    with Bars() as bars:
        opened = linernotes.open_bank(bank, model, catalog, on_progress=bars)
        measured = linernotes.calibrate(opened, chosen, out, **values.model_dump())
    table = calibration_table(measured)
    if as_json:
        print_json({"calibration": measured.calibration.model_dump(), "unseen": table.records()})
        return
    print_table(table)
    if out:
        stderr.print(f"\nCalibration: {escape(str(out))}")
