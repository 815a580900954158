"""linernotes: which training tracks shaped a piece of generated music, how sure we are, and who is to be credited.

>>> import linernotes
>>> clip = linernotes.generate("a reel in D major for violin, fast, 2/2 time", "clip.flac", seed=1)
>>> (attribution,) = linernotes.attribute(clip, "out")
>>> attribution.tracks[0].title
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linernotes.api import (
        attribute,
        build_catalogue,
        demo,
        generate,
        load_model,
        open_catalogue,
        rebuild,
        render_builtin,
        train_model,
    )

try:
    __version__ = version("linernotes")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "0+source"

__all__ = [
    "attribute",
    "build_catalogue",
    "demo",
    "generate",
    "load_model",
    "open_catalogue",
    "rebuild",
    "render_builtin",
    "train_model",
]


def __getattr__(name: str) -> Any:
    """The names of ``linernotes.api``, imported when first used: torch and diffusers take seconds to load."""
    if name in __all__:
        from linernotes import api

        return getattr(api, name)
    raise AttributeError(f"module 'linernotes' has no attribute {name!r}")
