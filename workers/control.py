"""`python -m workers.control [celery worker options]`: moves workflows on, runs no task bodies."""

import os
import sys

from stabilize_celery.settings import Settings
from stabilize_celery.transport.worker_command import worker_argv

__all__ = ["main"]


def main() -> None:
    """Become a Celery worker of `workers.app` for the control queue; signals reach it directly."""
    settings = Settings.from_env(os.environ)
    command = worker_argv("workers.app", settings, control=True, extra=sys.argv[1:])
    os.execv(command[0], command)  # noqa: S606 -- the interpreter that runs this, with our own arguments


if __name__ == "__main__":
    main()
