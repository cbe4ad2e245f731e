"""Whether a command that a deployment file runs exists in the product, with its options."""

from __future__ import annotations

import importlib.util
from dataclasses import fields

import typer
from celery import Celery
from celery.bin.celery import celery as celery_command

from stabilize_celery.cli.program import make_app
from stabilize_celery.settings import Settings

__all__ = ["SETTINGS", "check_command"]

SETTINGS = {f"STABILIZE_{item.name.upper()}" for item in fields(Settings)} | {
    "STABILIZE_TASK_MODULES",
    "STABILIZE_WEB_TOKEN",
}
"""Environment variables that the product reads."""

MODULES = {"workers.control", "workers.tasks", "workers.alive"}


def check_command(command: list[str]) -> None:
    """AssertionError if there is no such command, module, app or option."""
    program, *rest = command
    match program.rpartition("/")[2]:
        case "python" if rest[0] == "-m":
            assert rest[1] in MODULES
            assert importlib.util.find_spec(rest[1])
            _check_options(rest[2:], _options(celery_command, "worker"))
        case "python":
            compile(rest[1], "command", "exec")
        case "stabilize-celery":
            _check_options(rest[1:], _options(typer.main.get_command(make_app()), rest[0]))
        case "celery":
            assert rest[0] == "-A"
            assert isinstance(getattr(importlib.import_module(rest[1]), "app", None), Celery)
        case _:
            raise AssertionError(f"{program}: no command of this product")


def _options(group: object, name: str) -> set[str]:
    found = group.commands[name]  # type: ignore[attr-defined]
    return {option for parameter in found.params for option in parameter.opts}


def _check_options(words: list[str], known: set[str]) -> None:
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known
