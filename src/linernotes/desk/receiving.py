"""How much of a request is read at all: more than is allowed is refused before it is kept."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from linernotes.desk.refusing import refusal

UPLOADS = ("/clips", "/api/clips")


class TooLargeError(Exception):
    """A request goes on and on."""


class Limited:
    """Refuses requests whose body is larger than their path may take."""

    def __init__(self, app: ASGIApp, form: int, upload: int) -> None:
        self.app, self.form, self.upload = app, form, upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = self.upload if scope["path"].rstrip("/") in UPLOADS else self.form
        announced = Headers(scope=scope).get("content-length", "0")
        refused = refusal(
            scope["path"],
            413,
            f"This is larger than the {most / 2**20:.3g} MiB that are taken here: send a shorter clip.",
        )
        if not (announced.isascii() and announced.isdigit()) or int(announced) > most:
            await refused(scope, receive, send)
            return
        count, begun = 0, False

        async def counted() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > most:
                raise TooLargeError
            return message

        async def sent(message: Message) -> None:
            nonlocal begun
            if count > most and not begun:  # whoever read the body has made something else of the error
                raise TooLargeError
            begun = True
            await send(message)

        try:
            await self.app(scope, counted, sent)
        except TooLargeError:
            if not begun:
                await refused(scope, receive, send)
