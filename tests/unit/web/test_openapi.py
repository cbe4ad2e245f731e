"""The document tells what the API does: every path, every type, and nothing else."""

import re

import jsonschema
from starlette.routing import Mount, Route

from stabilize_celery.client import Client
from stabilize_celery.store.memory import MemoryStore
from stabilize_celery.web import make_web_app
from stabilize_celery.web.openapi import document
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
