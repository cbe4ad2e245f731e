"""`python -m stabilize_celery`: the command line."""

import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import FrameType

__all__ = ["main"]

_MISTAKE = 2
"""As in `cli.failures`, which is part of what could not be loaded."""


def main() -> None:
    """Run the command line and exit with its code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        sys.exit(_program()(sys.argv[1:]))
    except KeyboardInterrupt:
        # Before any command was at work: loading all of them takes longer than people wait.
        sys.exit(128 + signal.SIGINT)


def _program() -> Callable[[Sequence[str]], int]:
    try:
        run: Callable[[Sequence[str]], int] = import_module("stabilize_celery.cli.program").run
    except ModuleNotFoundError as missing:
        if missing.name not in ("typer", "rich", "ruamel", "ruamel.yaml"):
            raise
        sys.stderr.write(f"The command line needs {missing.name}: pip install 'stabilize-celery[cli]'\n")
        sys.exit(_MISTAKE)
    return run


def _end(number: int, _frame: FrameType | None) -> None:
    """End as after an error: whatever was started by this command is stopped by it."""
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
