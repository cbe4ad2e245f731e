"""Makes a process do without hiredis, if this folder is on its path."""

import sys

sys.modules["hiredis"] = None  # type: ignore[assignment]  # what Python itself takes for a module that is not there
