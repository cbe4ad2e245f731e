"""Whoever reads what a command prints may stop early, as `head` does."""

import os
import subprocess
import sys

import pytest


def ended(*arguments: str, **environ: str) -> tuple[int, str]:
    """Return the exit code and what is told on stderr of a command whose output nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "stabilize_celery", *arguments],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, **environ},
        )
    finally:
        os.close(writing)
    return done.returncode, done.stderr


def test_a_terminal_that_is_not_in_utf_8_gets_what_it_can_show(redis_url: str) -> None:
    """Ticks become question marks."""
    command = [sys.executable, "-m", "stabilize_celery", "doctor"]
    environ = {**os.environ, "STABILIZE_REDIS_URL": redis_url, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ)

    assert (done.returncode, done.stderr) == (1, "")
    assert "? no worker is running" in done.stdout


@pytest.mark.parametrize(
    "arguments", [("version",), ("version", "--json"), ("list",), ("list", "--json"), ("--help",), ("status", "--help")]
)
def test_a_command_ends_quietly_when_nobody_reads(arguments: tuple[str, ...], redis_url: str) -> None:
    """With the code of a program that SIGPIPE ends; shells take it for no failure of a pipe."""
    assert ended(*arguments, STABILIZE_REDIS_URL=redis_url) == (141, "")
