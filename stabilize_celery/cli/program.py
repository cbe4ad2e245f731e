"""The program: all commands, and what becomes of errors."""

import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated

import typer

from stabilize_celery.cli.acting import add_acting
from stabilize_celery.cli.bench import add_bench
from stabilize_celery.cli.burying import dead_app
from stabilize_celery.cli.commands import remember
from stabilize_celery.cli.demonstration import add_demo
from stabilize_celery.cli.doctor import add_doctor
from stabilize_celery.cli.failures import code_of, sentence_of
from stabilize_celery.cli.locking import add_locking
from stabilize_celery.cli.looking import add_looking
from stabilize_celery.cli.starting import add_starting
from stabilize_celery.cli.web import add_web
from stabilize_celery.cli.working import add_working
from stabilize_celery.errors import StabilizeError

__all__ = ["make_app", "run"]


def make_app() -> typer.Typer:
    """Return the program with all its commands."""
    app = typer.Typer(
        name="stabilize-celery",
        no_args_is_help=True,
        add_completion=False,
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
        add_acting,
        add_doctor,
        add_web,
        add_bench,
    ):
        add(app)
    app.add_typer(dead_app(), name="dead")
    app.command("version")(version)
    return app


def version(
    short: Annotated[bool, typer.Option("--short", help="Only the number.")] = False,
) -> None:
    """Print the version."""
    number = metadata.version("stabilize-celery")
    typer.echo(number if short else f"stabilize-celery {number}, Python {sys.version.split()[0]}")


def run(arguments: Sequence[str]) -> int:
    """Run one command; return the exit code. Errors that users can do something about are one sentence on stderr."""
    program = typer.main.get_command(make_app())
    try:
        program.main(args=list(arguments), prog_name="stabilize-celery")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except (StabilizeError, TimeoutError) as error:
        typer.echo(sentence_of(error), err=True)
        return code_of(error)
    return 0
