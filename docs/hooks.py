"""Two pages of the site are made from the code while it is built: the settings
of every method, and the command line.

Reads the typed settings and the commands themselves, so neither page can say something else than the program
does. Imports nothing heavy: both are made without torch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import annotated_types as bounds
import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from linernotes.cli.app import app
from linernotes.settings.methods import DEFAULT_METHOD, METHOD_SETTINGS, MethodSettings
from linernotes.settings.training import NewModelSettings, TrainingSettings
from linernotes.settings.verbs import VERB_SETTINGS

OF_METHODS = "Settings of "  # how the panels are called under which --help shows the settings of methods
OF_TRAINING = "How it is trained"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the two pages."""
    for name, page in (("settings", settings_page()), ("command-line", command_line_page())):
        files.append(File.generated(config, f"reference/{name}.md", content=page))
    return files


def settings_page() -> str:
    """Every method's settings with defaults and bounds, those of a training, and those of every verb."""
    common = set(MethodSettings.model_fields)
    lines = [
        "# Settings",
        "",
        "Made from `linernotes.settings` when this site was built. One name serves everywhere:",
        "`step_size` is `--step-size` on the command line, `step_size` in a TOML file for `--settings`,",
        "a keyword of the Python functions, and what `attribution.json` records.",
        "",
        "## All methods",
        "",
        *_table(MethodSettings, common),
    ]
    for name, settings in METHOD_SETTINGS.items():
        default = ", the default" if name == DEFAULT_METHOD else ""
        once, _, query = settings.cost.partition("; ")
        lines += [
            "",
            f"## {name}{default} {{ #{name} }}",
            "",
            " ".join((settings.__doc__ or "").split()),
            "",
            f"Family: {settings.family}. Source: {settings.paper}.",
            "",
            f"Cost (N segments, K draws): once per model, {once}; a query, {query}.",
            "",
        ]
        own = set(settings.model_fields) - common
        lines += _table(settings, own) if own else ["It has no settings of its own."]
    lines += ["", "## Training", "", *_table(TrainingSettings, set(TrainingSettings.model_fields))]
    lines += ["", "What is trained:", "", *_table(NewModelSettings, set(NewModelSettings.model_fields))]
    lines += [
        "",
        "## Verbs",
        "",
        "What can be set of a verb besides; its Python function takes the same keywords.",
    ]
    for verb, kind in VERB_SETTINGS.items():
        lines += ["", f"### {verb}", "", " ".join((kind.__doc__ or "").split()), ""]
        lines += _table(kind, set(kind.model_fields))
    return "\n".join([*lines, ""])


def _table(settings: type[BaseModel], names: set[str]) -> list[str]:
    values = settings().model_dump()
    rows = [
        f"| `{name}` | {_written(values[name])}{_unfixed(field)} | {_allowed(field)} | "
        f"{_cell(str(field.description))} |"
        for name, field in settings.model_fields.items()
        if name in names
    ]
    return ["| setting | default | may be | what it is |", "|---|---|---|---|", *rows]


def _written(value: object) -> str:
    """A default as a TOML file has it; nothing where there is none."""
    match value:
        case None:
            return ""
        case bool():
            return f"`{value}`".lower()
        case str():
            return f'`"{value}"`'
    return f"`{value}`"


def _unfixed(field: FieldInfo) -> str:
    """Said of a default that follows from other settings: it is shown as it is with theirs."""
    return " (follows other settings)" if field.default_factory else ""


def _allowed(field: FieldInfo) -> str:
    given = next((kind for kind in get_args(field.annotation) if kind is not NoneType), field.annotation)
    if get_origin(given) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(given))
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(field.annotation))
    if given is bool:
        return "`true`, `false`"
    if given is str:
        return "text"
    kind = "a whole number" if given is int else "a number"
    limits = [_limit(bound) for bound in field.metadata]
    return " ".join([kind, ", ".join(limit for limit in limits if limit)]).strip()


def _limit(bound: object) -> str:
    match bound:
        case bounds.Gt(gt):
            return f"above {gt}"
        case bounds.Ge(ge):
            return f"from {ge}"
        case bounds.Lt(lt):
            return f"below {lt}"
        case bounds.Le(le):
            return f"up to {le}"
    return ""


def command_line_page() -> str:
    """Every command with what it takes."""
    lines = [
        "# Command line",
        "",
        "Made from the commands themselves when this site was built; `linernotes COMMAND --help` says",
        "the same.",
        "",
        "Results go to stdout, all else to stderr. The exit code is 0 when the thing was done, 2 for bad",
        "usage, 1 for a failure. A failure is one sentence; `linernotes --debug COMMAND` shows the whole",
        "traceback.",
    ]
    for path, command in _commands(typer.main.get_command(app), ("linernotes",)):
        lines += ["", f"## {' '.join(path)}", "", _plain(command.help or ""), "", *_usage(path, command), ""]
        lines += _options(command)
    return "\n".join([*lines, ""])


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    below: Mapping[str, Any] | None = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, each in below.items():
        yield from _commands(each, (*path, name))


def _usage(path: tuple[str, ...], command: Any) -> list[str]:
    words = [*path]
    for parameter in command.params:
        needed = (
            parameter.name.upper()
            if _is_argument(parameter)
            else f"{parameter.opts[-1]} {parameter.name.upper()}"
        )
        words += [needed + ("..." if parameter.nargs == -1 else "")] if parameter.required else []
    return ["```console", " ".join(words), "```"]


def _options(command: Any) -> list[str]:
    rows, panels = [], set()
    for parameter in command.params:
        panel = getattr(parameter, "rich_help_panel", None) or ""
        if panel.startswith(OF_METHODS) or panel == OF_TRAINING:
            panels.add(OF_TRAINING if panel == OF_TRAINING else OF_METHODS)
            continue
        names = (
            [parameter.name.upper()]
            if _is_argument(parameter)
            else [*parameter.opts, *parameter.secondary_opts]
        )
        default = parameter.default
        unsaid = default in (None, False, "") or callable(default)
        help_text, _, of_settings = _plain(getattr(parameter, "help", None) or "").partition(" [default: ")
        default = of_settings.removesuffix("]") or ("" if unsaid else default)
        shown = "needed" if parameter.required else f"`{default}`" if default != "" else ""
        rows.append(f"| {', '.join(f'`{name}`' for name in names)} | {shown} | {_cell(help_text)} |")
    lines = ["| | default | |", "|---|---|---|", *rows] if rows else []
    if OF_METHODS in panels:
        lines += ["", "It also has a flag for every setting of a method: [settings](settings.md)."]
    if OF_TRAINING in panels:
        lines += ["", "It also has a flag for every [setting of a training](settings.md#training)."]
    return lines


def _is_argument(parameter: Any) -> bool:
    return str(parameter.param_type_name) == "argument"


def _plain(text: str) -> str:
    """Help without rich's markup and without line ends inside a paragraph."""
    paragraphs = Text.from_markup(text).plain.split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
