"""Results as they are kept in `results/`: what was measured, by which command, when, on which machine and commit."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "header", "load_note", "machine", "read", "write"]

RESULTS = Path(__file__).parent / "results"
_QUIET_LOAD = 0.5


def header(note: str) -> dict[str, Any]:
    """Return what stands above the figures of each file."""
    return {
        "note": note,
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "machine": machine(),
    }


def load_note() -> str:
    """Return what readers should know first if the machine is busy now, before our own work begins."""
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if load < _QUIET_LOAD * processors:
        return ""
    return (
        f"Preliminary: when this run began, other work kept {load:.1f} of {processors} processors busy. Run it again."
    )


def write(name: str, results: Mapping[str, Any]) -> None:
    """Keep results under a name."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=2) + "\n")


def read(name: str) -> dict[str, Any]:
    """Return the results that are kept under a name.

    Raises:
        FileNotFoundError: there are none.

    """
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def machine() -> dict[str, Any]:
    """Return what figures depend on, as far as a program can tell."""
    return {
        "processors": os.cpu_count(),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "commit": _commit(),
        "load_average": list(os.getloadavg()),
    }


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _commit() -> str:
    """Return the commit that is measured; `-dirty`: with changes of more than results and documents."""
    commit = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--", ":/", *(f":(top,exclude){folder}" for folder in _NOT_CODE))
    return f"{commit}-dirty" if changed else commit


_NOT_CODE = ("benchmarks/results", "docs")


def _git(*arguments: str) -> str:
    folder = Path(__file__).parent
    try:
        told = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return ""
    return told.stdout.strip()
