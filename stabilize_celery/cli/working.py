"""`worker`: a Celery worker with the settings that suit this package."""

import os
import re
import signal
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Annotated

import typer

from stabilize_celery.cli.commands import command
from stabilize_celery.cli.failures import Mistake
from stabilize_celery.cli.session import Session
from stabilize_celery.settings import Settings
from stabilize_celery.transport.worker_command import worker_argv

__all__ = ["add_working", "environment"]

_CELERY_OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True}


def add_working(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "worker", context_settings=_CELERY_OPTIONS)(worker)


def worker(
    session: Session,
    context: typer.Context,
    app_name: Annotated[str, typer.Option("--app", "-A", metavar="APP", help="The Celery app, as for celery -A.")],
    control: Annotated[bool, typer.Option("--control", help="Only orchestrate; run no tasks.")] = False,
    tasks: Annotated[bool, typer.Option("--tasks", help="Only run tasks.")] = False,
) -> int:
    """Run a Celery worker of an app; all further options are Celery's (-c 4, -Q name, --pool threads ...)."""
    if not app_name.strip():
        raise Mistake("--app needs the name of a module with a Celery app, as for celery -A")
    if control and tasks:
        raise Mistake(
            "--control and --tasks exclude each other: give one of them, or neither for a worker that does both"
        )
    _require_module(app_name)
    settings = session.given_settings()
    takes_home = session.is_embedded and session.shared.home is not None
    names_broker = not takes_home and _has_broker(app_name)
    is_embedded = session.is_embedded and not names_broker
    if is_embedded:
        settings = session.settings(creates=True)
    argv = worker_argv(app_name, settings, control=control, tasks=tasks, extra=context.args)
    environ = environment(settings)
    if not names_broker:
        # Celery would look for one of its own on this machine.
        environ["CELERY_BROKER_URL"] = environ["STABILIZE_BROKER_URL"]
    if not is_embedded:
        # Signals of a supervisor reach the worker directly.
        os.execve(argv[0], argv, environ)  # noqa: S606 - our own interpreter
    return _supervised(argv, environ)


def _require_module(app_name: str) -> None:
    """Refuse a name of a module that is nowhere; what goes wrong in it is Celery's to tell, with its place."""
    top = re.split(r"[.:]", app_name.strip())[0]
    here = str(Path.cwd())
    if (
        top.isidentifier()
        and top not in sys.builtin_module_names
        and PathFinder.find_spec(top, [here, *sys.path]) is None
    ):
        raise Mistake(f"--app {app_name}: there is no module {top!r}, neither in {here} nor installed")


def _has_broker(app_name: str) -> bool:
    """Return whether the app says itself where its broker is; then it is nobody else's business.

    Raises:
        Mistake: its module ends the program when it is imported, so Celery would end, too, and say nothing.

    """
    probe = [sys.executable, "-m", "stabilize_celery.transport.app_broker", app_name]
    told = subprocess.run(probe, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter
    if told.returncode != 0:
        # An app that can't be loaded is Celery's to complain about.
        return True
    brokers = [line for line in told.stdout.splitlines() if line.startswith("broker=")]
    if not brokers:
        raise Mistake(f"--app {app_name}: the module ends the program when it is imported (does it call sys.exit?)")
    return brokers[-1] != "broker="


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment in which a worker finds what this command was given."""
    told = {
        "STABILIZE_REDIS_URL": settings.redis_url,
        "STABILIZE_BROKER_URL": settings.broker_url or settings.redis_url,
        "STABILIZE_NAMESPACE": settings.namespace,
    }
    return {**os.environ, **{name: value for name, value in told.items() if value}}


def _supervised(argv: list[str], environ: dict[str, str]) -> int:
    """Run the worker beside us, since the embedded server is stopped after it."""
    process = subprocess.Popen(argv, env=environ)  # noqa: S603 - our own interpreter
    asked = (signal.SIGINT, signal.SIGTERM)

    def pass_on(*_: object) -> None:
        # A terminal's Ctrl-C reaches the worker, too: to be asked twice for a warm end is the same as once. Whether a
        # second Ctrl-C ends it cold is its own business.
        for number in asked:
            signal.signal(number, signal.SIG_IGN)
        process.terminate()

    before = {number: signal.signal(number, pass_on) for number in asked}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
