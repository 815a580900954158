"""Requests under an idempotency key: carried out once, however often they are sent, by whomever at once, and
whether or not the desk was ended in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.orm import Session

from linernotes.artefacts import hash_json
from linernotes.desk.database import Database
from linernotes.desk.schema import AnswerRow
from linernotes.errors import UsageError


def answered(session: Session, key: str | None, asked: Any) -> JSONResponse | None:
    """What was answered under a key; None if nothing was.

    Raises:
        UsageError: another request had this key.
    """
    there = session.get(AnswerRow, key) if key is not None else None
    if there is None:
        return None
    if there.asked != hash_json(asked):
        raise UsageError(f"another request had the idempotency key {there.key[:60]!r}: give a new one")
    return JSONResponse(there.body, there.status)


def once(
    database: Database, key: str | None, asked: Any, status: int, do: Callable[[Session], BaseModel]
) -> JSONResponse:
    """Carries a request out; once under its key. What it does and that it was done are kept together.

    Args:
        asked: all that makes the request this one, as JSON.

    Raises:
        UsageError: another request had this key.
    """
    with database.writing() as session:  # one at a time
        there = answered(session, key, asked)
        if there is not None:
            return there
        body = do(session).model_dump(mode="json")
        if key is not None:
            session.add(AnswerRow(key=key, asked=hash_json(asked), status=status, body=body))
    return JSONResponse(body, status)
