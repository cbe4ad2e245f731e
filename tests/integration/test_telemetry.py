"""Metrics and structured logs of a real worker: what its children did is seen at its main process' port."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stabilize_celery.client import Client
from stabilize_celery.web import WebSettings
from tests.integration.fleet import Fleet, Worker, eventually
from tests.integration.site import served
from tests.servers import RedisServer, free_port

pytestmark = pytest.mark.real


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def fleet(tmp_path: Path, port: int) -> Iterator[Fleet]:
    with RedisServer() as server:
        fleet = Fleet(server, tmp_path, metrics_port=str(port), log_format="json")
        try:
            yield fleet
        finally:
            fleet.stop()


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Samples by name and the values of their labels, which are sorted by name."""
    return {
        (one.name, *(value for _, value in sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def scraped(port: int) -> dict[tuple[str, ...], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return samples(answer.read().decode())


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_what_children_did_is_counted_at_the_port_of_their_worker(fleet: Fleet, port: int, pool: str) -> None:
    """By type and outcome, with latencies, and with what the namespace holds."""
    fleet.start_worker(pool=pool)
    for number in range(5):
        fleet.ended(fleet.submit(f"s{number}"))

    def all_counted() -> dict[tuple[str, ...], float] | None:
        found = scraped(port)
        return found if found.get(("stabilize_tasks_total", "SUCCEEDED", "work")) == 5 else None

    found = eventually(all_counted)

    assert found["stabilize_messages_total", "applied", "RunTask"] == 5
    assert found["stabilize_start_latency_seconds_count", "StartStage"] == 5
    assert found["stabilize_start_latency_seconds_sum", "StartStage"] < 60
    assert found["stabilize_task_seconds_count", "work"] == 5
    eventually(lambda: scraped(port).get(("stabilize_workflows", "SUCCEEDED")) == 5)
    assert found["stabilize_workers",] == found["stabilize_up",] == 1
    assert found["stabilize_partitions_held",] == 16
    assert ("stabilize_queue_length", "stabilize.work") in found


def test_a_child_that_dies_is_a_lost_lease(fleet: Fleet, port: int) -> None:
    """And what the next one counts is added to what it had counted."""
    fleet.start_worker()
    fleet.ended(fleet.submit("a"))
    fleet.ended(fleet.submit("b", "die"), 60)

    eventually(lambda: scraped(port).get(("stabilize_lease_losses_total",), 0) >= 1)
    assert eventually(lambda: scraped(port).get(("stabilize_tasks_total", "SUCCEEDED", "work"))) == 1


def test_an_execution_that_celerys_hard_limit_ends_is_a_lost_lease_and_no_result(fleet: Fleet, port: int) -> None:
    """The kill reaches the body as an exception; nobody's task has failed by that."""
    fleet.env["STABILIZE_MAX_LOST"] = "1"
    fleet.start_worker("--time-limit", "2", concurrency=1)
    fleet.ended(fleet.submit("hangs", sleep_s=60), 60)
    fleet.ended(fleet.submit("after"))

    eventually(lambda: scraped(port).get(("stabilize_lease_losses_total",), 0) == 1)
    eventually(lambda: scraped(port).get(("stabilize_tasks_total", "SUCCEEDED", "work")))
    results = {name[1]: value for name, value in scraped(port).items() if name[0] == "stabilize_tasks_total"}
    assert results == {"SUCCEEDED": 1}


def test_a_second_worker_with_the_same_port_works_without_metrics(fleet: Fleet) -> None:
    """On a host where all share one environment; it says what to do."""
    fleet.start_worker()
    second = fleet.start_worker("-Q", "stabilize.control,stabilize.work")
    fleet.ended(fleet.submit("a"))

    assert "STABILIZE_METRICS_PORT of its own" in second.log
    assert "Traceback" not in second.log


def test_a_warm_stop_frees_the_port(fleet: Fleet, port: int) -> None:
    """The next worker on this machine can have it."""
    worker = fleet.start_worker()
    worker.send(signal.SIGTERM)
    eventually(lambda: worker.process.poll() is not None, 30)
    fleet.start_worker()

    assert scraped(port)["stabilize_up",] == 1


def test_lines_of_a_worker_are_json_with_ids(fleet: Fleet) -> None:
    """All that it writes, its children and what Python warns of too; of a lost task the line names what was lost."""
    worker = fleet.start_worker()
    workflow_id = fleet.submit("b", "die")
    fleet.ended(workflow_id, 60)

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in worker.log.splitlines()]

    assert any("ready." in line["text"] for line in lines())
    assert any(workflow_id in line["text"] for line in lines())
    assert any("exited with 'signal 9" in line["text"] for line in lines())
    # Celery warns of root before it sets up its logs.
    assert os.getuid() != 0 or any("superuser privileges" in line["text"] for line in lines())


def spans(worker: Worker) -> Counter[str]:
    return Counter(re.findall(r'^    "name": "(\w+) ', worker.log, re.MULTILINE))


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_that_stops_sends_its_last_spans(fleet: Fleet, pool: str) -> None:
    """Each process those that it has: nobody waits for their time, nor for a span more."""
    fleet.env |= {"STABILIZE_TRACES": "on", "OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
    worker = fleet.start_worker(pool=pool)
    for number in range(3):
        fleet.ended(fleet.submit(f"s{number}"))
    worker.send(signal.SIGTERM)
    worker.process.wait(30)

    assert spans(worker) == {"workflow": 3, "stage": 3, "task": 3}


def test_a_child_that_ends_after_its_tasks_sends_its_spans(fleet: Fleet) -> None:
    """Celery's `--max-tasks-per-child`."""
    fleet.env |= {"STABILIZE_TRACES": "on", "OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
    worker = fleet.start_worker("--max-tasks-per-child", "1", concurrency=1)
    fleet.ended(fleet.submit("a"))

    eventually(lambda: spans(worker)["task"] == 1)


def test_the_page_serves_the_numbers_of_the_namespace(fleet: Fleet) -> None:
    """To who shows the token; without it nothing is told."""
    fleet.submit("a")
    token = "a token that is long enough"
    with Client(fleet.state_url, fleet.broker_url) as client, served(client, WebSettings(token=token)) as site:
        found = samples(site.http.get("/metrics").text)
        refused = site.http.get("/metrics", headers={"authorization": "Bearer nobody"})

    assert found["stabilize_workflows", "RUNNING"] == 1
    assert found["stabilize_workers",] == 0
    assert refused.status_code == 401
