"""Tasks that a real worker goes on with keep every promise of tasks that a broker has delivered."""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import redis

from stabilize_celery.runtime.lanes import lanes
from tests.integration.fleet import Fleet, Worker, eventually
from tests.servers import RedisServer
from tests.tls_proxy import self_signed, tls_proxy

pytestmark = pytest.mark.real


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server that keeps each write that it acknowledged."""
    with RedisServer("--maxmemory-policy", "noeviction", append_only=True) as server:
        yield server


def submit_chain(fleet: Fleet, *does: str, sleep_s: float = 0) -> str:
    """Start a chain; each stage is named after its place, `s0` and so on, and has one task of these types."""
    stages = [
        {
            "ref_id": f"s{at}",
            "type": "x",
            "name": f"s{at}",
            "requisite_stage_ref_ids": [f"s{at - 1}"] if at else [],
            "context": {"sleep_s": sleep_s if at else 0},
            "tasks": [{"name": kind, "implementing_class": kind}],
        }
        for at, kind in enumerate(does)
    ]
    return fleet.runtime.submit({"application": "shop", "name": "chain", "stages": stages})


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_its_lease_is_extended_while_it_runs(new_fleet: Callable[..., Fleet], pool: str) -> None:
    """Celery does not know of it; the main process does. It runs in the process of the first, and once."""
    fleet = new_fleet(mode="continuation", lease_ms="1500")
    fleet.start_worker(pool=pool)

    done = fleet.ended(submit_chain(fleet, "work", "work", sleep_s=5), 60)

    assert done.status.name == "SUCCEEDED"
    (first,), (second,) = fleet.journal("start", "s0"), fleet.journal("start", "s1")
    assert first["pid"] == second["pid"]


def test_it_is_reported_at_once_when_its_child_dies(new_fleet: Callable[..., Fleet]) -> None:
    """Not when its lease runs out: that would be in a minute."""
    fleet = new_fleet(mode="continuation", lease_ms="60000")
    fleet.start_worker()

    done = fleet.ended(submit_chain(fleet, "work", "die"), 50)

    assert done.status.name == "TERMINAL"
    assert len(fleet.journal("start", "s1")) > 1
    assert len(fleet.journal("start", "s0")) == 1


def test_a_cold_shutdown_hands_it_to_others(new_fleet: Callable[..., Fleet]) -> None:
    """Before its lease runs out."""
    fleet = new_fleet(mode="continuation", lease_ms="60000")
    first = fleet.start_worker()
    workflow_id = submit_chain(fleet, "work", "work", sleep_s=15)
    eventually(lambda: fleet.journal("start", "s1"))
    first.send(signal.SIGQUIT)
    first.process.wait(30)
    assert not fleet.journal("end", "s1")

    fleet.start_worker()

    assert fleet.ended(workflow_id, 50).status.name == "SUCCEEDED"
    assert len(fleet.journal("start", "s1")) == 2
    assert len(fleet.journal("start", "s0")) == 1


@pytest.mark.parametrize(
    ("queues", "is_kept"),
    [("stabilize.control,stabilize.work", False), ("stabilize.control,stabilize.work,celery", True)],
)
def test_acknowledgements_are_left_to_the_ledger_only_where_all_queues_are_ours(
    new_fleet: Callable[..., Fleet], queues: str, is_kept: bool
) -> None:
    """Another task of the app would be lost with its worker."""
    fleet = new_fleet(acks="ledger")
    fleet.start_worker("-Q", queues)
    workflow_id = fleet.submit("long", sleep_s=3)
    eventually(lambda: fleet.journal("start", "long"))

    with redis.Redis.from_url(fleet.broker_url) as broker:
        assert bool(broker.exists("unacked")) is is_kept
    assert fleet.ended(workflow_id).status.name == "SUCCEEDED"


TAKES = ("-Q", "stabilize.control,stabilize.work")


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_that_takes_messages_itself_does_all_of_them_once(new_fleet: Callable[..., Fleet], pool: str) -> None:
    """Celery hands it the first of a turn; with one process busy, the rest waits on the lists."""
    fleet = new_fleet(take_ms="5000")
    fleet.start_worker(*TAKES, pool=pool, concurrency=1)

    ids = [submit_chain(fleet, "work", "work", "work") for _ in range(10)]

    assert {fleet.ended(one, 60).status.name for one in ids} == {"SUCCEEDED"}
    assert [len(fleet.journal("start", f"s{at}")) for at in range(3)] == [10, 10, 10]
    with redis.Redis.from_url(fleet.broker_url) as broker:
        assert not broker.exists("stabilize.control", "stabilize.work")


def test_a_taken_task_is_reported_at_once_when_its_child_dies(new_fleet: Callable[..., Fleet]) -> None:
    """Celery does not know of it; the main process does."""
    fleet = new_fleet(lease_ms="60000", take_ms="5000")
    fleet.start_worker(*TAKES, concurrency=1)

    done = fleet.ended(submit_chain(fleet, "work", "die"), 50)

    assert done.status.name == "TERMINAL"
    assert len(fleet.journal("start", "s1")) > 1
    assert len(fleet.journal("start", "s0")) == 1


def test_a_taken_task_is_handed_to_others_at_a_cold_shutdown(new_fleet: Callable[..., Fleet]) -> None:
    """Before its lease runs out."""
    fleet = new_fleet(lease_ms="60000", take_ms="5000")
    first = fleet.start_worker(*TAKES, concurrency=1)
    workflow_id = submit_chain(fleet, "work", "work", sleep_s=15)
    eventually(lambda: fleet.journal("start", "s1"))
    fleet.start_worker(*TAKES, concurrency=1)

    first.send(signal.SIGQUIT)

    assert fleet.ended(workflow_id, 50).status.name == "SUCCEEDED"
    assert len(fleet.journal("start", "s1")) == 2


MIXED = ("-Q", "stabilize.control,stabilize.work,celery")


def test_beside_other_tasks_of_the_app_it_takes_what_is_ours(new_fleet: Callable[..., Fleet]) -> None:
    """Celery delivers few of them, and keeps its book of acknowledgements for the others."""
    fleet = new_fleet(take_ms="5000")
    worker = fleet.start_worker(*MIXED, concurrency=1)

    ids = [submit_chain(fleet, "work", "work", "work") for _ in range(10)]

    assert {fleet.ended(one, 60).status.name for one in ids} == {"SUCCEEDED"}
    assert [len(fleet.journal("start", f"s{at}")) for at in range(3)] == [10, 10, 10]
    assert received(worker) < 45  # of a hundred messages


@pytest.mark.parametrize(
    ("pool", "mode"), [("prefork", "per_message"), ("prefork", "fused"), ("threads", "per_message")]
)
def test_other_tasks_of_the_app_end_a_turn(new_fleet: Callable[..., Fleet], pool: str, mode: str) -> None:
    """They wait for a message or two, not for all that waits of ours, however long turns may last."""
    fleet = new_fleet(take_ms="60000", mode=mode)
    fleet.start_worker(*MIXED, pool=pool, concurrency=1)
    ids = [submit_chain(fleet, "work", "work", sleep_s=0.5) for _ in range(20)]
    eventually(lambda: fleet.journal("end", "s1"))

    fleet.celery.send_task("shop.ping")

    eventually((fleet.folder / "pinged").exists)
    assert len(fleet.journal("end", "s1")) < 20
    assert {fleet.ended(one, 60).status.name for one in ids} == {"SUCCEEDED"}


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_processes_that_do_not_wait_leave_a_queue_alone_that_is_consumed_no_more(
    new_fleet: Callable[..., Fleet], pool: str
) -> None:
    fleet = new_fleet(take_ms="5000", wait_ms="0")
    fleet.start_worker(*TAKES, pool=pool, concurrency=1)
    fleet.ended(submit_chain(fleet, "work", "work"))
    assert fleet.celery.control.cancel_consumer("stabilize.work", reply=True, timeout=SOON_S, limit=1)

    workflow_ids = [submit_chain(fleet, "work") for _ in range(3)]

    with redis.Redis.from_url(fleet.broker_url) as broker:
        eventually(lambda: sum(broker.llen(lane) for lane in lanes("stabilize.work")) == 3)
        fleet.celery.control.add_consumer("stabilize.work", reply=True, timeout=SOON_S, limit=1)
        assert {fleet.ended(one).status.name for one in workflow_ids} == {"SUCCEEDED"}


WAITS = {"wait_ms": "60000"}
"""Turns in which a process waits last a minute, unless something ends them: that must be seen, not waited out."""
SOON_S = 30.0


def received(worker: Worker) -> int:
    """Return how many messages Celery has delivered, by what it logs."""
    return len(re.findall(r"Task stabilize\.\w+\[[^]]*\] received", worker.log))


def test_what_follows_is_taken_by_processes_that_wait_for_it(new_fleet: Callable[..., Fleet]) -> None:
    """In a chain nothing waits when a message is done; Celery delivers what makes its processes begin to wait."""
    fleet = new_fleet(**WAITS)
    worker = fleet.start_worker(*TAKES, concurrency=2)

    done = fleet.ended(submit_chain(fleet, *["work"] * 10))

    assert done.status.name == "SUCCEEDED"
    assert [len(fleet.journal("start", f"s{at}")) for at in range(10)] == [1] * 10
    assert received(worker) == 2


def test_a_warm_shutdown_ends_the_waiting(new_fleet: Callable[..., Fleet]) -> None:
    """Containers are given a few seconds."""
    fleet = new_fleet(**WAITS)
    worker = fleet.start_worker(*TAKES)
    fleet.ended(submit_chain(fleet, "work", "work"))

    worker.send(signal.SIGTERM)

    assert worker.process.wait(SOON_S) == 0


def test_what_is_no_ledger_message_is_not_kept_waiting(new_fleet: Callable[..., Fleet]) -> None:
    """Another program's submission is Celery's to deliver, though its processes wait themselves."""
    fleet = new_fleet(**WAITS)
    fleet.start_worker(*TAKES)
    fleet.ended(submit_chain(fleet, "work", "work", "work"))

    stage = {"ref_id": "a", "type": "x", "name": "a", "tasks": [{"name": "work", "implementing_class": "work"}]}
    definition = {"application": "shop", "name": "sent", "stages": [stage]}
    sent = fleet.celery.send_task("stabilize.SubmitWorkflow", (definition,), queue="stabilize.control")

    eventually(lambda: fleet.journal("end", "a"), SOON_S)
    assert sent.id


@pytest.mark.parametrize("mode", ["per_message", "fused", "continuation"])
def test_a_queue_that_is_consumed_no_more_is_left_alone(new_fleet: Callable[..., Fleet], mode: str) -> None:
    """`cancel_consumer` reaches processes that wait, or go on with their workflows; and `add_consumer` too."""
    fleet = new_fleet(**WAITS, mode=mode)
    fleet.start_worker(*TAKES)
    fleet.ended(submit_chain(fleet, "work", "work"))
    assert fleet.celery.control.cancel_consumer("stabilize.work", reply=True, timeout=SOON_S, limit=1)

    workflow_id = submit_chain(fleet, "work", "work", "work")

    with redis.Redis.from_url(fleet.broker_url) as broker:
        eventually(lambda: sum(broker.llen(lane) for lane in lanes("stabilize.work")) == 1)
        assert len(fleet.journal("start", "s0")) == 1
        fleet.celery.control.add_consumer("stabilize.work", reply=True, timeout=SOON_S, limit=1)
        assert fleet.ended(workflow_id).status.name == "SUCCEEDED"


def test_a_delivery_is_told_as_done_though_its_process_waits(new_fleet: Callable[..., Fleet]) -> None:
    """Flower shows each message once, when it has happened."""
    fleet = new_fleet(**WAITS)
    fleet.start_worker(*TAKES, "-E")
    begun: set[str] = set()
    ends: Counter[str] = Counter()
    with fleet.celery.connection() as connection:
        handlers = {
            "task-started": lambda event: begun.add(event["uuid"]),
            "task-succeeded": lambda event: ends.update([event["uuid"]]),
        }
        receiver = fleet.celery.events.Receiver(connection, handlers=handlers)
        with receiver.consumer_context() as (own, _, _):
            with suppress(TimeoutError):
                own.drain_events(timeout=0.2)  # subscribes
            fleet.ended(submit_chain(fleet, "work"))
            while len(ends) < 3 or begun != set(ends):
                own.drain_events(timeout=SOON_S)

    assert len(begun) >= 3
    assert ends == Counter(begun)


def test_what_is_taken_is_told_once_somebody_asks_for_events(new_fleet: Callable[..., Fleet]) -> None:
    """As Flower does of workers that were started without `-E`; and no more once nobody wants to know."""
    fleet = new_fleet(take_ms="5000")
    worker = fleet.start_worker(concurrency=1)
    told: list[str] = []
    with fleet.celery.connection() as connection:
        receiver = fleet.celery.events.Receiver(
            connection, handlers={"task-succeeded": lambda e: told.append(e["uuid"])}
        )

        def is_told() -> bool:
            """Whether all of a workflow's nine messages are, of which Celery delivers a few."""
            told.clear()
            workflow_id = submit_chain(fleet, "work", "work")
            fleet.ended(workflow_id)
            with suppress(TimeoutError):
                while len(set(told)) < 6:
                    own.drain_events(timeout=1)
            return len(set(told)) >= 6

        with receiver.consumer_context() as (own, _, _):
            with suppress(TimeoutError):
                own.drain_events(timeout=0.2)  # subscribes
            assert not is_told()
            fleet.celery.control.enable_events()
            eventually(is_told)
            fleet.celery.control.disable_events()
            eventually(lambda: not is_told())

    assert received(worker) > 0


def check_one_delivery(fleet: Fleet) -> None:
    """Run a chain: Celery delivers what makes a process begin to wait, which takes all that follows."""
    worker = fleet.start_worker(*TAKES, concurrency=1)

    done = fleet.ended(submit_chain(fleet, *["work"] * 10))

    assert done.status.name == "SUCCEEDED"
    assert received(worker) == 1
    fleet.stop()


def test_what_is_encrypted_on_its_way_is_taken_as_well(
    new_fleet: Callable[..., Fleet], server: RedisServer, tmp_path: Path
) -> None:
    """Broker and state behind one certificate."""
    certificate, key = self_signed(tmp_path)
    with tls_proxy(server.port, certificate, key) as port:
        urls = [f"rediss://127.0.0.1:{port}/{number}?ssl_ca_certs={certificate}" for number in range(2)]
        check_one_delivery(new_fleet(**WAITS, broker=urls[0], state=urls[1]))


def test_behind_sentinels_messages_are_taken_from_the_master(
    new_fleet: Callable[..., Fleet], server: RedisServer
) -> None:
    """Broker and state on it."""
    with RedisServer(sentinel=[f"monitor shop 127.0.0.1 {server.port} 1"]) as sentinel:
        urls = [f"sentinel://127.0.0.1:{sentinel.port}/{number}?master=shop" for number in range(2)]
        check_one_delivery(new_fleet(**WAITS, broker=urls[0], state=urls[1]))


def test_a_process_that_is_replaced_after_each_task_takes_no_more(new_fleet: Callable[..., Fleet]) -> None:
    """A body that needs a fresh process gets one."""
    fleet = new_fleet(take_ms="5000")
    fleet.start_worker("--max-tasks-per-child", "1", concurrency=1)

    done = fleet.ended(submit_chain(fleet, "work", "work", "work"), 60)

    assert done.status.name == "SUCCEEDED"
    assert len({one["pid"] for at in range(3) for one in fleet.journal("start", f"s{at}")}) == 3


def test_inspect_tells_what_a_process_has_taken(new_fleet: Callable[..., Fleet]) -> None:
    """A task that takes long is seen, though Celery has not delivered it."""
    fleet = new_fleet(**WAITS)
    fleet.start_worker(*TAKES, concurrency=1)
    workflow_id = submit_chain(fleet, "work", "work", sleep_s=SOON_S)
    eventually(lambda: fleet.journal("start", "s1"))

    (active,) = fleet.celery.control.inspect(timeout=SOON_S, limit=1).active().values()

    assert [(one["name"], one["id"].split("/")[0]) for one in active] == [("stabilize.RunTask", workflow_id)]
    assert not fleet.journal("end", "s1")


def test_processes_that_wait_do_not_outlive_their_worker(new_fleet: Callable[..., Fleet]) -> None:
    """Nobody would extend the lease of what they took."""
    fleet = new_fleet(**WAITS)
    worker = fleet.start_worker(*TAKES, concurrency=1)
    fleet.ended(submit_chain(fleet, "work", "work"))
    (done,) = fleet.journal("end", "s1")

    worker.send(signal.SIGKILL)

    eventually(lambda: not psutil.pid_exists(done["pid"]), SOON_S)


def test_processes_that_wait_outlive_their_redis(new_fleet: Callable[..., Fleet], server: RedisServer) -> None:
    """Their turns end with it; once it is back, Celery has its connection again and nothing is kept waiting."""
    fleet = new_fleet(**WAITS)
    worker = fleet.start_worker(*TAKES)
    fleet.ended(submit_chain(fleet, "work", "work"))

    server.kill()
    eventually(lambda: "connection" in worker.log.lower().partition("ready.")[2])
    server.start()

    assert fleet.ended(submit_chain(fleet, "work", "work", "work"), 60).status.name == "SUCCEEDED"
    assert worker.process.poll() is None


def test_a_cold_shutdown_ends_the_waiting(new_fleet: Callable[..., Fleet]) -> None:
    """As a warm one does: Celery ends the processes of what it still has."""
    fleet = new_fleet(**WAITS)
    worker = fleet.start_worker(*TAKES)
    fleet.ended(submit_chain(fleet, "work", "work"))

    worker.send(signal.SIGQUIT)

    worker.process.wait(SOON_S)
