"""`migrate-check`: what of a program changes."""

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from stabilize_celery.cli.commands import command
from stabilize_celery.cli.failures import DONE, FAILED, Mistake
from stabilize_celery.cli.session import Session
from stabilize_celery.client.words import plural
from stabilize_celery.compat.checking import MISSING, Finding, check_source
from stabilize_celery.errors import ConfigurationError

__all__ = ["add_migrating"]


def add_migrating(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "migrate-check")(migrate_check)


def migrate_check(
    session: Session,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Python files, or directories of them.")],
) -> int:
    """Report what of a program changes: one written for `stabilize`, or with a Celery canvas. Runs nothing.

    Exit code 1 if something has no counterpart.
    """
    found = {str(path): _checked(path) for path in _files(files)}
    missing = sum(one.kind == MISSING for findings in found.values() for one in findings)
    if session.as_json:
        session.print_json([{"file": name, **asdict(one)} for name, findings in found.items() for one in findings])
    else:
        _print(session, found, missing)
    return FAILED if missing else DONE


def _print(session: Session, found: dict[str, list[Finding]], missing: int) -> None:
    for name, findings in found.items():
        if findings:
            session.print(name)
            for one in findings:
                session.out.print(f"  {one}", markup=False, soft_wrap=True)
    changes = sum(map(len, found.values())) - missing
    session.print(
        f"{plural(len(found), 'file')}: {plural(changes, 'line')} to change or look at, {missing} without a counterpart"
    )


def _files(given: list[Path]) -> list[Path]:
    files: list[Path] = []
    for path in given:
        if path.is_dir():
            files += sorted(_sources_in(path))
        elif path.is_file():
            files.append(path)
        else:
            raise Mistake(f"{path}: there is no such file or directory")
    return files


def _sources_in(folder: Path) -> Iterator[Path]:
    """Yield the Python files of a folder; folders that can't be read, or are gone by now, are left out."""
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names if name.endswith(".py"))


def _checked(path: Path) -> list[Finding]:
    try:
        return check_source(path.read_text(), str(path))
    except UnicodeDecodeError as error:
        raise Mistake(f"{path}: can't be read: it is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise Mistake(f"{path}: can't be read: {error.strerror or error}") from None
    except ConfigurationError as error:
        raise Mistake(str(error)) from None
