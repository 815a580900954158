"""Records that people keep and pass on (attributions, calibrations, credits, statements): JSON that says its
kind and its version, read back as what it is, or refused in one sentence with the remedy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from linernotes.artefacts import read_json
from linernotes.errors import LinernotesError
from linernotes.settings.reading import refuse_newer
from linernotes.version import __version__

RecordT = TypeVar("RecordT", bound=BaseModel)


def read_content(path: Path, kind: str, newest: int, remedy: str) -> dict[str, Any]:
    """What stands in a record of this kind, whose version this linernotes reads.

    Args:
        newest: the only version that is read.
        remedy: what to do about a file that is none.

    Raises:
        LinernotesError: missing, no JSON, of another kind, or of another version.
    """
    content = read_json(path, kind if kind.endswith("s") else f"a{'n' if kind[0] in 'aeiou' else ''} {kind}")
    require_record(path, content, kind, newest, remedy)
    return dict(content)


def require_record(path: Path, content: Any, kind: str, newest: int, remedy: str) -> None:
    """Refuses JSON that is no record of this kind, or of another version; as ``read_content`` does."""
    if not isinstance(content, dict) or content.get("kind") != kind:
        raise LinernotesError(f"{path} holds no {kind}: {remedy}")
    refuse_newer(path, content, newest, remedy)
    if content["schema_version"] < newest:
        raise LinernotesError(
            f"{path} was written by an older linernotes ({content.get('linernotes')}; this is "
            f"{__version__}): {remedy}"
        )


def parsed(record: type[RecordT], path: Path, content: Mapping[str, Any], remedy: str) -> RecordT:
    """A record from its content.

    Raises:
        LinernotesError: something in it is missing, or is not what it should be; the sentence says where.
    """
    try:
        return record(**content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise LinernotesError(f"{path} is damaged ({where}: {first['msg'].lower()}): {remedy}") from None
