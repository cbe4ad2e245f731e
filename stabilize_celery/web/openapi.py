"""The OpenAPI document, made from the table of endpoints and the types that they take and give."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from stabilize_celery.web import bodies
from stabilize_celery.web.endpoints import ENDPOINTS, Endpoint
from stabilize_celery.web.guard import API
from stabilize_celery.web.queries import BoardQuery, FollowQuery, NoQuery

__all__ = ["document"]

_PREFIX = "#/components/schemas/"
_PART = re.compile(r"{(\w+)(?::path)?}")
_STREAMS = (
    (
        "/streams/workflows/{id}",
        "Follow a workflow. Events: `change` (its status, stages that changed, what happened), `reload`, `gone`.",
        FollowQuery,
    ),
    ("/streams/workflows", "Follow the list. Event `lines`: those that are new or changed.", BoardQuery),
    ("/streams/locks", "Follow the locks. Event `locks`: all of them, when something changed.", NoQuery),
    ("/streams/fleet", "Follow the fleet. Event `fleet`: all of it, when something changed.", NoQuery),
)
_SESSION: tuple[tuple[str, str, type[msgspec.Struct]], ...] = (
    ("post", "Sign a browser in: sets a cookie that stands for the token.", bodies.SignIn),
    ("delete", "Sign out.", bodies.Nothing),
)


@lru_cache(maxsize=1)
def document(version: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    types = [bodies.Problem, bodies.Service, bodies.SignIn]
    types += [kind for one in ENDPOINTS for kind in (one.gives, one.takes)]
    _, schemas = msgspec.json.schema_components(dict.fromkeys(types), ref_template=_PREFIX + "{name}")
    paths: dict[str, dict[str, Any]] = {}
    for one in ENDPOINTS:
        paths.setdefault(_plain(one.path), {})[one.method.lower()] = _operation(one)
    for path, summary, query in _STREAMS:
        paths[path] = {"get": _stream(path, summary, query)}
    paths["/service"] = {"get": _described("service", "What this service is, and who asks.", bodies.Service)}
    paths["/session"] = {
        verb: _described(f"{verb}_session", summary, bodies.Service) | _body(takes) for verb, summary, takes in _SESSION
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "stabilize-celery", "version": version, "license": {"name": "Apache-2.0"}},
        "servers": [{"url": API}],
        "security": [{"bearer": []}, {}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": {"Problem": {"description": "What is wrong, in words.", "content": _problem()}},
        },
    }


def _plain(path: str) -> str:
    return _PART.sub(r"{\1}", path)


def _operation(one: Endpoint) -> dict[str, Any]:
    verb = one.method.lower()
    name = f"{verb}_{re.sub(r'[^a-z]+', '_', _plain(one.path)).strip('_')}"
    found = _described(name, one.summary, one.gives, int(one.status))
    found["parameters"] = [*_in_path(one.path), *_in_query(one.query)]
    return found if verb == "get" else found | _body(one.takes)


def _described(name: str, summary: str, gives: type[msgspec.Struct], status: int = 200) -> dict[str, Any]:
    content = {"application/json": {"schema": _reference(gives)}}
    responses = {str(status): {"description": _doc(gives), "content": content}}
    return {
        "operationId": name,
        "summary": summary,
        "responses": responses | {"default": {"$ref": "#/components/responses/Problem"}},
    }


def _stream(path: str, summary: str, query: type[msgspec.Struct]) -> dict[str, Any]:
    answers = {"description": "Server-sent events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
    name = f"follow_{re.sub(r'[^a-z]+', '_', _plain(path)).strip('_')}"
    parameters: Sequence[dict[str, Any]] = [*_in_path(path), *_in_query(query)]
    responses = {"200": answers, "default": {"$ref": "#/components/responses/Problem"}}
    return {"operationId": name, "summary": summary, "parameters": parameters, "responses": responses}


def _body(takes: type[msgspec.Struct]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _reference(takes)}}}}


def _in_path(path: str) -> Iterator[dict[str, Any]]:
    for name in _PART.findall(path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _in_query(query: type[msgspec.Struct]) -> Iterator[dict[str, Any]]:
    _, schemas = msgspec.json.schema_components([query])
    for name, schema in schemas[query.__name__].get("properties", {}).items():
        yield {"name": name, "in": "query", "required": False, "schema": schema}


def _problem() -> dict[str, Any]:
    return {"application/problem+json": {"schema": _reference(bodies.Problem)}}


def _reference(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": f"{_PREFIX}{kind.__name__}"}


def _doc(kind: type[msgspec.Struct]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]
