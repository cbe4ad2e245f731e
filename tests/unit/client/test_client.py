"""Starting workflows and finding them again."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import redis

from stabilize_celery.client import Client
from stabilize_celery.engine.steps import Query, Slot, Snapshot
from stabilize_celery.errors import (
    ConfigurationError,
    IdempotencyConflictError,
    UnreachableError,
    WorkflowNotFoundError,
)
from stabilize_celery.models.definition import to_definition
from stabilize_celery.models.limits import DEFAULT_PRIORITY
from stabilize_celery.models.problems import InvalidWorkflowError
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.lanes import lane_of
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Group, Transaction
from stabilize_celery.store.redis_store import RedisStore
from stabilize_celery.store.vault import Vault
from tests.servers import free_port
from tests.unit.client.world import World, gate, stage, workflow
from tests.unit.runtime.world import RecordingPublisher


def test_a_workflow_keeps_its_own_id_and_runs(world: World):
    """What was started is found under the id that the object has, and runs to its end."""
    flow = workflow(stage("a"), stage("b", "a"))

    handle = world.client.start(flow)
    world.settle()

    assert handle.id == flow.id
    assert handle.status() is WorkflowStatus.SUCCEEDED
    assert handle.get().stage_by_ref_id("b").outputs == {"from_b": 1}


def test_a_definition_starts_like_the_object(world: World):
    """The JSON form of a workflow starts it, under a new id."""
    handle = world.client.start(to_definition(workflow(stage("a"))))
    world.settle()

    assert world.client.get(handle.id).status is WorkflowStatus.SUCCEEDED


def test_the_same_key_starts_one_workflow(world: World):
    """The same definition under the same key is the first workflow; another definition is an error that names the key."""
    first = world.client.start(workflow(stage("a")), idempotency_key="order-17")
    again = world.client.start(workflow(stage("a")), idempotency_key="order-17")

    assert first == again
    assert len({first, again}) == 1
    with pytest.raises(IdempotencyConflictError, match="order-17"):
        world.client.start(workflow(stage("a"), stage("b", "a")), idempotency_key="order-17")
    assert len(world.client.list().items) == 1


def test_a_bad_definition_is_refused_whole(world: World):
    """One error has every problem; nothing was written."""
    with pytest.raises(InvalidWorkflowError) as caught:
        world.client.start(workflow(stage("a"), stage("a"), stage("b", "nowhere"), stage("c", "d"), stage("d", "c")))

    told = str(caught.value)
    assert "nowhere" in told
    assert "duplicate" in told
    assert "cycle" in told
    assert world.client.list().items == []


def test_many_start_with_one_batch():
    """`start_many` publishes what all of them owe at once."""
    world, publisher = World(), RecordingPublisher()
    client = Client(settings=Settings(), store=world.fleet.store, publisher=publisher)

    handles = client.start_many(workflow(stage("a")) for _ in range(20))

    assert [len(batch) for batch in publisher.batches] == [20]
    assert {handle.status() for handle in handles} == {WorkflowStatus.RUNNING}


def test_many_of_a_list_share_round_trips(world: World):
    """Sixteen at a time, in order, each for itself."""
    flows = [workflow(stage("a"), name=f"n{number}") for number in range(40)]
    store = world.client.store
    store.partitions()
    before = store.round_trips

    handles = world.client.start_many(flows)

    assert store.round_trips - before == 6
    assert [handle.id for handle in handles] == [flow.id for flow in flows]
    world.settle()
    assert {handle.status() for handle in handles} == {WorkflowStatus.SUCCEEDED}


def test_one_of_many_may_have_been_started_before(world: World):
    """By somebody else, by its key, or twice in one list."""
    first, again = workflow(stage("a")), workflow(stage("a"))
    world.client.start(first)

    handles = world.client.start_many([first, again, again], idempotency_keys=[None, "k", "k"])

    assert handles[0].id == first.id
    assert handles[1].id == handles[2].id != again.id
    assert len(world.client.list().items) == 2


def test_one_of_many_that_stands_for_another_definition_leaves_those_before_it_started(world: World):
    """And nothing of those that come after it in the list is lost: they were started together."""
    taken = workflow(stage("a"))
    world.client.start(taken)
    other = workflow(stage("b"))
    other.id = taken.id
    good = workflow(stage("a"))

    with pytest.raises(IdempotencyConflictError, match=taken.id):
        world.client.start_many([good, other])

    assert world.client.handle(good.id).status() is WorkflowStatus.RUNNING


def test_many_with_large_values_keep_them_apart(redis_url: str):
    """As one that is started by itself does."""
    with Client(redis_url, store=RedisStore(redis_url, vault=Vault(blob_bytes=1_000))) as client:
        flows = [workflow(stage("a", context={"page": letter * 5_000})) for letter in "abc"]

        handles = client.start_many(flows)

        assert [handle.get().stages[0].context["page"] for handle in handles] == [letter * 5_000 for letter in "abc"]
        with redis.Redis.from_url(redis_url) as server:
            assert {key.decode().rsplit(":", 2)[1] for key in server.scan_iter("*:b")} == {flow.id for flow in flows}


@dataclass
class Overtaken:
    """A unit of work between whose reads and EXEC something happens."""

    inner: Group
    happens: Callable[[], object]

    def read(self, queries: Sequence[Query], watch: Sequence[str] = ()) -> list[Snapshot] | None:
        return self.inner.read(queries, watch)

    def commit(self, transactions: Sequence[Transaction]) -> list[list[int | None]] | None:
        self.happens()
        return self.inner.commit(transactions)


def test_many_that_somebody_else_starts_at_the_same_time_are_started_one_by_one():
    """What both start is one workflow; all others are started."""
    world = World()
    flows = [workflow(stage("a")) for _ in range(5)]
    rival = Client(settings=Settings(), store=world.fleet.store, publisher=RecordingPublisher())
    store = world.client.store
    group = store.group

    @contextmanager
    def overtaken(slots: Sequence[Slot]) -> Iterator[Group]:
        with group(slots) as session:
            yield Overtaken(session, lambda: rival.start(flows[2]))

    store.group = overtaken  # type: ignore[method-assign]
    handles = world.client.start_many(flows)

    assert [handle.id for handle in handles] == [flow.id for flow in flows]
    assert len(world.client.list().items) == 5


def test_many_are_sent_in_their_commits_where_those_can_send(redis_url: str):
    """Workers begin with the first while the others are being started; nothing is sent at the end."""
    with Client(redis_url) as client, redis.Redis.from_url(redis_url) as broker:
        waiting = []
        client.start_many(_noticing(waiting, broker, (workflow(stage("a")) for _ in range(3))))

        assert waiting == [0, 1, 2]
        assert broker.llen(lane_of(client.settings.control_queue, DEFAULT_PRIORITY)) == 3


def _noticing(waiting: list[int], broker: redis.Redis, workflows: Iterable[Workflow]) -> Iterator[Workflow]:
    for one in workflows:
        waiting.append(broker.llen(lane_of(Settings().control_queue, DEFAULT_PRIORITY)))
        yield one


def test_many_that_the_broker_does_not_take_are_started_all_the_same(caplog: pytest.LogCaptureFixture):
    """A broker that is away delays; the workers publish what is owed."""
    world, publisher = World(), RecordingPublisher(is_away=True)
    client = Client(settings=Settings(), store=world.fleet.store, publisher=publisher)

    (handle,) = client.start_many([workflow(stage("a"))])
    world.settle(15)

    assert "away" in caplog.text
    assert handle.status() is WorkflowStatus.SUCCEEDED


def test_a_refused_one_of_many_leaves_those_before_it_started(world: World):
    """Each is started for itself: the messages of those before the bad one are published."""
    good = workflow(stage("a"))
    with pytest.raises(InvalidWorkflowError):
        world.client.start_many([good, workflow(stage("a"), stage("a"))])
    world.settle()

    assert world.client.handle(good.id).status() is WorkflowStatus.SUCCEEDED


def test_listing_filters_and_pages(world: World):
    """Newest first, by name, application and status, page by page."""
    ids = [world.start(stage("a"), name=f"n{number % 2}").id for number in range(4)]
    waiting = world.start(gate(), name="n0")

    page = world.client.list(limit=3)
    rest = world.client.list(limit=3, cursor=page.cursor)

    assert [item.id for item in (*page.items, *rest.items)] == [waiting.id, *reversed(ids)]
    assert rest.cursor is None
    assert [item.id for item in world.client.list(name="n1").items] == [ids[3], ids[1]]
    assert [item.id for item in world.client.list(status="running").items] == [waiting.id]
    assert world.client.list(application="others").items == []
    (line,) = world.client.list(status=WorkflowStatus.RUNNING).items
    assert (line.application, line.name, line.status, line.ended_ms) == ("tests", "n0", WorkflowStatus.RUNNING, None)


def test_an_unknown_status_is_named_with_its_neighbour(world: World):
    with pytest.raises(ValueError, match="did you mean 'RUNNING'"):
        world.client.list(status="runing")


def test_an_unknown_id_is_an_error_of_its_own(world: World):
    """Everything that looks at a workflow, or acts on it, says that there is none."""
    handle = world.client.handle("01ARZ3NDEKTSV4RRFFQ69G5FAV")
    asks = (
        handle.status,
        handle.get,
        handle.why,
        handle.wait,
        handle.cancel,
        handle.pause,
        lambda: handle.restart("a"),
        lambda: list(handle.events()),
        lambda: list(handle.events(follow=True)),
    )
    for ask in asks:
        with pytest.raises(WorkflowNotFoundError, match="01ARZ3NDEKTSV4RRFFQ69G5FAV"):
            ask()


def test_urls_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    """Without arguments the client reads STABILIZE_*; the broker is the state's server unless it is said."""
    monkeypatch.setenv("STABILIZE_REDIS_URL", "redis://one:1/0")
    monkeypatch.setenv("STABILIZE_NAMESPACE", "mine")
    with Client() as client:
        assert (client.settings.redis_url, client.settings.namespace) == ("redis://one:1/0", "mine")
    with Client("redis://two:2/0", namespace="yours") as client:
        assert (client.settings.redis_url, client.settings.namespace) == ("redis://two:2/0", "yours")


def test_without_a_url_the_client_says_what_to_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("STABILIZE_REDIS_URL", raising=False)
    with pytest.raises(ConfigurationError, match="STABILIZE_REDIS_URL"):
        Client()


def test_a_server_that_is_not_there_is_said():
    """The error has the URL, without its password."""
    with Client(f"redis://:secret@127.0.0.1:{free_port()}/0") as client, pytest.raises(UnreachableError) as caught:
        client.list()

    assert "127.0.0.1" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_real_server_takes_what_a_client_starts(redis_url: str):
    """State goes to Redis and the messages to the broker's queue; a second client sees the workflow."""
    with Client(redis_url) as client, Client(redis_url) as other:
        handle = client.start(workflow(stage("a")))

        assert other.handle(handle.id).status() is WorkflowStatus.RUNNING
        assert other.get(handle.id).stage_by_ref_id("a").status is WorkflowStatus.NOT_STARTED


def test_who_only_looks_needs_no_broker(world: World):
    """A state server that can be none, and nobody has named another: whatever would be sent is refused, unwritten."""
    settings = Settings(redis_url="redis+cluster://localhost:7000")
    client = Client(settings=settings, store=world.client.store)
    run = world.client.start(workflow(stage("a"))).id

    assert [line.id for line in client.list().items] == [run]
    assert client.get(run).id == run
    for act in (lambda: client.start(workflow(stage("b"))), lambda: client.start_many([workflow(stage("b"))])):
        with pytest.raises(ConfigurationError, match="STABILIZE_BROKER_URL"):
            act()
    with pytest.raises(ConfigurationError, match="STABILIZE_BROKER_URL"):
        client.handle(run).cancel("enough")
    assert [line.id for line in client.list().items] == [run]
    assert client.handle(run).status() is not WorkflowStatus.CANCELED
    with pytest.raises(ConfigurationError, match="can't use as a broker"):
        Client(settings=replace(settings, broker_url=settings.redis_url))


@pytest.mark.parametrize(
    ("wrong", "kind", "told"),
    [
        ({"limit": "5"}, TypeError, "limit must be a whole number, not '5'"),
        ({"limit": None}, TypeError, "limit must be a whole number"),
        ({"limit": 0}, ValueError, "a page of 0 workflows: ask for 1 to 100000"),
        ({"limit": -1}, ValueError, "a page of -1 workflows"),
        ({"cursor": 5}, TypeError, "cursor must be text, not 5"),
        ({"cursor": "x"}, ValueError, "cursor 'x' is not one of ours"),
        ({"status": 5}, TypeError, "a status must be a WorkflowStatus or its name, not 5"),
        ({"application": 5}, TypeError, "application must be text"),
        ({"name": b"x"}, TypeError, "name must be text"),
        ({"name": "\ud800"}, ValueError, "half of a surrogate pair"),
    ],
    ids=str,
)
def test_what_a_listing_is_asked_for_is_checked(world: World, wrong: dict[str, Any], kind: type, told: str):
    """The error says which of the arguments, and what it may be."""
    with pytest.raises(kind, match=told):
        world.client.list(**wrong)


@pytest.mark.parametrize("as_list", [True, False])
@pytest.mark.parametrize("keys", [["a"], ["a", "b", "c"], []])
def test_as_many_keys_as_workflows_or_nothing_is_started(world: World, keys: list[str], *, as_list: bool):
    """Also of those that come one by one: which of them a missing key was meant for is nobody's to guess."""
    flows = [workflow(stage("a")), workflow(stage("a"))]
    given = flows if as_list else iter(flows)

    with pytest.raises(ValueError, match=f"got 2 workflows and {len(keys)} idempotency_keys; nothing was started"):
        world.client.start_many(given, idempotency_keys=keys)
    assert world.client.list().items == []


def test_keys_may_be_given_to_workflows_that_come_one_by_one(world: World):
    flows = [workflow(stage("a")), workflow(stage("b"))]
    keys = (key for key in ("x", None))

    handles = world.client.start_many(iter(flows), idempotency_keys=keys)

    assert handles[0] == world.client.start(flows[0], idempotency_key="x")
    assert handles[1].id == flows[1].id


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((None,), "start_many takes several workflows"),
        (({"stages": []},), "start_many takes several workflows"),
        (("ab",), "start_many takes several workflows"),
        ((workflow(stage("a")),), "start_many takes several workflows"),
        (([workflow(stage("a")), workflow(stage("a"))], "ab"), "idempotency_keys must be a list with a key"),
        (([workflow(stage("a"))], 5), "idempotency_keys must be a list with a key"),
    ],
)
def test_what_is_not_several_is_refused(world: World, arguments: Any, told: str):
    """A text would be taken for a key per letter."""
    workflows, *keys = arguments
    with pytest.raises(TypeError, match=told):
        world.client.start_many(workflows, idempotency_keys=keys[0] if keys else None)
    assert world.client.list().items == []


@pytest.mark.real
def test_a_closed_client_does_not_connect_again(redis_url: str):
    """Nobody would close that: its connections would be the program's for good. Closing it again does nothing."""
    with Client(redis_url) as client:
        handle = client.start(workflow(stage("a")))
    client.close()

    uses: list[Callable[[], object]] = [
        client.list,
        handle.status,
        lambda: client.start(workflow(stage("a"))),
        lambda: list(handle.events()),
    ]
    for use in uses:
        with pytest.raises(RuntimeError, match="this client is closed"):
            use()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((5,), "redis_url must be text, such as 'redis://localhost:6379/1', not 5"),
        ((b"redis://localhost",), "redis_url must be text"),
        (("redis://localhost", 5), "broker_url must be text"),
        (("redis://localhost", None, 5), "namespace must be text, such as 'stabilize', not 5"),
    ],
)
def test_where_a_client_connects_to_is_text(given: tuple[Any, ...], told: str):
    with pytest.raises(TypeError, match=told):
        Client(*given)
