"""The locked sets: what `make demo` installs is a part of what `make setup` installs, and all that the demo imports."""

import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
DEMO_EXTRAS = ("cli", "embedded")


def pins(name: str) -> set[str]:
    return {line for line in (ROOT / name).read_text().splitlines() if "==" in line}


def test_the_demo_set_is_a_part_of_the_development_set() -> None:
    """The same version of each, so that `make setup` after `make demo` changes nothing that is there."""
    assert pins("requirements-demo.lock") - pins("requirements-dev.lock") == set()


def test_the_demo_set_is_small() -> None:
    """A newcomer's first command waits for neither documentation tools nor linters."""
    assert len(pins("requirements-demo.lock")) < len(pins("requirements-dev.lock")) / 2


def test_the_demo_set_holds_what_the_package_and_the_command_line_ask_for() -> None:
    """Nothing that they name is left to be found without a pin."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *(need for extra in DEMO_EXTRAS for need in project["optional-dependencies"][extra]),
    ]
    names = {re.split(r"[^\w.-]", need)[0].lower() for need in asked}

    assert names - {pin.split("==")[0].lower().replace("_", "-") for pin in pins("requirements-demo.lock")} == set()


def test_the_oldest_python_that_the_project_promises_can_install_all_of_it() -> None:
    """Debian 12 has 3.11.2: a pin that needs a later one fails there, and nowhere else."""
    promised = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    oldest = promised.removeprefix(">=") + ".0"
    needs = {
        f"{one.metadata['Name']} {one.version}": one.metadata.get("Requires-Python", "") for one in distributions()
    }

    assert len(needs) >= len(pins("requirements-dev.lock"))
    assert {name: need for name, need in needs.items() if not SpecifierSet(need).contains(oldest)} == {}
