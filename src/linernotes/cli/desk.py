"""The verb ``desk``: a web application on one's own machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from linernotes.cli.output import plainly, stderr, stdout
from linernotes.demo.places import BUILTIN, require_places
from linernotes.errors import UsageError
from linernotes.settings.methods import DEFAULT_METHOD
from linernotes.settings.reading import settings_of

PORT = 8420
LOOPBACK = ("127.0.0.1", "localhost", "::1")

app = typer.Typer()


@app.command()
@plainly
def desk(
    folder: Annotated[Path, typer.Argument(help="Where the desk keeps everything; made if need be.")] = Path(
        "desk"
    ),
    model: Annotated[
        str, typer.Option(help="Folder of the model, or 'builtin', or the name of a benchmark.")
    ] = BUILTIN,
    catalog: Annotated[
        str, typer.Option("--catalog", help="Folder of the catalogue that the model was trained on.")
    ] = BUILTIN,
    index: Annotated[
        Path | None, typer.Option(help="An index of the catalogue, from which shortlists are taken.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="What clips are attributed and accounted for by.")
    ] = DEFAULT_METHOD,
    calibration: Annotated[
        Path | None, typer.Option(help="What scores are worth, made by 'linernotes calibrate'.")
    ] = None,
    drawn: Annotated[
        Literal["segments", "tracks"] | None,
        typer.Option(help="What training drew evenly, if the model does not say so."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to answer at; others than this machine's need the token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to answer at; 0: any that is free.")
    ] = PORT,
    name: Annotated[
        list[str] | None,
        typer.Option(help="A further name that this machine is called by, if --host is not loopback."),
    ] = None,
    shared: Annotated[
        bool, typer.Option("--shared", help="Ask this machine's own users for the token, too.")
    ] = False,
    read_only: Annotated[
        bool,
        typer.Option("--read-only", help="Work nothing off: no model is loaded, everything can be read."),
    ] = False,
) -> None:
    """Open a desk in the browser: make, drop in and attribute clips, listen, compare, account.

    Everything stays on this machine. Ctrl-C ends it; what is under way is taken up again next time.
    """
    require_places(model, catalog)
    settings_of(method)  # refuses what is none
    if name and host in LOOPBACK:
        raise UsageError("--name is for a desk that others reach: give --host 0.0.0.0 with it")
    from linernotes.desk.opened import Opened
    from linernotes.desk.serving import bound, serve

    opened = Opened(
        folder=folder.resolve(),
        model=model if model == BUILTIN or not Path(model).exists() else str(Path(model).resolve()),
        catalogue=catalog
        if catalog == BUILTIN or not Path(catalog).exists()
        else str(Path(catalog).resolve()),
        index=str(index.resolve()) if index else None,
        calibration=str(calibration.resolve()) if calibration else None,
        drawn=drawn,
        method=method,
    )
    with bound(host, port) as socket:
        serve(
            opened,
            socket,
            names=[*(name or []), *([] if host in (*LOOPBACK, "0.0.0.0", "::") else [host])],
            everyone=shared,
            working=not read_only,
            on_ready=lambda link: stdout.print(f"the desk is at [bold]{escape(link)}[/]"),
            on_end=lambda: stderr.print("the desk is closed; what was under way is taken up again next time"),
        )
