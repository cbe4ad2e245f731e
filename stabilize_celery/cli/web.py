"""`web`: the page and its API, for this machine's users unless somebody is told otherwise."""

import importlib
import os
from typing import Annotated

import typer

from stabilize_celery.cli.commands import command
from stabilize_celery.cli.failures import DONE
from stabilize_celery.cli.session import Session

__all__ = ["add_web"]


def add_web(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "web")(web)


def web(
    session: Session,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 5556,
    token: Annotated[str | None, typer.Option(help="Token that gives access. Better in [STABILIZE_WEB_TOKEN].")] = None,
    user_header: Annotated[
        str, typer.Option(metavar="NAME", help="Header in which a proxy passes the user's name.")
    ] = "",
    trusted_proxy: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="Address of that proxy. Default: this machine.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only under this name, and those of this machine.")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Nothing can be started or changed.")] = False,
) -> int:
    """Serve the web page and the HTTP API."""
    pages = importlib.import_module("stabilize_celery.web")
    serving = importlib.import_module("stabilize_celery.web.serving")
    default = pages.WebSettings()
    settings = pages.WebSettings(
        token=os.environ.get("STABILIZE_WEB_TOKEN", "") if token is None else token,
        user_header=user_header,
        trusted_proxies=tuple(trusted_proxy or default.trusted_proxies),
        allowed_hosts=tuple(allow_host or ()),
        is_read_only=read_only,
    )
    serving.check_exposure(host, settings)
    client = session.client()
    # Whether the server is there is said at once, and not by the page.
    client.store.time_ms()

    def say(address: str) -> None:
        if session.as_json:
            session.print_json({"url": address})
        else:
            session.print(f"The page is at {address}   (Ctrl-C ends it)")

    serving.serve(client, settings, host, port, say)
    return DONE
