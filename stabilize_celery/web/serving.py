"""Serving the page with uvicorn."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from stabilize_celery.client import Client
from stabilize_celery.errors import ConfigurationError
from stabilize_celery.web.app import make_web_app
from stabilize_celery.web.settings import WebSettings, check_exposure

__all__ = ["serve"]

_CLOSING_S = 3


def serve(client: Client, settings: WebSettings, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve the page until the process is asked to end.

    Args:
        client: Whose workflows are shown.
        settings: Who may see it, who may act.
        host: The address to listen on.
        port: The port to listen on; 0: any free one.
        say: Told the address once it listens.

    Raises:
        ConfigurationError: nobody is asked who they are where others could reach it, or the port can't be had.

    """
    check_exposure(host, settings)
    with _listening(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{listener.getsockname()[1]}/")
        config = uvicorn.Config(
            make_web_app(client, settings),
            # Who asks is judged by the address that really asks.
            proxy_headers=False,
            server_header=False,
            log_level="warning",
            timeout_graceful_shutdown=_CLOSING_S,
        )
        with _ended_in_order():
            uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Uvicorn raises the signal that ended it again afterwards: being asked to end is no failure."""
    asked = (signal.SIGINT, signal.SIGTERM)
    before = {one: signal.signal(one, lambda *_: None) for one in asked}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = (error.strerror or str(error)).partition(" (")[0]
        told = f"can't listen on {host} port {port}: {why}. Give another --port (0: any free one)"
        raise ConfigurationError(told) from error
