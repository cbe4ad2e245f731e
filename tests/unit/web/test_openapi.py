"""The document tells what the API does: every path, every type, and nothing else."""

import asyncio
import re
from typing import Any

import httpx
import jsonschema
import pytest
from starlette.routing import Mount, Route

from stabilize_celery.client import Client
from stabilize_celery.engine.steps import workflow_slot
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.schedule import Schedule
from stabilize_celery.store.contract import Bury, Transaction
from stabilize_celery.store.memory import MemoryStore
from stabilize_celery.web import make_web_app
from stabilize_celery.web.openapi import document
from tests.unit.client.world import World, gate, stage, workflow
from tests.unit.web.test_guard import Nobody

DOCUMENT = document("1.2.3")


def test_every_route_is_described_and_every_description_has_a_route() -> None:
    """A path that is added without a description fails here, and the other way round."""
    app = make_web_app(Client("redis://unused", store=MemoryStore(), publisher=Nobody()))
    [api] = [route for route in app.routes if isinstance(route, Mount) and route.path == "/api/v1"]
    routed = {
        (re.sub(r":path", "", route.path), method.lower())
        for route in api.routes
        if isinstance(route, Route)
        for method in (route.methods or ()) - {"HEAD"}
    }
    described = {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}

    assert routed - {("/openapi.json", "get")} == described


def test_every_reference_leads_to_a_schema_and_every_schema_is_one() -> None:
    """A generator of clients can read it whole."""
    schemas = DOCUMENT["components"]["schemas"]
    references = set(re.findall(r"'#/components/schemas/(\w+)'", str(DOCUMENT)))

    assert references == schemas.keys()
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_operations_have_names_of_their_own() -> None:
    """Generated clients name their methods by them."""
    names = [one["operationId"] for methods in DOCUMENT["paths"].values() for one in methods.values()]

    assert len(names) == len(set(names))


def test_parts_of_a_path_are_parameters() -> None:
    """Each part in braces is described, and required."""
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            told = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
            assert told == set(re.findall(r"{(\w+)}", path)), path


TASK = {"name": "t", "implementing_class": "work"}
BODIES = {
    "/workflows": {"definition": {"application": "a", "name": "n", "stages": [{"ref_id": "a", "tasks": [TASK]}]}},
    "/session": {"token": "x"},
    "/workflows/{id}/cancel-region": {"region": "r"},
    "/workflows/{id}/stages/{ref}/signal": {"name": "go", "payload": [1]},
}
FOUND = {
    ("/workflows", "post"): 201,
    ("/schedules/{name}/start", "post"): 201,
    ("/session", "post"): 401,
}
"""What is answered where that is not 200; nobody has told this page's token."""
OPERATIONS = [(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods]


@pytest.fixture
def busy() -> tuple[World, dict[str, str]]:
    """A fleet at which there is something to be told of everything, and the names in its paths."""
    world = World(fail=lambda stage: TaskResult.terminal("no"))
    several = gate("a", mi_config=MultiInstanceConfig(count=2, allow_dynamic=True), mutex_key="m")
    live = world.start(several, gate("b", mutex_key="m"), stage("c", "a"))
    world.start(stage("f", does="fail"))
    definition = workflow(stage("s"))
    world.client.schedules.add(Schedule(name="nightly", definition=definition, cron="@daily"))
    dead = world.client.start(definition)
    (owed,) = (
        one
        for found in world.client.store.first_due(range(64), 99)[1].values()
        for one in found
        if one.workflow_id == dead.id
    )
    with world.client.store.session(workflow_slot(dead.id)) as session:
        session.commit(Transaction([], [Bury(owed.name, world.now_ms)]))
    world.announce("work")
    return world, {"id": live.id, "ref": "a", "name": "nightly", "dead": dead.id, "letter": owed.name}


def operated(world: World, method: str, path: str, **given: Any) -> httpx.Response:
    async def asking() -> httpx.Response:
        transport = httpx.ASGITransport(make_web_app(world.client))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.request(method, f"/api/v1{path}", **given)

    return asyncio.run(asking())


def check_described(answer: httpx.Response, operation: dict[str, Any]) -> None:
    """The answer is of the type that the document names for its status."""
    told = operation["responses"].get(str(answer.status_code)) or DOCUMENT["components"]["responses"]["Problem"]
    schema = told["content"][answer.headers["content-type"]]["schema"]
    jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(answer.json())


@pytest.mark.parametrize(("path", "method"), [one for one in OPERATIONS if not one[0].startswith("/streams")])
def test_what_is_answered_is_what_is_described(busy: tuple[World, dict[str, str]], path: str, method: str) -> None:
    """Of what there is, of what there is not, and of a request that is none."""
    world, names = busy
    operation = DOCUMENT["paths"][path][method]
    if path.startswith("/dead/"):
        names = {"id": names["dead"], "name": names["letter"]}
    given = {} if method == "get" else {"json": BODIES.get(path, {})}

    answers = [
        operated(world, method, re.sub(r"{(\w+)}", lambda found: names[found[1]], path), **given),
        operated(world, method, re.sub(r"{(\w+)}", "nobody", path), **given),
        operated(world, method, f"{path}?nonsense=1", **({"content": b"{"} if given else {})),
    ]

    for answer in answers:
        check_described(answer, operation)
    found, missing, wrong = (answer.status_code for answer in answers)
    is_of_one = "{" in path
    assert found == FOUND.get((path, method), 200)
    assert missing == (404 if is_of_one else found)
    assert wrong == (400 if method == "get" else 415)
