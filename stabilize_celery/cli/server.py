"""`server`: the embedded Redis by itself, for programs that are not ours: your producer, Flower."""

import signal
import sys
import threading

import typer

from stabilize_celery.cli.commands import command
from stabilize_celery.cli.failures import DONE, Mistake
from stabilize_celery.cli.session import Session
from stabilize_celery.errors import redact_url

__all__ = ["add_server"]


def add_server(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "server")(server)


def server(session: Session) -> int:
    """Run the embedded Redis server until Ctrl-C, for trying things out; prints where it is."""
    if not session.is_embedded:
        raise Mistake(
            f"a server is configured already: {redact_url(session.given_settings().redis_url)}. Without --redis-url "
            "and STABILIZE_REDIS_URL, or with --home DIR, this runs one of its own."
        )
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    url = session.settings(creates=True).redis_url
    if session.as_json:
        session.print_json_line({"url": url})
    else:
        session.out.print(f"export STABILIZE_REDIS_URL={url}", markup=False, soft_wrap=True)
        session.say("Paste that line into the other terminals. Ctrl-C ends it; what it holds stays for the next time.")
    sys.stdout.flush()
    ended.wait()
    return DONE
