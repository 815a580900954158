"""``linernotes catalog ...``: build and look at catalogues."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

import linernotes
from linernotes.cli.options import JsonOption, ModelOption, given, settings_flags
from linernotes.cli.output import Bars, plainly, print_json, print_table, stdout
from linernotes.demo.places import BUILTIN, require_catalogue, require_model
from linernotes.errors import LinernotesError
from linernotes.settings.engine import EngineSettings
from linernotes.settings.paths import require_file, require_folder, require_new, require_recordings
from linernotes.settings.reading import checked

if TYPE_CHECKING:
    from linernotes.catalog.track import Reject

SHOWN = 20  # tracks and no more on a screen

app = typer.Typer(no_args_is_help=True, help="Build and look at catalogues of training tracks.")


@app.command("build")
@plainly
@settings_flags(EngineSettings, "Where it runs")
def catalog_build(
    source: Annotated[
        Path,
        typer.Argument(help="Folder of recordings, with or without a table of them, or of latents."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The catalogue to make.")],
    model: ModelOption = BUILTIN,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if anything in the source cannot be used.")
    ] = False,
    as_json: JsonOption = False,
    **flags: Any,
) -> None:
    """Build a catalogue from a folder of recordings; what cannot be used is listed with its reason."""
    engine = checked(EngineSettings, given(flags))
    require_recordings(source)
    require_model(model)
    require_new(out, empty_will_do=True)
    require_folder(out.parent)
    with Bars() as bars:
        catalogue = linernotes.build_catalogue(source, out, model, strict, on_progress=bars, engine=engine)
    rejects = catalogue.rejects()
    if as_json:
        print_json({**catalogue.record, "rejected": [reject.__dict__ for reject in rejects]})
        return
    r = catalogue.record
    stdout.print(
        f"{escape(str(out))}: {r['tracks']} tracks ({r['decoys']} decoys), {r['segments']} segments, hash "
        f"{r['hash']}"
    )
    for note in r.get("notes", ()):
        stdout.print(f"[dim]{escape(note)}[/]")
    _show_rejects(rejects)


@app.command("show")
@plainly
def catalog_show(
    catalogue: Annotated[str, typer.Argument(help="A catalogue, or 'builtin'.")],
    as_json: JsonOption = False,
) -> None:
    """Print what is in a catalogue: sizes, what it was encoded with, its tracks and its rejects."""
    require_catalogue(catalogue)
    from linernotes.report.catalogue import tracks_table

    opened = linernotes.open_catalogue(catalogue)
    rejects = opened.rejects()
    if as_json:
        tracks = [track.__dict__ for track in opened.tracks]
        print_json(
            {**opened.record, "track_list": tracks, "rejected": [reject.__dict__ for reject in rejects]}
        )
        return
    r = opened.record
    seconds = float(opened.seconds_n.sum())
    stdout.print(
        f"[bold]{escape(str(opened.path))}[/]: {r['tracks']} tracks ({r['decoys']} decoys), {r['segments']} "
        f"segments, {int(seconds) // 60} min {int(seconds) % 60} s, encoded by "
        f"{escape(opened.encoding.model)}, hash {r['hash']}"
    )
    print_table(tracks_table(opened.tracks, SHOWN))
    _show_rejects(rejects)


@app.command("rights")
@plainly
def catalog_rights(
    catalogue: Annotated[str, typer.Argument(help="A catalogue, or 'builtin'.")],
    table: Annotated[
        Path | None, typer.Argument(help="Table of rights; shows what is kept now if left out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hold a table of rights against a catalogue, and keep it beside the catalogue if it has no flaws.

    The version that was kept before stays; credits name the one they were made with.
    """
    require_catalogue(catalogue)
    if table is not None:
        require_file(table, "a table of rights")
    from linernotes.report.credits import rights_table

    found = linernotes.check_rights(catalogue, table)
    kept = str(found.recorded) if found.recorded else None
    rights = found.rights
    if as_json:
        facts = {"hash": rights.hash, "rows": rights.rows, "notes": rights.notes} if rights else {}
        print_json({"recorded": kept, "flaws": found.flaws, **facts})
    elif rights:
        print_table(rights_table(rights))
        stdout.print(f"hash {rights.hash}" + (f", kept as {escape(kept)}" if kept else ", not kept"))
    else:
        for flaw in found.flaws:
            stdout.print(escape(flaw))
    if found.flaws:
        raise LinernotesError(
            f"{table} has {len(found.flaws)} flaws, the first is: {found.flaws[0]} (nothing was kept)"
        )


@app.command("render")
@plainly
def catalog_render(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for FLAC files and metadata.csv.")],
    as_json: JsonOption = False,
) -> None:
    """Write the tracks of the built-in catalogue as sound, in a folder that 'catalog build' reads."""
    require_folder(out)
    with Bars() as bars:
        linernotes.render_builtin(out, on_progress=bars)
    if as_json:
        print_json({"folder": str(out)})
        return
    stdout.print(escape(str(out)))


def _show_rejects(rejects: list[Reject]) -> None:
    if not rejects:
        return
    from linernotes.report.catalogue import rejects_table

    stdout.print(f"\n{len(rejects)} not in the catalogue:")
    print_table(rejects_table(rejects))
