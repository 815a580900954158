"""Tables say the same wherever they are printed, and verbs load no more than they need."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.main import get_command, get_group
from typer.testing import CliRunner

from linernotes.artefacts import without_nan
from linernotes.cli.app import VERBS, app
from linernotes.cli.output import print_table
from linernotes.evaluation.intervals import Interval, bootstrap_mean
from linernotes.evaluation.own_first import measure_own_first
from linernotes.evaluation.self_influence import SelfRank
from linernotes.report.table import Column, Table, interval, name, number, text

HEAVY = {"torch", "diffusers", "transformers", "matplotlib", "sklearn", "scipy"}
WORDS = st.text("ab|[]`\\/* é", max_size=8).map(str.strip)
COUNTS = st.none() | st.integers(-(2**63), 2**63 - 1)
NUMBERS = st.floats(-1e6, 1e6) | st.just(math.nan)
ROWS = st.fixed_dictionaries(
    {
        "method": st.text("abc-", min_size=1, max_size=8),
        "title": WORDS,
        "share": NUMBERS,
        "kept": st.none() | st.integers(-(2**63), 2**63 - 1),
    },
    optional={"lds": st.none() | st.builds(Interval, NUMBERS, NUMBERS, NUMBERS)},
)
COLUMNS = [
    name("method", "method"),
    text("title", "title|of it"),
    number("share", "share [x]", ".0f", "%"),
    number("kept", "to"),
    interval("lds", "LDS", prefix=""),
]


def markdown_cells(lines: str) -> list[list[str]]:
    rows = [line.replace("\\|", "\0")[1:-1].split("|") for line in lines.splitlines()]
    return [[cell.strip().replace("\0", "|") for cell in row] for row in rows]


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=4))
def test_a_table_says_the_same_in_json_parquet_markdown_and_on_a_terminal(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]
) -> None:
    table = Table("lds", COLUMNS, rows, {"ceiling": 0.5}, ["a [note]"])
    folder = tmp_path_factory.mktemp("table")
    table.save(folder)
    records = without_nan(table.records())
    assert table.json() | {"methods": 0} == {"ceiling": 0.5, "methods": 0}
    kept = pq.read_table(folder / "lds.parquet")
    fields = kept.schema.names
    assert kept.schema.metadata[b"ceiling"] == b"0.5"
    assert [{f: r.get(f) for f in fields} for r in records] == without_nan(kept.to_pylist())
    lines, note = (folder / "lds.md").read_text().rstrip("\n").split("\n\n")
    headings, rule, *cells = markdown_cells(lines)
    assert (headings, set(rule), note) == ([c.heading for c in COLUMNS], {"---"}, "a [note]")
    assert cells == [[f"`{row[0]}`", *row[1:]] for row in table.cells()]
    for row, record in zip(table.cells(), records, strict=True):
        if record.get("lds") is not None:
            assert row[4].startswith(f"{record['lds']:.2f} [")


def test_a_terminal_shows_every_cell_whole(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"method": "a", "title": "x [bold] y|z", "share": 0.515, "kept": 12, "lds": Interval(0.5, 0.25, 1)},
        {"method": "b", "title": "w", "share": -2.0, "kept": None},
    ]
    above = Table("above", [text("what", "what")], [{"what": "above all"}])
    table = Table("lds", COLUMNS, rows, notes=["a [note]"], above=[above])
    print_table(table)
    printed = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in (printed[0], printed[1], printed[-1])] == [
        "what",
        "above all",
        "a [note]",
    ]
    for line, row in zip(printed[3:5], table.cells(), strict=True):
        assert [cell.strip() for cell in line.split("  ") if cell.strip()] == [cell for cell in row if cell]


@pytest.mark.parametrize(
    ("column", "value", "written"),
    [
        (number("x", "x", ".0f", "%"), 0.515, "52 %"),
        (number("x", "x", "+.4f"), -0.00001, "+0.0000"),
        (number("x", "x", ".2f"), math.nan, ""),
        (number("x", "x", "g"), None, ""),
        (number("x", "x", ",.0f", "s"), 1234.0, "1,234 s"),
        (text("x", "x"), True, "yes"),
        (text("x", "x"), False, ""),
        (interval("x", "x"), Interval(0.5, -0.25, 0.75), "0.50 [-0.25, 0.75]"),
        (interval("x", "x", ".0f", "%"), Interval(0.5, 0.25, 1.02), "50 % [25, 102]"),
        (interval("x", "x", "+.4f"), Interval(0.5, -0.00001, 1), "+0.5000 [+0.0000, +1.0000]"),
        (interval("x", "x"), Interval(math.nan, 0, 0), ""),
        (interval("x", "x"), None, ""),
    ],
)
def test_values_are_written_with_their_unit_and_nothing_for_what_there_is_none_of(
    column: Column, value: object, written: str
) -> None:
    assert column.written(value) == written


def test_columns_without_a_heading_are_for_records_alone() -> None:
    table = Table("t", [number("seen", "seen"), number("unseen")], [{"seen": 1, "unseen": 2}])
    assert table.cells() == [["1"]] and table.records() == [{"seen": 1, "unseen": 2}]
    assert "2" not in table.markdown()


def test_self_influence_is_summed_up_over_segments() -> None:
    ranks = [SelfRank(str(i), "", 0.0, rank, 1.0) for i, rank in enumerate([1.0, 1.5, 1.0, 4.0])]
    found = measure_own_first("latent", ranks)
    assert (found.first, found.first_share.value, found.mean_rank.value) == (2, 0.5, 1.875)
    assert found.mean_rank == bootstrap_mean(np.array([1.0, 1.5, 1.0, 4.0]))


# ------------------------------------------------------------------------------------------------------------
# -- start-up


def imported(*words: str) -> tuple[str, set[str]]:
    """What a command prints, and the top-level modules it has imported when it ends."""
    program = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print(json.dumps(sorted({n.split('.')[0] for n in sys.modules})), "
        "file=sys.stderr))\n"
        "sys.argv[0] = 'linernotes'\nfrom linernotes.cli.app import app\napp()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, set(json.loads(done.stderr.splitlines()[-1]))


def test_the_version_needs_nothing_but_typer() -> None:
    _, modules = imported("--version")
    assert not modules & {*HEAVY, "numpy", "pyarrow", "lance", "pydantic", "rich"}


def test_help_lists_every_verb_and_imports_none() -> None:
    shown, modules = imported("--help")
    assert not modules & {*HEAVY, "numpy", "pyarrow", "lance", "pydantic"}
    listed = " ".join(shown.replace("│", " ").split())
    for verb, (_, line) in VERBS.items():
        assert f"{verb} {line}" in listed


@pytest.mark.parametrize(
    "words", [["catalog", "show", "builtin"], ["methods"], ["models"], ["attribute", "--help"]]
)
def test_what_needs_no_model_loads_none(words: list[str]) -> None:
    shown, modules = imported(*words)
    assert shown and not modules & HEAVY


def test_verbs_are_listed_by_the_first_paragraph_of_their_own_help() -> None:
    modules = {
        module: get_group(import_module(f"linernotes.cli.{module}").app) for module, _ in VERBS.values()
    }
    found = {}
    for module, group in modules.items():
        found |= {module: group} if module in VERBS and module not in group.commands else group.commands
    assert set(found) == set(VERBS)
    for verb, command in found.items():
        assert " ".join((command.help or "").split("\n\n")[0].split()) == VERBS[verb].help


def test_whoever_walks_the_commands_meets_the_options_of_each() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert list(commands) == list(VERBS)
    assert "--prompt" in [name for option in commands["generate"].params for name in option.opts]
    assert "--within" in [
        name for option in commands["evaluate"].commands["lds"].params for name in option.opts
    ]


def test_an_unknown_verb_is_named_with_the_nearest() -> None:
    done = CliRunner().invoke(app, ["atribute"])
    assert done.exit_code == 2 and "Did you mean 'attribute'" in " ".join(done.stderr.split())


@pytest.mark.examples
def test_the_leaderboard_of_the_docs_is_what_the_benchmark_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = Path(__file__).parents[1] / "docs"
    monkeypatch.delenv("LINERNOTES_CACHE", raising=False)
    words = [sys.executable, "-m", "linernotes", "evaluate", "leaderboard", "-o", "docs/leaderboard.md"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    for made in ("leaderboard.md", "leaderboard-lds.svg", "leaderboard-planted.svg"):
        assert (tmp_path / "docs" / made).read_bytes() == (docs / made).read_bytes()
