"""One table for all that is measured: the same values on a terminal, in Markdown, in JSON and in Parquet.

A column says what its field is called in records (JSON, Parquet) and how its values are written where people
read them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from linernotes.evaluation.intervals import Interval

Kind = Literal["name", "text", "number", "interval"]
Row = Mapping[str, Any]  # by a column's name; what is missing, None or not a number is written as nothing


@dataclass(frozen=True)
class Column:
    """One column; ``name``, ``text``, ``number`` and ``interval`` make them."""

    field: str  # in records; an interval's bounds are ``prefix`` + ``low`` and ``prefix`` + ``high``
    heading: str | None  # None: only records have it
    kind: Kind
    form: str = ""  # of a number, as ``format`` takes it
    unit: str = ""  # behind the number; "%" is of a share: 0.5 is written 50 %
    prefix: str = ""
    spare: bool = False  # left out where a terminal is too narrow for all

    def fields(self, value: Any) -> dict[str, Any]:
        """What a record has of a value; nothing of an interval that there is none of."""
        return bounds(self.field, value, self.prefix) if self.kind == "interval" else {self.field: value}

    def written(self, value: Any) -> str:
        """What a reader sees of a value."""
        if value is None or self._middle(value) != self._middle(value):
            return ""
        unit = f" {self.unit}" if self.unit else ""
        if self.kind == "interval":
            return (
                f"{self._number(value.value)}{unit} [{self._number(value.low)}, {self._number(value.high)}]"
            )
        if self.kind == "number":
            return f"{self._number(value)}{unit}"
        return ("yes" if value else "") if isinstance(value, bool) else str(value)

    def _middle(self, value: Any) -> Any:
        return value.value if self.kind == "interval" else value

    def _number(self, value: float) -> str:
        if math.isinf(value):
            return "∞" if value > 0 else "-∞"
        text = format(100 * value if self.unit == "%" else value, self.form)
        nothing = self.form.startswith("+") and not set(text) & set("123456789")  # nothing has not fallen
        return text.replace("-", "+", 1) if nothing and value == value else text


def name(field: str, heading: str | None) -> Column:
    """A column of names of methods, settings and the like."""
    return Column(field, heading, "name")


def text(field: str, heading: str | None = None, spare: bool = False) -> Column:
    """A column of words; True is written yes, False nothing. A ``spare`` one is left out where a terminal is
    narrow.
    """
    return Column(field, heading, "text", spare=spare)


def number(field: str, heading: str | None = None, form: str = "", unit: str = "") -> Column:
    """A column of numbers."""
    return Column(field, heading, "number", form, unit)


def interval(
    field: str, heading: str | None = None, form: str = ".2f", unit: str = "", prefix: str | None = None
) -> Column:
    """A column of figures with their intervals; ``prefix`` of the bounds' fields is ``FIELD_`` if left
    out.
    """
    return Column(field, heading, "interval", form, unit, f"{field}_" if prefix is None else prefix)


def bounds(field: str, value: Interval | None, prefix: str) -> dict[str, float]:
    """An interval as records have it: three numbers, or nothing."""
    return {field: value.value, f"{prefix}low": value.low, f"{prefix}high": value.high} if value else {}


@dataclass(frozen=True)
class Table:
    """Rows under columns, with what is said of all of them."""

    # of its files; of a table that stands above another, the field of its rows in that one's record
    name: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    about: Mapping[str, Any] = field(default_factory=dict)  # facts for records, as JSON has them
    notes: Sequence[str] = ()  # sentences for readers, below
    above: Sequence[Table] = ()
    picture: str = ""  # SVG

    @property
    def shown(self) -> list[Column]:
        """The columns that readers see."""
        return [column for column in self.columns if column.heading is not None]

    def cells(self) -> list[list[str]]:
        """What readers see of each row."""
        return [[column.written(row.get(column.field)) for column in self.shown] for row in self.rows]

    def records(self) -> list[dict[str, Any]]:
        """The rows, field by field; what a row has no key for is left out."""
        return [
            {k: v for c in self.columns if c.field in row for k, v in c.fields(row[c.field]).items()}
            for row in self.rows
        ]

    def json(self) -> dict[str, Any]:
        """All of it for machines: facts, the rows of what stands above, and its own as ``methods``."""
        return {**self._facts(), "methods": self.records()}

    def markdown(self) -> str:
        """All of it for a page: tables, then sentences, with blank lines between."""
        return "\n\n".join([*(table.markdown() for table in self.above), *self._lines(), *self.notes])

    def save(self, folder: Path) -> None:
        """Writes ``NAME.parquet`` (its rows, facts in the metadata), ``NAME.md`` and, if it has a picture,
        ``NAME.svg``.
        """
        from linernotes.artefacts import replacing, write_parquet

        facts = {key: str(value) for key, value in self._facts().items()}
        write_parquet(folder / f"{self.name}.parquet", self.records(), facts)
        for suffix, content in (("md", self.markdown() + "\n"), ("svg", self.picture)):
            if content:
                with replacing(folder / f"{self.name}.{suffix}") as temporary:
                    temporary.write_text(content, encoding="utf-8")

    def _facts(self) -> dict[str, Any]:
        return {**self.about, **{table.name: table.records() for table in self.above}}

    def _lines(self) -> list[str]:
        if not self.shown:
            return []
        lines = [[_in_a_line(str(column.heading)) for column in self.shown], ["---"] * len(self.shown)]
        for row in self.cells():
            lines.append(
                [
                    f"`{_in_a_line(cell)}`" if column.kind == "name" and cell else _in_a_line(cell)
                    for column, cell in zip(self.shown, row, strict=True)
                ]
            )
        return ["\n".join("| " + " | ".join(line) + " |" for line in lines)]


def _in_a_line(cell: str) -> str:
    """A cell that neither ends its row nor its column."""
    return " ".join(cell.split("\n")).replace("|", "\\|")
