"""``linernotes index ...``: plan, build and look at indexes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

import linernotes
from linernotes.cli.options import CatalogueOption, JsonOption, ModelOption, adaptable, given, settings_flags
from linernotes.cli.output import Bars, plainly, print_json, print_table, stdout
from linernotes.demo.places import BUILTIN, require_places
from linernotes.settings.engine import EngineSettings
from linernotes.settings.paths import require_folder
from linernotes.settings.reading import checked, parted
from linernotes.settings.verbs import IndexSettings

if TYPE_CHECKING:
    from linernotes.index.store import Index

app = typer.Typer(
    no_args_is_help=True, help="Plan, build and look at indexes, from which shortlists are taken."
)


@app.command("build")
@plainly
@settings_flags(EngineSettings, "Where it runs")
@settings_flags(IndexSettings)
@adaptable
def index_build(
    out: Annotated[Path, typer.Option("--out", "-o", help="The index to make, or to bring up to date.")],
    model: ModelOption = BUILTIN,
    catalog: CatalogueOption = BUILTIN,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Make small vectors of all segments of a catalogue, so that a clip is held against a shortlist and not
    against everything; and measure what shortlists miss.
    """
    engine, of_index = parted(EngineSettings, given(flags))
    checked(IndexSettings, of_index)
    require_places(model, catalog)
    require_folder(out.parent)
    with Bars() as bars:
        built = linernotes.build_index(out, model, catalog, on_progress=bars, engine=engine, **of_index)
    _show(built, as_json)


@app.command("plan")
@plainly
@settings_flags(EngineSettings, "Where it would run")
@settings_flags(IndexSettings)
@adaptable
def index_plan(
    model: ModelOption = BUILTIN,
    catalog: CatalogueOption = BUILTIN,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Say what building an index will take before it begins: time, memory, disk, from a few seconds of
    measurement.
    """
    engine, of_index = parted(EngineSettings, given(flags))
    checked(IndexSettings, of_index)
    require_places(model, catalog)
    from linernotes.report.costs import index_plan_table

    with Bars() as bars:
        planned = linernotes.plan_index(model, catalog, on_progress=bars, engine=engine, **of_index)
    if as_json:
        print_json(vars(planned))
        return
    print_table(index_plan_table(planned))


@app.command("show")
@plainly
def index_show(
    index: Annotated[Path, typer.Argument(help="An index.")],
    as_json: JsonOption = False,
) -> None:
    """Say what an index holds, and what shortlists from it miss."""
    _show(linernotes.open_index(index), as_json)


def _show(index: Index, as_json: bool) -> None:
    from linernotes.report.index import recall_table

    if as_json:
        table = recall_table(index.recall).json()
        print_json({**index.record, "bytes_each": index.bytes_each, "recall": table})
        return
    size = index.recall.size_for()
    stdout.print(
        f"{escape(str(index.path))}: {len(index)} segments, {index.bytes_each} bytes each, "
        f"shortlists of {size} tracks"
    )
    print_table(recall_table(index.recall))
