"""What the package requires is enough for what it does: tests run where much more is installed."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement


def required(package: str, extra: str = "") -> set[str]:
    """Names of the packages that one requires, with what the extra adds."""
    found = map(Requirement, metadata.requires(package) or ())
    return {one.name for one in found if one.marker is None or one.marker.evaluate({"extra": extra})}


def test_what_kombus_redis_transport_imports_is_required() -> None:
    """Celery's broker is Redis by default, and kombu names what that takes in an extra."""
    assert required("kombu", "redis") <= required("stabilize-celery") | required("kombu")


@pytest.mark.parametrize("extra", ["web", "graph"])
def test_an_extra_for_a_command_brings_the_command_line(extra: str) -> None:
    """Who installs it alone runs `stabilize-celery` next."""
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]

    assert "stabilize-celery[cli]" in project["optional-dependencies"][extra]
