"""The page on a port of its own, in a thread of the test process, and workflows to look at."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import jsonschema
import redis
import uvicorn

from stabilize_celery.client import Client
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.store import keys
from stabilize_celery.web import WebSettings, make_web_app
from stabilize_celery.web.openapi import document
from tests.integration.fleet import Fleet, eventually
from tests.servers import RedisServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

API = "/api/v1"


class Site:
    """A page that is served; `http` asks it as a program would."""

    def __init__(self, client: Client, port: int, settings: WebSettings) -> None:
        self.client = client
        self.url = f"http://127.0.0.1:{port}"
        self.settings = settings
        headers = {"authorization": f"Bearer {settings.token}"} if settings.token else {}
        # A proxy of the environment is for other hosts.
        self.http = httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def get(self, path: str, **query: Any) -> Any:
        answer = self.http.get(API + path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return self.http.post(API + path, json={} if body is None else body, headers=headers)


class Stream:
    """The events of a stream, heard on a thread of their own; a context, so that it ends before the page does."""

    def __init__(self, site: Site, path: str, **headers: str) -> None:
        self.heard: list[tuple[str, Any, str]] = []
        self._site, self._path, self._headers = site, path, headers
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._answer: httpx.Response | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        connection = eventually(lambda: self._answer).extensions["network_stream"].get_extra_info("socket")
        with contextlib.suppress(OSError):  # the page has ended what it refused
            connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(20)

    def _listen(self) -> None:
        kind, name = "", ""
        with (
            contextlib.suppress(httpx.TransportError),
            self._site.http.stream("GET", API + self._path, headers=self._headers, timeout=60) as self._answer,
        ):
            for line in self._answer.iter_lines():
                if line.startswith("id:"):
                    name = line[3:].strip()
                if line.startswith("event:"):
                    kind = line[6:].strip()
                if line.startswith("data:"):
                    self.heard.append((kind, json.loads(line[5:]), name))

    @property
    def status(self) -> int:
        """Of the answer; 0: there is none yet."""
        return 0 if self._answer is None else self._answer.status_code

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    def of(self, kind: str) -> list[Any]:
        return [data for one, data, _ in list(self.heard) if one == kind]


@contextmanager
def served(client: Client, settings: WebSettings | None = None) -> Iterator[Site]:
    """Serve a page for as long as the context lasts."""
    chosen = settings or WebSettings()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            make_web_app(client, chosen), proxy_headers=False, log_level="error", timeout_graceful_shutdown=2, ws="none"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        site = Site(client, listener.getsockname()[1], chosen)
        try:
            eventually(lambda: server.started)
            yield site
        finally:
            site.http.close()
            server.should_exit = True
            thread.join(20)


def stage(ref_id: str, *after: str, does: str = "work", **given: Any) -> StageExecution:
    """A stage of one task."""
    task = TaskExecution.create(does, does)
    return StageExecution(
        ref_id=ref_id, type=does, name=ref_id, tasks=[task], requisite_stage_ref_ids=set(after), **given
    )


def flow(*stages: Any, name: str = "one", **more: Any) -> Workflow:
    """A workflow of these stages."""
    return Workflow.create("shop", name, list(stages), **more)


def gate(ref_id: str = "gate", *after: str) -> StageExecution:
    """A stage that waits for the signal `approve`."""
    return stage(ref_id, *after, does="approval", context={"signal": "approve"})


def started(site: Site, workflow: Workflow, **statuses: str) -> str:
    """Start a workflow, wait until its stages have these statuses, and return its id."""
    run = site.client.start(workflow)

    def is_there() -> bool:
        found = {one.ref_id: one.status.name for one in run.get().stages}
        return all(found[ref] == status for ref, status in statuses.items())

    eventually(is_there, 60)
    return run.id


def fits(value: Any, name: str) -> Any:
    """Return a value of the API, which is as its document describes it."""
    schemas = document("0")["components"]["schemas"]
    root = {"components": {"schemas": schemas}, "$ref": f"#/components/schemas/{name}"}
    jsonschema.Draft202012Validator(root).validate(value)
    return value


def order() -> Workflow:
    """A pipeline with something of everything: a gate that is closed, a failure that is borne, instances, a mutex."""
    return Workflow.create(
        "shop",
        "order",
        [
            stage("charge", context={"order_id": 7}),
            stage("pack", "charge", context={"sleep_s": 0.2}, mi_config=MultiInstanceConfig(count=5)),
            stage("label", "charge", does="shell", context={"command": "echo no printer; exit 3", **BORNE}),
            stage("weigh", "label", mutex_key="scales"),
            stage("approve", "charge", does="approval", context={"signal": "approve"}),
            stage("ship", "pack", "weigh", "approve", mutex_key="dock-4"),
            stage("invoice", "ship"),
        ],
    )


BORNE = {"continuePipelineOnFailure": True}


def fan(number: int, name: str = "fan") -> Workflow:
    """A stage, `number` stages alike after it, one after them all."""
    wide = [f"part{at}" for at in range(number)]
    return Workflow.create(
        "bench", name, [stage("first"), *(stage(one, "first") for one in wide), stage("last", *wide)]
    )


def lattice(layers: int, width: int, name: str = "lattice") -> Workflow:
    """A graph where no two stages are alike: each follows two of the layer before."""
    stages = [stage(f"s{0}_{row}") for row in range(width)]
    for layer in range(1, layers):
        for row in range(width):
            before = {f"s{layer - 1}_{row}", f"s{layer - 1}_{(row * 7 + layer) % width}"}
            stages.append(stage(f"s{layer}_{row}", *before))
    return Workflow.create("bench", name, stages)


@contextmanager
def site_with_a_worker(folder: Path, *, append_only: bool = True) -> Iterator[Site]:
    """A page with a server and one worker of its own, which keeps its log in `folder`."""
    with RedisServer(append_only=append_only) as server:
        fleet = Fleet(server, folder)
        try:
            fleet.start_worker()
            with Client(fleet.state_url, fleet.broker_url) as client, served(client) as site:
                yield site
        finally:
            fleet.stop()


def open_page(page: Page, site: Site, address: str) -> None:
    page.goto(f"{site.url}/#{address}")


def numbers(page: Page, selector: str, *names: str) -> list[float]:
    found = page.locator(selector).first
    return [float(found.get_attribute(f"data-{name}") or 0) for name in names]


def list_many(url: str, number: int) -> None:
    """Put lines into the indexes as submissions do; the stages of these workflows are never looked at."""
    now_ms = int(time.time() * 1000)
    with redis.Redis.from_url(url) as server:
        partitions = int(server.get(keys.partitions("stabilize")) or keys.DEFAULT_PARTITIONS)
        pipe = server.pipeline(transaction=False)
        for at in range(number):
            run = f"{number - at:026d}"
            prefix = keys.partition_prefix("stabilize", keys.partition_of(run, partitions))
            name = "needle" if at == number // 5 else f"pipeline-{at % 7}"
            status = ("SUCCEEDED", "SUCCEEDED", "TERMINAL", "CANCELED")[at % 4]
            began = now_ms - at * 1000
            line = {
                "status": status,
                "application": f"team-{at % 5}",
                "name": name,
                "started_ms": began,
                "ended_ms": began + at * 7919 % 90_000,
            }
            pipe.hset(keys.workflow(keys.workflow_prefix(prefix, run)), mapping=line)
            for index in (keys.index_every(prefix), keys.index_name(prefix, name), keys.index_status(prefix, status)):
                pipe.zadd(index, {run: began})
            if at % 5000 == 4999:
                pipe.execute()
        pipe.execute()
