"""linernotes: which training tracks shaped a piece of generated music, and whether retraining agrees.

>>> import linernotes
>>> clip = linernotes.generate("a reel in D major for violin, fast, 2/2 time", "clip.flac", seed=1)
>>> (attribution,) = linernotes.attribute(clip, "out")
>>> attribution.tracks[0].title

A name is imported when it is first used: torch and diffusers take seconds to load. Which names there are, and
where, says ``__init__.pyi``, for type checkers and for this module alike (Scientific Python's SPEC 1).
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

from linernotes.settings.places import settle_libraries
from linernotes.version import __version__ as __version__

settle_libraries()  # before any of them is imported

_MODULES = {
    name.name: statement.module
    for statement in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(statement, ast.ImportFrom) and statement.module
    for name in statement.names
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'linernotes' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
