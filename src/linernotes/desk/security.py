"""Who may drive a desk, and from where. Three things are asked of every request, as Jupyter does:

- its Host is the address the desk answers at, so that no name elsewhere can be pointed at it (DNS rebinding);
- if it changes anything and comes from a browser, it comes from one of the desk's own pages (CSRF);
- if it does not come from this machine, it carries the token, from the printed link once and in a cookie from
  then on, or as ``Authorization: Bearer``. A proxy's headers mark a request as one from elsewhere.

Every answer forbids scripts but the desk's own files, frames, and being read by other sites.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from linernotes.desk.refusing import refusal

COOKIE = "linernotes_desk"
WEEK_S = 7 * 24 * 3600
READING = {"GET", "HEAD", "OPTIONS"}
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "x-forwarded-host")
OWN_SITE = {"same-origin", "none"}  # none: somebody typed the address
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; "
    "style-src-attr 'unsafe-inline'; "
    "img-src 'self' data:; media-src 'self'; connect-src 'self'; font-src 'self'; object-src 'none'; "
    "frame-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True)
class Gate:
    """What a desk asks of requests."""

    token: str
    names: frozenset[str] = field(default_factory=frozenset)  # further hosts that it answers at
    everyone: bool = False  # the token is asked of this machine's own users, too

    def hosts(self) -> frozenset[str]:
        """Hosts that may stand in a request, without port."""
        return frozenset({"127.0.0.1", "localhost", "[::1]"}) | self.names

    def right_host(self, host: str) -> bool:
        """Whether the desk is called by one of its own names, on whatever port a tunnel has put it."""
        return _name(host) in self.hosts()

    def from_elsewhere(self, client: str | None, headers: Headers) -> bool:
        """Whether a request does not come from this machine, as far as can be told."""
        if self.everyone or any(name in headers for name in FORWARDED):
            return True
        try:
            return not ipaddress.ip_address(client or "").is_loopback
        except ValueError:
            return True

    def has_token(self, given: Iterable[str]) -> bool:
        """Whether one of these is the token; takes as long for a wrong one."""
        found = [hmac.compare_digest(one.encode(), self.token.encode()) for one in given]
        return any(found)


class Guard:
    """Asks it of every request, before anything else sees it."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self.app, self.gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        scope["nonce"] = secrets.token_urlsafe(12)  # of the styles that the waveforms bring

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", POLICY.format(nonce=scope["nonce"]))
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if "cache-control" not in headers:
                    headers["Cache-Control"] = "no-store"
            await send(message)

        refused = self._refused(scope)
        await (refused or self.app)(scope, receive, guarded)

    def _refused(self, scope: Scope) -> Response | None:
        headers, gate = Headers(scope=scope), self.gate
        host = headers.get("host", "")
        if not gate.right_host(host):
            return refusal(
                scope["path"],
                421,
                f"This desk does not answer at {host[:100]!r}: open the address that was printed when it "
                "started.",
            )
        if scope["method"] not in READING and not own_page(headers, host):
            return refusal(
                scope["path"], 403, "This request comes from another site, and was not carried out."
            )
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        asked = query.pop("token", [])
        if asked and gate.has_token(asked):
            return _entered(scope["path"], query, gate.token)
        client = scope["client"][0] if scope.get("client") else None
        if not gate.from_elsewhere(client, headers) or gate.has_token(_carried(headers)):
            return None
        return refusal(
            scope["path"],
            401,
            "This desk asks for its token: open the link that was printed when it started, or send it as "
            "'Authorization: Bearer TOKEN'.",
        )


def own_page(headers: Headers, host: str) -> bool:
    """Whether a request that changes something comes from one of the desk's pages, or from no browser at
    all: what browsers say of where it comes from cannot be set by a page's script.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in OWN_SITE
    origin = headers.get("origin")
    return origin is None or origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def _carried(headers: Headers) -> list[str]:
    """What a request carries as token."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    found = [value.strip()] if kind.lower() == "bearer" else []
    cookies: SimpleCookie = SimpleCookie()
    try:
        cookies.load(headers.get("cookie", ""))
    except Exception:  # somebody else's cookies on the same host
        return found
    return found + ([cookies[COOKIE].value] if COOKIE in cookies else [])


def _entered(path: str, query: dict[str, list[str]], token: str) -> Response:
    """Back to the same page without the token in its address, which would stay in the history."""
    rest = urlencode(query, doseq=True)
    local = "/" + path.lstrip("/\\")
    response = RedirectResponse(f"{local}?{rest}" if rest else local, status_code=303)
    response.set_cookie(COOKIE, token, max_age=WEEK_S, httponly=True, samesite="strict", path="/")
    return response


def _name(host: str) -> str:
    """A host without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()
