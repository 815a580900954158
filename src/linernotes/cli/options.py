"""Turns typed settings into flags, so that a setting's name, range and description are written once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Optional

import typer
from pydantic import BaseModel


def settings_flags(settings: type[BaseModel], panel: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds a flag for every field of ``settings`` (or those in ``only``) to a command that takes them as ``**flags``.

    A flag that is not given arrives as None, so that a settings file can say otherwise.
    """

    def add(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        flags = []
        for name, field in settings.model_fields.items():
            default = str(field.default).lower() if isinstance(field.default, bool) else field.default
            text = f"{field.description} \\[default: {default}]"  # escaped: square brackets are markup
            flag = "--" + name.replace("_", "-")
            names = [f"{flag}/--no-{flag[2:]}"] if field.annotation is bool else [flag]
            option = typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)
            annotation = Annotated[Optional[field.annotation], option]  # type: ignore[name-defined]  # noqa: UP045
            flags.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
        command.__signature__ = signature.replace(parameters=[*own, *flags])  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in [*own, *flags]}
        return command

    return add
