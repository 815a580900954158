"""Reads settings: a TOML file, the record of an attribution (a replay), flags on
top; one sentence for the first mistake.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from linernotes.errors import LinernotesError, UsageError
from linernotes.settings.methods import DEFAULT_METHOD, METHOD_SETTINGS, MethodSettings, runnable
from linernotes.version import RECORD_VERSION, __version__

SettingsT = TypeVar("SettingsT", bound=BaseModel)


def read_settings(method: str | None, path: Path | None, flags: dict[str, Any]) -> tuple[str, MethodSettings]:
    """A method and its settings: from a TOML file or an ``attribution.json`` (a replay), with ``flags`` that
    are set on top.

    Args:
        method: None for the file's, or the default.

    Raises:
        UsageError: no such method, a file for another method, an unknown setting or a value out of range.
        LinernotesError: the file is missing or cannot be read.
    """
    values = _from_file(path) if path else {}
    named = values.pop("method", None)
    if method and named and named != method:
        raise UsageError(
            f"{path} holds settings for {named!r}, not for {method!r}: give another file, or --method {named}"
        )
    chosen = method or named or DEFAULT_METHOD
    settings = settings_of(chosen)
    checked(settings, values, f" in {path}")
    given = {name: value for name, value in flags.items() if value is not None}
    return chosen, checked(settings, values | given, f" for {chosen}")


def refuse_newer(path: Path, record: Mapping[str, Any], newest: int, remedy: str) -> None:
    """Refuses a record of a later version than the ``newest`` that is known here.

    Args:
        remedy: what to do about one that does not say its version.

    Raises:
        LinernotesError: it is newer, or does not say what it is.
    """
    version = record.get("schema_version")
    if not isinstance(version, int):
        raise LinernotesError(f"{path} does not say its schema version: {remedy}")
    if version > newest:
        raise LinernotesError(
            f"{path} was written by a newer linernotes ({record.get('linernotes')}; this is {__version__}): "
            "update linernotes"
        )


def settings_of(method: str) -> type[MethodSettings]:
    """The settings class of a method.

    Raises:
        UsageError: no such method.
    """
    if method not in METHOD_SETTINGS:
        raise UsageError(f"there is no method {method!r}: choose one of {', '.join(METHOD_SETTINGS)}")
    return METHOD_SETTINGS[method]


def settings_where_they_fit(methods: Sequence[str], values: Mapping[str, Any]) -> dict[str, MethodSettings]:
    """Settings of several methods: each takes those of ``values`` that it has.

    Raises:
        UsageError: no such method, none of them has such a setting, or a value is out of range.
    """
    kinds = {method: settings_of(method) for method in methods}
    for name, value in values.items():
        if not any(name in kind.model_fields for kind in kinds.values()):
            raise UsageError(
                f"setting {name} = {value!r} fits none of the methods {', '.join(methods)}: leave it out"
            )
    return {
        method: checked(kind, {n: v for n, v in values.items() if n in kind.model_fields}, f" for {method}")
        for method, kind in kinds.items()
    }


def chosen_methods(methods: Sequence[str] | None, values: Mapping[str, Any]) -> dict[str, MethodSettings]:
    """Methods that look at clips one by one, with their settings; all that can run if None.

    Raises:
        UsageError: none, an unknown one, a setting that none of them has, one out of range, or ``together``.
    """
    refuse_together(values)
    names = list(methods) if methods is not None else runnable(values)
    if not names:
        raise UsageError("no method was named: leave out --methods for all of them")
    return settings_where_they_fit(names, values)


def chosen_method(method: str, values: Mapping[str, Any]) -> MethodSettings:
    """The settings of one method that looks at clips one by one.

    Raises:
        UsageError: no such method or setting, a value out of range, or ``together``.
    """
    chosen = checked(settings_of(method), values, f" for {method}")
    refuse_together(values)
    return chosen


def parted(verb: type[SettingsT], values: Mapping[str, Any]) -> tuple[SettingsT, dict[str, Any]]:
    """The settings of a verb out of ``values``, and those that are left for its methods.

    Raises:
        UsageError: a value of the verb's is out of range.
    """
    own = {name: value for name, value in values.items() if name in verb.model_fields}
    return checked(verb, own), {name: value for name, value in values.items() if name not in own}


def refuse_together(settings: Mapping[str, Any]) -> None:
    """Refuses to take clips as one set, where each of them is measured.

    Raises:
        UsageError: ``settings`` says ``together``.
    """
    if settings.get("together"):
        raise UsageError(
            "here each clip is looked at by itself: leave out --together, which is for attribute"
        )


def as_flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as the command line takes them."""
    words = []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        words += (
            [f"--{flag}" if value else f"--no-{flag}"]
            if isinstance(value, bool)
            else [f"--{flag}", str(value)]
        )
    return words


def checked(settings: type[SettingsT], values: Mapping[str, Any], where: str = "") -> SettingsT:
    """``settings(**values)``, with the first mistake as one sentence; ``where``
    says what the values are for or from.

    Raises:
        UsageError: an unknown setting or a value out of range.
    """
    try:
        return settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            why = f"there is none of that name; the settings are {', '.join(settings.model_fields)}"
        else:
            why = first["msg"].removeprefix("Value error, ")
            why = why[:1].lower() + why[1:]
        what = f"setting {name} = {first.get('input')!r}" if name else "the settings"
        raise UsageError(f"{what}{where} {'is' if name else 'are'} refused: {why}") from None


def _from_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            record = json.loads(text)
            if not isinstance(record, dict) or not isinstance(record.get("settings"), dict):
                raise LinernotesError(
                    f"{path} is no attribution.json: give one, or a TOML file with settings"
                )
            refuse_newer(path, record, RECORD_VERSION, "attribute the clip anew")
            return {"method": record["method"], **record["settings"]}
        return tomllib.loads(text)
    except OSError as error:
        raise LinernotesError(f"{path} cannot be read ({error.strerror}): check the path") from None
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LinernotesError(
            f"{path} is not a settings file ({error}): write TOML, or give an attribution.json"
        ) from None
