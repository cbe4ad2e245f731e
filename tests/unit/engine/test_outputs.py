"""The outputs of a workflow: which of two writers of one name wins."""

from collections.abc import Mapping
from typing import Any

import pytest

from stabilize_celery.engine import places
from stabilize_celery.engine.outputs import workflow_outputs
from stabilize_celery.engine.steps import Decision, workflow_slot
from tests.unit.engine.driving import W, World, plan_of

MS, US = 10, 10_000


def _outputs(**runs: Mapping[str, Any]) -> dict[str, Any]:
    """What a workflow wrote in which stages with these refs each had such a run, created in this order."""
    world = World()
    for at, (ref, values) in enumerate(runs.items()):
        world.stage(plan_of(ref)).put(places.started(ref), [f"{ref}1"])
        world.run(f"{ref}1", ref=ref, created_us=at, outputs={"n": ref}, **{"status": "SUCCEEDED", **values})
    found: list[dict[str, Any]] = []

    def reading() -> Any:
        found.append((yield from workflow_outputs(workflow_slot(W))))
        return Decision()

    world.decide(reading())
    return found[0]


@pytest.mark.parametrize(
    ("a", "b", "wins"),
    [
        ({"ended_ms": MS, "wrote_us": US + 1}, {"ended_ms": MS, "wrote_us": US}, "a"),
        ({"ended_ms": MS, "wrote_us": US}, {"ended_ms": MS, "wrote_us": US + 1}, "b"),
        ({"ended_ms": MS + 1}, {"ended_ms": MS, "wrote_us": US + 1}, "a"),
        ({"ended_ms": MS}, {"ended_ms": MS}, "b"),
        ({"ended_ms": MS}, {"ended_ms": MS + 1, "status": "STOPPED"}, "a"),
    ],
    ids=["wrote later", "wrote earlier", "ended by an older version", "both", "failed"],
)
def test_the_later_write_wins(a: dict[str, Any], b: dict[str, Any], wins: str) -> None:
    """Of decisions in one commit each has its turn; a run that failed writes before all that ended well."""
    assert _outputs(a=a, b=b) == {"n": wins}
