"""Where a page's sounds and pictures are: in the page itself, so that it can be sent, or in files beside it,
from which a server plays any part of them.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from linernotes.artefacts import replacing


@dataclass(frozen=True)
class Medium:
    """A sound or a picture, encoded as browsers read it."""

    kind: str  # its media type
    suffix: str
    content: bytes

    @property
    def inline(self) -> str:
        """A data URL."""
        return f"data:{self.kind};base64,{base64.b64encode(self.content).decode()}"


Shelf = Callable[[Medium, str], str]  # puts a medium, called by a plain name, where a page finds it: its URL


def inline(medium: Medium, _name: str) -> str:
    """Everything stands in the page."""
    return medium.inline


def beside(folder: Path, prefix: str) -> Shelf:
    """Everything is a file in ``folder``, which a server has at ``prefix``."""

    def put(medium: Medium, name: str) -> str:
        file = f"{name}{medium.suffix}"
        with replacing(folder / file) as temporary:
            temporary.write_bytes(medium.content)
        return prefix + file

    return put
