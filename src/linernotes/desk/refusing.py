"""Answers without the frame of a page, which asks the database: what the guard refuses, what is too large,
what nobody expected. A sentence for readers, and JSON for programs.
"""

from __future__ import annotations

import traceback

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def refusal(path: str, status: int, sentence: str) -> Response:
    """One plain sentence."""
    if path.startswith("/api/"):
        return JSONResponse({"error": sentence}, status)
    return PlainTextResponse(sentence + "\n", status)


class Caught:
    """Answers what nobody expected. Inside the guard, so that this answer carries its headers as well."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, sent)
        except Exception as error:
            if scope["type"] != "http" or begun:
                raise
            traceback.print_exc()
            sentence = (
                f"Unexpected {type(error).__name__}: the terminal in which the desk was started has the "
                "whole story."
            )
            await refusal(scope["path"], 500, sentence)(scope, receive, send)
