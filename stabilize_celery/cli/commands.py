"""How a command is made from a function: the shared options are added, errors become sentences and exit codes."""

import functools
import inspect
import os
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from stabilize_celery.cli.failures import NOBODY_READS
from stabilize_celery.cli.session import Session, Shared

__all__ = ["Group", "command", "print_nowhere", "print_version", "remember"]

RedisUrl = Annotated[
    str | None, typer.Option("--redis-url", metavar="URL", help="Where workflows are kept. [STABILIZE_REDIS_URL]")
]
BrokerUrl = Annotated[
    str | None, typer.Option("--broker-url", metavar="URL", help="The Celery broker. [STABILIZE_BROKER_URL]")
]
Namespace = Annotated[str | None, typer.Option("--namespace", help="Start of all keys. [STABILIZE_NAMESPACE]")]
Home = Annotated[
    Path | None, typer.Option("--home", metavar="DIR", help="Data folder of the embedded server. [STABILIZE_HOME]")
]
AsJson = Annotated[bool, typer.Option("--json", is_eager=True, help="Print data as JSON.")]
"""Read before the other options, wherever it stands: what those print depends on it."""

_SHARED = {"redis_url": RedisUrl, "broker_url": BrokerUrl, "namespace": Namespace, "home": Home, "as_json": AsJson}


def _print_version(context: typer.Context, is_asked: bool) -> None:
    if is_asked:
        print_version(Session(Shared(as_json=context.params["as_json"])))
        raise typer.Exit


def print_version(session: Session, *, short: bool = False) -> None:
    """Print the version of this package and of Python; `short`: for people, only the former's number."""
    number, python = metadata.version("stabilize-celery"), sys.version.split()[0]
    if session.as_json:
        session.print_json({"version": number, "python": python})
    else:
        session.print(number if short else f"stabilize-celery {number}, Python {python}")


AskedForVersion = Annotated[bool, typer.Option("--version", help="Print the version.", callback=_print_version)]


def remember(
    context: typer.Context,
    redis_url: RedisUrl = None,
    broker_url: BrokerUrl = None,
    namespace: Namespace = None,
    home: Home = None,
    as_json: AsJson = False,
    _asked_for_version: AskedForVersion = False,
) -> None:
    """Durable workflows on Celery and Redis."""
    given = Shared(redis_url, broker_url, namespace, home, as_json)
    context.obj = given.over(context.obj) if isinstance(context.obj, Shared) else given


class Group(TyperGroup):
    """A group of commands; in its help a flag is a flag."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options, as the help shows them."""
        return _flags_without_type(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options. Without a command the help is shown; to a program, which reads JSON, it is no answer."""
        shared = ctx.find_root().obj
        if not args and isinstance(shared, Shared) and shared.as_json:
            ctx.fail("Missing command.")
        return super().parse_args(ctx, args)


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _flags_without_type(super().get_params(ctx))


def _flags_without_type(parameters: list[Any]) -> list[Any]:
    """Show no `<bool>` behind what takes no value."""
    for one in parameters:
        if getattr(one, "is_flag", False):
            one.metavar = ""
    return parameters


def command(app: typer.Typer, name: str | None = None, **settings: Any) -> Callable[[Callable[..., int | None]], Any]:
    """Return a decorator: `function(session, ...)` becomes a command; what it returns is the exit code (None: 0)."""

    def decorate(function: Callable[..., int | None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(context: typer.Context, **given: Any) -> None:
            shared = Shared(**{option: given.pop(option) for option in _SHARED})
            before = context.find_root().obj
            session = Session(shared.over(before) if isinstance(before, Shared) else shared)
            if "context" in wanted:
                given["context"] = context
            try:
                with session.stack:
                    code = function(session, **given)
            except BrokenPipeError:
                # As with `head`: who read has seen enough.
                print_nowhere()
                code = NOBODY_READS
            if code:
                raise typer.Exit(code)

        wanted = inspect.signature(function, eval_str=True).parameters
        _describe(run, [one for one in wanted.values() if one.name not in ("session", "context")])
        app.command(name, cls=_Command, **settings)(run)
        return run

    return decorate


def print_nowhere() -> None:
    """Let what is still to be written, also at the interpreter's end, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _describe(run: Callable[..., None], own: list[inspect.Parameter]) -> None:
    """Let typer see the function's own parameters and the shared ones."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    context = inspect.Parameter("context", keyword, annotation=typer.Context)
    shared = [
        inspect.Parameter(name, keyword, annotation=kind, default=False if name == "as_json" else None)
        for name, kind in _SHARED.items()
    ]
    parameters = [context, *(one.replace(kind=keyword) for one in own), *shared]
    vars(run)["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {one.name: one.annotation for one in parameters}
