"""Serves a desk until it is ended."""

from __future__ import annotations

import errno
import signal
import socket as sockets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from types import FrameType

import uvicorn

from linernotes.desk.application import create_application
from linernotes.desk.desk import open_desk
from linernotes.desk.opened import Opened
from linernotes.desk.security import Gate
from linernotes.errors import LinernotesError

GOODBYE_S = 3  # for pages that are being read, and streams that never end


class Server(uvicorn.Server):
    """Ends quietly when it is asked to: uvicorn's own would raise the signal once more, and what comes after
    it (the worker's end, the database's) would never be reached.
    """

    ending: Callable[[], None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.ending is not None:
            self.ending()
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.signal(one, self.handle_exit) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


@contextmanager
def bound(host: str, port: int) -> Iterator[sockets.socket]:
    """A socket at an address.

    Raises:
        LinernotesError: the port is in use or may not be used, or there is no such address.
    """
    family = sockets.AF_INET6 if ":" in host else sockets.AF_INET
    with closing(sockets.socket(family, sockets.SOCK_STREAM)) as socket:
        socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        try:
            socket.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                why = f"port {port} is in use: give another one with --port, or close what uses it"
            elif error.errno == errno.EACCES:
                why = f"port {port} may not be used: give one above 1023 with --port"
            else:
                why = f"nothing can answer at {host} ({error.strerror or error}): give another --host"
            raise LinernotesError(why) from None
        socket.listen(128)
        yield socket


def serve(
    opened: Opened,
    socket: sockets.socket,
    names: Sequence[str] = (),
    everyone: bool = False,
    working: bool = True,
    on_ready: Callable[[str], None] | None = None,
    on_end: Callable[[], None] | None = None,
) -> None:
    """Serves a desk on a bound socket until Ctrl-C, or SIGTERM.

    Args:
        names: hosts that it answers at besides this machine's own names.
        everyone: the token is asked of this machine's users, too.
        working: whether a worker is started.
        on_ready: told the link, with the token in it.

    Raises:
        LinernotesError: the folder's desk is open already, or of a newer version.
    """
    with open_desk(opened, working) as desk:
        host, port = socket.getsockname()[:2]
        gate = Gate(desk.token, frozenset(name.lower() for name in names), everyone)
        application = create_application(desk, gate)
        config = uvicorn.Config(
            application,
            log_level="warning",
            access_log=False,  # addresses may hold the token
            proxy_headers=False,  # whoever forwards is somebody from elsewhere
            server_header=False,
            timeout_graceful_shutdown=GOODBYE_S,
        )
        server = Server(config)
        server.ending = application.state.happenings.end
        if on_ready is not None:
            shown = {"0.0.0.0": names[0] if names else "127.0.0.1", "::": "localhost"}.get(host, host)
            on_ready(f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/?token={desk.token}")
        server.run(sockets=[socket])
    if on_end is not None:
        on_end()
