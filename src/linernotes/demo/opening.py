"""Catalogues, opened to be looked at: no model, and nothing that brings one."""

from __future__ import annotations

from pathlib import Path

from linernotes.catalog.store import Catalogue
from linernotes.demo.places import BENCHMARKS, BUILTIN, CATALOGUE


def open_catalogue(catalogue: str | Path = BUILTIN) -> Catalogue:
    """A catalogue by its path, the built-in one, or a benchmark's."""
    return Catalogue(catalogue_folder(catalogue))


def catalogue_folder(catalogue: str | Path) -> Path:
    """Where a catalogue lies: its path, ``builtin`` or the name of a benchmark."""
    if str(catalogue) in BENCHMARKS:
        from linernotes.demo.benchmarks.making import open_benchmark  # puts it together if need be

        return open_benchmark(str(catalogue))[1]
    return CATALOGUE if str(catalogue) == BUILTIN else Path(catalogue)
