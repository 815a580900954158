"""``linernotes VERB``: which verbs there are. The module of a verb is imported when it is called, so that
asking for the version or for help costs no wait.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from linernotes.version import __version__


class Verb(NamedTuple):
    """Where a verb, or a group of them, is, and what it says of itself among the others."""

    module: str  # of linernotes.cli; its ``app`` has the verb, or is the group
    help: str  # the first paragraph of its own help


VERBS = {
    "demo": Verb(
        "clips",
        "Generate a clip, attribute it and draw its page, all on the built-in model and catalogue.",
    ),
    "generate": Verb(
        "clips",
        "Generate a clip from a prompt, with the sidecar that lets 'attribute' use exactly what was "
        "generated.",
    ),
    "attribute": Verb(
        "clips",
        "Say which training tracks shaped CLIPS, by default by unlearning: make a copy of the model forget "
        "each clip and measure what it gets worse at.",
    ),
    "report": Verb(
        "clips",
        "Draw the page of an attribution again, from its files alone.",
    ),
    "verify": Verb(
        "clips",
        "Put an attribution to the test, and hear it: train again without its first tracks, and make the "
        "clip again.",
    ),
    "replay": Verb(
        "clips",
        "Score a clip again as its record says, and say whether every score is the same.",
    ),
    "credits": Verb(
        "crediting",
        "Say whose a clip is: shares of recordings and works by party, and what nobody can be named for.",
    ),
    "statement": Verb(
        "crediting",
        "Sum up CREDITS of many clips for a period: who gets how much of which recording and work.",
    ),
    "audit": Verb(
        "crediting",
        "Check a record: unchanged, adding up, its identifiers right, its sources those at hand, its "
        "signature.",
    ),
    "key": Verb("key", "Make keys that statements are signed with."),
    "desk": Verb(
        "desk",
        "Open a desk in the browser: make, drop in and attribute clips, listen, compare, account.",
    ),
    "train": Verb(
        "training",
        "Train a new small model, or an adapter to a model, on a catalogue's training tracks; a stopped "
        "training goes on where it was.",
    ),
    "rebuild": Verb(
        "training",
        "Make the built-in catalogue and model anew from nothing: render, fit the codec, encode, train.",
    ),
    "models": Verb(
        "models",
        "List the families of models that can be opened: what their folders hold, and a command to try each.",
    ),
    "convert": Verb(
        "models",
        "Turn pickles into safetensors without running code in them: a checkpoint into a model's folder, "
        "preprocessed clips into latents.",
    ),
    "catalog": Verb("catalog", "Build and look at catalogues of training tracks."),
    "bank": Verb(
        "bank",
        "Build and look at retrain banks: models trained again on known tracks, the ground truth.",
    ),
    "evaluate": Verb("evaluate", "Measure whether attributions, and the model, are any good."),
    "calibrate": Verb(
        "calibrate",
        "Fit what a method's scores are worth from retraining, and show whether it holds where it was not "
        "fitted.",
    ),
    "methods": Verb(
        "research", "List all attribution methods: family, what each costs, where it comes from."
    ),
    "compare": Verb(
        "research",
        "Attribute CLIPS by several methods and show how far they agree, side by side.",
    ),
    "plan": Verb(
        "research",
        "Say what methods will cost before anything runs: time, memory, disk, from a few seconds of "
        "measurement.",
    ),
    "search": Verb("research", "Search a method's settings; a stopped search goes on where it was."),
    "index": Verb(
        "index",
        "Plan, build and look at indexes, from which shortlists are taken.",
    ),
    "bench": Verb(
        "research",
        "Measure what attribution costs on this machine, on the built-in model; ratios are of one and the "
        "same run.",
    ),
}


class Verbs(TyperGroup):
    """Lists verbs by what ``VERBS`` says of them, and runs them out of their modules."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "commands": Modules()})

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return TyperCommand(cmd_name, help=VERBS[cmd_name].help) if cmd_name in VERBS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, _, rest = super().resolve_command(ctx, args)
        return name, self.commands.get(str(name)), rest


class Modules(Mapping[str, Any]):
    """The verbs themselves, with all of their options, each imported when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        group = get_group(import_module(f"linernotes.cli.{VERBS[name].module}").app)
        return group.commands.get(name, group)

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of a failure.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit."),
    ] = False,
) -> None:
    """Which training tracks shaped a piece of generated music, measured from inside the model."""
    from linernotes.cli.output import settle_streams  # brings rich

    settle_streams()
    os.umask(os.umask(0o077) & ~0o700)  # whatever the mask, the owner can read and enter what is made
