"""Options that several verbs have, and typed settings as flags, so that a
setting is named and described once.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import linernotes
from linernotes.settings.methods import DEFAULT_METHOD, METHOD_SETTINGS, MethodSettings
from linernotes.settings.paths import require_there

_NAMES = "a benchmark's name"
ModelOption = Annotated[str, typer.Option("--model", help=f"Folder of a model, 'builtin' or {_NAMES}.")]
AdapterOption = Annotated[
    Path | None,
    typer.Option(
        "--adapter",
        help="Folder of a LoRA or DoRA adapter to the model: the layers that are looked at are its own.",
    ),
]
CatalogueOption = Annotated[str, typer.Option("--catalog", help=f"A catalogue, 'builtin' or {_NAMES}.")]
BenchmarkModelOption = Annotated[
    str, typer.Option("--model", help=f"Folder of the model that is trained anew, or {_NAMES}.")
]
BenchmarkCatalogueOption = Annotated[
    str, typer.Option("--catalog", help=f"The catalogue it was trained on, or {_NAMES}.")
]
BankOption = Annotated[str, typer.Option("--bank", help=f"Folder or file of a retrain bank, or {_NAMES}.")]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        help=f"One of 'linernotes methods'; {DEFAULT_METHOD}, or the settings file's, if left out.",
    ),
]
MethodsOption = Annotated[
    str | None,
    typer.Option("--methods", help="Some of 'linernotes methods', with commas between; all if left out."),
]
SettingsOption = Annotated[
    Path | None,
    typer.Option(help="TOML file with settings, or an attribution.json to repeat; flags go on top."),
]
PromptOption = Annotated[
    str | None,
    typer.Option("--prompt", help="The prompt, if anyone knows it, of clips without a sidecar."),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="Folder for table (Parquet, Markdown) and picture (SVG); nothing is saved if left out.",
    ),
]
IndexOption = Annotated[
    Path | None,
    typer.Option(
        help="From 'linernotes index build': score a shortlist, and say what it may miss. The built-in "
        "catalogue has one."
    ),
]
ExhaustiveOption = Annotated[
    bool, typer.Option("--exhaustive", help="Score everything, also where there is an index.")
]
ShortlistOption = Annotated[
    int | None,
    typer.Option(help="How many tracks a shortlist has; as many as the index says if left out."),
]
AuditOption = Annotated[
    int | None,
    typer.Option(
        help="How many of the other tracks are drawn at random and scored exactly, too: the more, the closer "
        "shares are known. As many as are listed, from 25 to 100, if left out."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

Command = Callable[..., None]


def settings_flags(settings: type[BaseModel], panel: str | None = None) -> Callable[[Command], Command]:
    """Adds a flag for every field of ``settings`` to a command that takes them as ``**flags``.

    Their bounds are those of the fields, and are looked at when ``settings`` are made of them.

    A flag that is not given arrives as None, so that a settings file can say otherwise.
    """
    return adding(
        [
            _flag(name, field, "" if field.default is None else str(field.default), panel)
            for name, field in settings.model_fields.items()
        ]
    )


def method_flags(command: Command) -> Command:
    """Adds a flag for every setting that any method has, under the names of the methods that have it."""
    flags = []
    for name in dict.fromkeys(name for kind in METHOD_SETTINGS.values() for name in kind.model_fields):
        kinds = {method: kind for method, kind in METHOD_SETTINGS.items() if name in kind.model_fields}
        fields = [kind.model_fields[name] for kind in kinds.values()]
        default = (
            str(fields[0].default) if len({str(field.default) for field in fields}) == 1 else "the method's"
        )
        whose = (
            "all methods"
            if len(kinds) == len(METHOD_SETTINGS)
            else "most methods"
            if len(kinds) > 8
            else ", ".join(kinds)
        )
        flags.append(_flag(name, fields[0], default, f"Settings of {whose}", _described(kinds, name)))
    return adding(flags)(command)


def _described(kinds: Mapping[str, type[MethodSettings]], name: str) -> str:
    """What a setting is; where it is another thing to some methods, what it is to those."""
    methods_of: dict[str, list[str]] = {}
    for method, kind in kinds.items():
        methods_of.setdefault(str(kind.model_fields[name].description), []).append(method)
    first, *others = methods_of
    return " ".join(
        [first, *(f"For {', '.join(methods_of[other])}: {other[0].lower()}{other[1:]}" for other in others)]
    )


def _flag(
    name: str, field: FieldInfo, default: str, panel: str | None, description: str | None = None
) -> inspect.Parameter:
    asked = next(
        (kind for kind in get_args(field.annotation) if get_origin(kind) is Literal), field.annotation
    )
    boolean = asked is bool
    shown = default.lower() if boolean else default
    text = description or str(field.description)
    text += f" \\[default: {shown}]" if shown else ""  # escaped: brackets are markup
    flag = "--" + name.replace("_", "-")
    names = [f"{flag}/--no-{flag[2:]}"] if boolean else [flag]
    choices = get_args(asked) if get_origin(asked) is Literal else ()
    option = typer.Option(
        *names,
        help=text,
        rich_help_panel=panel,
        show_default=False,
        metavar=f"[{'|'.join(choices)}]" if choices else None,
    )
    kind = str if choices else asked
    annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def adding(flags: Sequence[inspect.Parameter]) -> Callable[[Command], Command]:
    """Adds flags to a command that takes them as ``**flags``; ``--json`` stays the last of its own."""

    def add(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        last = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own if p.name == "as_json"]
        parameters = [*(p for p in own if p.name != "as_json"), *flags, *last]
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return add


def adaptable(command: Command) -> Command:
    """Adds ``--adapter`` to a command that takes ``model``, which it gets with the adapter in it."""
    signature = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def run(*args: Any, adapter: Path | None = None, **kwargs: Any) -> None:
        if adapter is not None:
            require_there(adapter, f"there is no adapter at {adapter}: check the path")
            kwargs["model"] = str(linernotes.with_adapter(kwargs["model"], adapter))
        command(*args, **kwargs)

    flag = inspect.Parameter(
        "adapter", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=AdapterOption
    )
    run.__signature__ = signature  # type: ignore[attr-defined]
    return adding([flag])(run)


def given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given."""
    return {name: value for name, value in flags.items() if value is not None}


def listed(names: str | None) -> list[str] | None:
    """``"a,b"`` -> ``["a", "b"]``."""
    return [name.strip() for name in names.split(",") if name.strip()] if names else None
