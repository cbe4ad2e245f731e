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
from stabilize_celery.compat.checking import LOOK, MISSING, Finding, check_source
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
    found = {str(path): _checked(path) for path in files if not path.is_dir()}
    for folder in (path for path in files if path.is_dir()):
        found |= {str(path): _checked_among_others(path) for path in sorted(_sources_in(folder))}
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


_NOT_OURS = frozenset({"site-packages", "node_modules", "__pycache__"})
"""Folders of programs that others have written; those with a dot before their name are left out, too."""


def _sources_in(folder: Path) -> Iterator[Path]:
    """Yield the Python files and notebooks of a folder; folders that can't be read, or are gone, are left out."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NOT_OURS and not name.startswith(".")]
        yield from (Path(parent, name) for name in names if name.endswith((".py", _NOTEBOOK)))


_NOTEBOOK = ".ipynb"


def _checked(path: Path) -> list[Finding]:
    if path.suffix == _NOTEBOOK:
        raise Mistake(f"{path}: notebooks are not read: export it as a script (`jupyter nbconvert --to script`)")
    try:
        return check_source(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise Mistake(f"{path}: there is no such file or directory") from None
    except OSError as error:
        raise Mistake(f"{path}: can't be read: {error.strerror or error}") from None
    except ConfigurationError as error:
        raise Mistake(str(error)) from None


def _checked_among_others(path: Path) -> list[Finding]:
    """Check one file of a folder: what can't be read is a finding, and no reason to leave the others out."""
    try:
        return _checked(path)
    except Mistake as mistake:
        return [Finding(1, LOOK, "not read", str(mistake).removeprefix(f"{path}: "))]
