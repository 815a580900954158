"""Which models can be opened, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from linernotes.report.table import Table, name, text


def models_table(layouts: Sequence[Mapping[str, Any]]) -> Table:
    """One row a layout, with the fields of ``models.families.Layout``."""
    columns = [name("family", "family"), text("folder", "folder"), text("example", "try")]
    return Table("models", columns, list(layouts))
