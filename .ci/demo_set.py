"""Write requirements-demo.lock: of the development set's pins, those that this package needs with the extras given."""

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TO_INSTALL_ITSELF = ["hatchling", "editables"]


def closure(wanted: Iterable[str]) -> set[str]:
    """Return the names of what requirements ask for, and of what those ask for, on this machine."""
    found: set[tuple[str, str]] = set()
    open_ = [Requirement(text) for text in wanted]
    while open_:
        requirement = open_.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in found:
                continue
            found.add((name, extra))
            open_ += [need for need in map(Requirement, needs_of(name)) if applies(need, extra)]
    return {name for name, _ in found}


def needs_of(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []


def applies(need: Requirement, extra: str) -> bool:
    return need.marker is None or need.marker.evaluate({"extra": extra})


def main(extras: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *TO_INSTALL_ITSELF]
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    names = closure(wanted)
    pins = [line for line in (ROOT / "requirements-dev.lock").read_text().splitlines() if "==" in line]
    kept = [pin for pin in pins if canonicalize_name(re.split("==", pin)[0]) in names]
    text = "# What the demo needs of requirements-dev.lock. Made by: make lock\n" + "\n".join(kept) + "\n"
    (ROOT / "requirements-demo.lock").write_text(text)


main(sys.argv[1:])
