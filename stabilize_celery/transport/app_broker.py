"""`python -m stabilize_celery.transport.app_broker APP`: print the broker that a Celery app names itself, if any."""

import sys

from celery.app.utils import find_app

__all__ = ["main"]


def main(name: str) -> None:
    """Load the app as `celery -A` does and print its own broker URL; nothing where its module ends the program."""
    try:
        app = find_app(name)
    except SystemExit:
        return
    sys.stdout.write(f"broker={app.conf.broker_url or ''}\n")


if __name__ == "__main__":
    main(sys.argv[1])
