"""`python -m workers.alive`: exit 0 if the worker of this machine or container has shown life within 60 s.

For liveness and readiness probes: it looks at the file that STABILIZE_ALIVE_FILE names, which the worker touches, and
at nothing else. So it is cheap, and a Redis that is away does not make it kill workers, which wait for it.
"""

import os
import sys
import time
from pathlib import Path

__all__ = ["is_alive", "main"]

SILENT_S = 60.0
"""A worker that has not touched its file for so long does not live (s)."""


def is_alive(file: Path, now_s: float) -> bool:
    """Return whether a worker has touched its file lately."""
    try:
        return now_s - file.stat().st_mtime <= SILENT_S
    except OSError:
        return False


def main() -> int:
    """Look; return the exit code: 0 it lives, 1 it doesn't, 2 nobody said where to look."""
    name = os.environ.get("STABILIZE_ALIVE_FILE", "")
    if not name:
        sys.stderr.write("set STABILIZE_ALIVE_FILE, for this and for the worker, such as /tmp/stabilize-alive\n")
        return 2
    if is_alive(Path(name), time.time()):
        return 0
    sys.stderr.write(f"{name} was not touched for {SILENT_S:.0f} s: the worker is not up yet, or it hangs\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
