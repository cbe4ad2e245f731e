"""What shows no outputs does not fetch them: it works where they are lost, so it costs the same however large they are."""

from collections.abc import Callable

import pytest

from stabilize_celery.cli.graph import graph_of_view
from stabilize_celery.cli.instances import read_instances
from stabilize_celery.client.why.explain import explain
from stabilize_celery.engine.places import BLOBS
from stabilize_celery.engine.steps import Delete, workflow_slot
from stabilize_celery.errors import PayloadError
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.result import TaskResult
from stabilize_celery.runtime.reading import read_view
from stabilize_celery.store.contract import Store, Transaction
from stabilize_celery.store.vault import Vault
from stabilize_celery.web.service import Service
from tests.unit.client.world import World, gate, stage

LARGE = "x" * 20_000


@pytest.fixture(scope="module")
def lost() -> tuple[World, str]:
    """A workflow that waits for a signal; what its stages returned is large, and lost to this process."""
    world = World(large=lambda _: TaskResult.success(outputs={"large": LARGE}))
    forget_values(world.client.store)
    many = stage("many", "a", does="large", mi_config=MultiInstanceConfig(count=3))
    handle = world.start(stage("a", does="large"), many, gate("gate", "many"))
    with world.client.store.session(workflow_slot(handle.id)) as session:
        session.commit(Transaction([Delete((BLOBS,))]))
    forget_values(world.client.store)
    return world, handle.id


def forget_values(store: Store) -> None:
    """As another process sees the store."""
    store._vault = Vault(blob_bytes=len(LARGE))  # type: ignore[attr-defined]


def graph(world: World, workflow_id: str) -> list[str]:
    view = read_view(world.client.store, workflow_id, without_payloads=True)
    return [
        box.title.split()[0].rstrip(",") for box in graph_of_view(view, read_instances(world.client.store, view)).boxes
    ]


OVERVIEWS: dict[str, Callable[[World, str], list[str]]] = {
    "why": lambda world, name: [one.ref_id for one in explain(world.client.store, name, world.client.settings)],
    "graph": graph,
    "page": lambda world, name: [line.ref_id for line in Service(world.client).workflow(name).stages],
    "page_why": lambda world, name: [line.ref_id for line in Service(world.client).why(name).items],
    "page_update": lambda world, name: [line.ref_id for line in Service(world.client).changed(name, {"a", "many"})[1]],
}


@pytest.mark.parametrize(
    ("overview", "refs"),
    [
        ("why", {"gate"}),
        ("graph", {"a", "many", "gate"}),
        ("page", {"a", "many", "gate"}),
        ("page_why", {"gate"}),
        ("page_update", {"a", "many"}),
    ],
)
def test_an_overview_fetches_no_outputs(lost: tuple[World, str], overview: str, refs: set[str]) -> None:
    """It shows what it always does."""
    world, workflow_id = lost
    assert set(OVERVIEWS[overview](world, workflow_id)) == refs


def test_who_shows_outputs_fetches_them(lost: tuple[World, str]) -> None:
    """So it says that they are lost, and never shows nothing in their place."""
    world, workflow_id = lost
    with pytest.raises(PayloadError, match="outputs"):
        world.client.get(workflow_id)
    with pytest.raises(PayloadError, match="outputs"):
        Service(world.client).stage(workflow_id, "a")
