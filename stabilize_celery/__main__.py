"""`python -m stabilize_celery`: the command line."""

import signal
import sys
from types import FrameType

__all__ = ["main"]

try:
    from stabilize_celery.cli.program import run
except ModuleNotFoundError as missing:
    if missing.name not in ("typer", "rich", "ruamel", "ruamel.yaml"):
        raise
    sys.exit(f'the command line needs {missing.name}: pip install "stabilize-celery[cli]"')


def main() -> None:
    """Run the command line and exit with its code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    sys.exit(run(sys.argv[1:]))


def _end(number: int, _frame: FrameType | None) -> None:
    """End as after an error: whatever was started by this command is stopped by it."""
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
