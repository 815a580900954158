"""Options that several verbs have, and typed settings as flags, so that a setting is named and described once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from pydantic import BaseModel

ModelOption = Annotated[str, typer.Option("--model", help="Folder of a Stable Audio pipeline, or 'builtin'.")]
CatalogueOption = Annotated[str, typer.Option("--catalog", help="A catalogue, or 'builtin'.")]
MethodOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--method", help="One of 'linernotes methods'; abu, or the settings file's, if left out."),
]
MethodsOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--methods", help="Some of 'linernotes methods', with commas between; all if left out."),
]
SettingsOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="TOML file with settings, or an attribution.json to repeat; flags go on top."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def settings_flags(settings: Sequence[type[BaseModel]], panel: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds a flag for every field of any of ``settings`` to a command that takes them as ``**flags``.

    A flag that is not given arrives as None, so that a settings file can say otherwise.
    """
    fields = {name: field for kind in reversed(settings) for name, field in kind.model_fields.items()}
    defaults = {name: {str(k.model_fields[name].default) for k in settings if name in k.model_fields} for name in fields}

    def add(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        flags = []
        for name, field in fields.items():
            default = str(field.default).lower() if isinstance(field.default, bool) else field.default
            shown = default if len(defaults[name]) == 1 else "the method's"
            text = f"{field.description} \\[default: {shown}]"  # escaped: square brackets are markup
            flag = "--" + name.replace("_", "-")
            names = [f"{flag}/--no-{flag[2:]}"] if field.annotation is bool else [flag]
            option = typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)
            annotation = Annotated[Optional[field.annotation], option]  # type: ignore[name-defined]  # noqa: UP045
            flags.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
        command.__signature__ = signature.replace(parameters=[*own, *flags])  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in [*own, *flags]}
        return command

    return add


def given(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that were given."""
    return {name: value for name, value in flags.items() if value is not None}


def listed(names: str | None) -> list[str] | None:
    """``"a,b"`` -> ``["a", "b"]``."""
    return [name.strip() for name in names.split(",") if name.strip()] if names else None
