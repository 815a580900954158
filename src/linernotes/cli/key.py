"""``linernotes key ...``: keys that statements are signed with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

import linernotes
from linernotes.cli.options import JsonOption
from linernotes.cli.output import plainly, print_json, stdout
from linernotes.settings.paths import require_folder

app = typer.Typer(no_args_is_help=True, help="Make keys that statements are signed with.")


@app.callback()
def group() -> None:
    """Keeps 'new' a verb of its own, though it is the only one."""


@app.command("new")
@plainly
def key_new(
    path: Annotated[
        Path, typer.Argument(help="The private key; the public one gets the same name and .pub.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Make a pair of Ed25519 keys: a private one to sign with, a public one to give to those who check."""
    require_folder(path.parent)
    public = linernotes.new_key(path)
    if as_json:
        print_json({"private": str(path), "public": str(public)})
    else:
        stdout.print(f"{escape(str(path))}  [dim](keep it to yourself)[/]")
        stdout.print(f"{escape(str(public))}  [dim](give it to those who check)[/]")
