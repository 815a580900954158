"""Turns typed settings into flags, so that a setting's name, range and description are written once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Optional

import typer
from pydantic import BaseModel


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
