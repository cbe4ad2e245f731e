"""Shells complete commands, as docs/deploying.md says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("bash", {"COMP_WORDS": "stabilize-celery wa", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "stabilize-celery wa"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "stabilize-celery wa", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_a_shell_is_told_which_commands_begin_so(shell: str, words: dict[str, str]) -> None:
    """`wa` is `watch`, and nothing else."""
    env = {**os.environ, **words, "_STABILIZE_CELERY_COMPLETE": f"complete_{shell}"}
    told = subprocess.run(
        [sys.executable, "-m", "stabilize_celery"], env=env, capture_output=True, text=True, check=False
    )

    assert "watch" in told.stdout
    assert "why" not in told.stdout
