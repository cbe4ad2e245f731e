"""The program: all commands, and what becomes of errors."""

import sys
from collections.abc import Callable, Sequence
from functools import cache
from io import TextIOWrapper
from itertools import takewhile
from typing import Annotated

import typer

from stabilize_celery.cli.acting import add_acting
from stabilize_celery.cli.bench import add_bench
from stabilize_celery.cli.burying import dead_app
from stabilize_celery.cli.commands import Group, command, print_nowhere, print_version, remember
from stabilize_celery.cli.demonstration import add_demo
from stabilize_celery.cli.doctor import add_doctor
from stabilize_celery.cli.failures import (
    DONE,
    EXIT_CODES,
    MISTAKE,
    NOBODY_READS,
    code_of,
    failure_object,
    sentence_of,
    told_by_system,
    without_endless,
)
from stabilize_celery.cli.locking import add_locking
from stabilize_celery.cli.looking import add_looking
from stabilize_celery.cli.migrating import add_migrating
from stabilize_celery.cli.plain import json_text, plain
from stabilize_celery.cli.scheduling import schedule_app
from stabilize_celery.cli.server import add_server
from stabilize_celery.cli.session import Session
from stabilize_celery.cli.starting import add_starting
from stabilize_celery.cli.web import add_web
from stabilize_celery.cli.working import add_working
from stabilize_celery.errors import StabilizeError

__all__ = ["make_app", "run"]


def make_app() -> typer.Typer:
    """Return the program with all its commands."""
    app = typer.Typer(
        name="stabilize-celery",
        cls=Group,
        no_args_is_help=True,
        epilog=EXIT_CODES,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(remember)
    for add in (
        add_demo,
        add_working,
        add_starting,
        add_looking,
        add_locking,
        add_migrating,
        add_acting,
        add_doctor,
        add_server,
        add_web,
        add_bench,
    ):
        add(app)
    app.add_typer(dead_app(), name="dead")
    command(app, "version")(version)
    app.add_typer(schedule_app(), name="schedule")
    return app


def version(session: Session, short: Annotated[bool, typer.Option("--short", help="Only the number.")] = False) -> int:
    """Print the version."""
    print_version(session, short=short)
    return DONE


def run(arguments: Sequence[str]) -> int:
    """Run one command; return the exit code.

    Errors that users can do something about are one sentence on stderr; with `--json` an object.
    """
    _print_anything()
    as_json = _wants_json(arguments)
    if (unreadable := _unreadable(arguments)) is not None:
        return _fail(f"{unreadable!a} is not UTF-8 text", MISTAKE, as_json=as_json)
    try:
        # Alone it prints bad usage itself, for people.
        ended = _main()(args=list(arguments), prog_name="stabilize-celery", standalone_mode=not as_json)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            return NOBODY_READS  # the library says 1
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except typer.TyperException as error:
        told = error.format_message() or "Give a command; --help lists them."
        return _fail(f"{told[:1].upper()}{told[1:]}", error.exit_code, as_json=as_json)
    except (StabilizeError, TimeoutError) as error:
        return _fail(error, code_of(error), as_json=as_json)
    except OSError as error:
        # A full disk, a file without rights: nothing that a traceback would help with.
        print_nowhere()
        return _fail(f"Can't go on: {without_endless(told_by_system(error))}", MISTAKE, as_json=as_json)
    return ended if isinstance(ended, int) else 0


@cache
def _main() -> Callable[..., object]:
    """Return what runs a command line; made once, since making all commands takes longer than most of them run."""
    return typer.main.get_command(make_app()).main


def _print_anything() -> None:
    """Let a terminal or a pipe that is not in UTF-8 show `?` for what it can't; it is no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="replace")


def _unreadable(arguments: Sequence[str]) -> str | None:
    """Return an argument whose bytes are no text, which Python stands half characters in for."""
    return next((one for one in arguments if not one.isascii() and _has_half_characters(one)), None)


def _has_half_characters(text: str) -> bool:
    return any("\ud800" <= one <= "\udfff" for one in text)


def _wants_json(arguments: Sequence[str]) -> bool:
    return "--json" in takewhile(lambda one: one != "--", arguments)


def _fail(error: StabilizeError | TimeoutError | str, code: int, *, as_json: bool) -> int:
    if as_json:
        told = json_text(failure_object(error, code))
    else:
        told = plain(error if isinstance(error, str) else sentence_of(error))
    typer.echo(told, err=True)
    return code
