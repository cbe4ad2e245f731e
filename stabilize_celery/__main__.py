"""`python -m stabilize_celery`: the command line."""

import sys

__all__ = ["main"]

try:
    from stabilize_celery.cli.program import run
except ModuleNotFoundError as missing:
    if missing.name not in ("typer", "rich", "ruamel", "ruamel.yaml"):
        raise
    sys.exit(f'the command line needs {missing.name}: pip install "stabilize-celery[cli]"')


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
