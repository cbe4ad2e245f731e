"""A process takes from the broker what Celery would hand to it next, and leaves to Celery what is Celery's."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count

import pytest
import redis
from celery import Celery

from stabilize_celery.errors import UnreachableError
from stabilize_celery.models.messages import Message, RunTask, StartStage
from stabilize_celery.runtime.lanes import lane_of, queue_and_step
from stabilize_celery.runtime.ports import Outcome, Outgoing, outgoing
from stabilize_celery.store.errors import StoreError
from stabilize_celery.store.lists import Lists
from stabilize_celery.store.redis_store import open_lists
from stabilize_celery.transport.incoming import ledger_message
from stabilize_celery.transport.publish import CeleryPublisher
from stabilize_celery.transport.taking import Taking

CONTROL, WORK = "stabilize.control", "stabilize.work"
TASK = RunTask(workflow_id="01HW", ref_id='späte "Zahlung"\\1', thread="abc", task_index=0, task_type="x", instance=3)
START = StartStage(workflow_id="01HW", ref_id="a", thread="abc")


class World:
    """A broker, and a process that takes from it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.app = Celery("test", broker=url, set_as_current=False)
        self.publisher = CeleryPublisher(self.app)
        self.lists: Lists = open_lists(url, 5)
        self.handled: list[Message] = []
        self.known: list[Message] = []
        self.fails: Exception | None = None

    def handle(self, message: Message) -> str:
        assert self.known == [message]
        if self.fails is not None:
            raise self.fails
        self.handled.append(message)
        return ""

    def opening(self, message: Message) -> None:
        """Nothing is read before it is handled."""

    def going_on(self, message: Message) -> AbstractContextManager[Outcome]:
        @contextmanager
        def known() -> Iterator[Outcome]:
            self.known.append(message)
            try:
                yield Outcome()
            finally:
                self.known.remove(message)

        return known()

    def taking(self, clock_s: Callable[[], float] = lambda: 0.0, turn_ms: int = 250) -> Taking:
        return Taking(self.lists, (CONTROL, WORK), self, self.going_on, turn_ms, clock_s=clock_s)

    def waiting(self, queue: str) -> list[bytes]:
        with redis.Redis.from_url(self.url) as client:
            found: list[bytes] = client.lrange(queue, 0, -1)
            return found

    def push(self, queue: str, text: str) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.lpush(queue, text)


@pytest.fixture
def world(redis_url: str) -> Iterator[World]:
    made = World(redis_url)
    yield made
    made.lists.close()
    made.app.close()


def test_it_handles_what_waits_in_order_until_nothing_does(world: World) -> None:
    """First come, first served in a queue, the queues by turns; and each is known while it is handled."""
    later = StartStage(workflow_id="01HW", ref_id="b", thread="abd")
    world.publisher.publish([outgoing(START, CONTROL), outgoing(later, CONTROL), outgoing(TASK, WORK)])

    assert world.taking().go_on() == 3

    assert world.handled == [START, TASK, later]
    assert world.waiting(CONTROL) == world.waiting(WORK) == []
    assert world.known == []


def test_what_is_more_urgent_goes_first_whichever_queue_it_is_in(world: World) -> None:
    """As Celery would deliver it: lanes come before queues."""
    late = StartStage(workflow_id="01HW", ref_id="b", thread="abd")
    world.publisher.publish([outgoing(late, lane_of(CONTROL, 6)), outgoing(START, lane_of(CONTROL, 4))])
    world.publisher.publish([outgoing(TASK, lane_of(WORK, 0))])

    assert world.taking().go_on() == 3

    assert world.handled == [TASK, START, late]


def test_what_is_always_overtaken_comes_on_all_the_same(world: World) -> None:
    """However much that is more urgent there is, one message in seventeen is of those that wait behind it."""
    urgent = [StartStage(workflow_id="01HW", ref_id="a", thread=f"u{number}") for number in range(40)]
    slow = [StartStage(workflow_id="01HW", ref_id="a", thread=f"s{number}") for number in range(3)]
    world.publisher.publish([outgoing(one, lane_of(CONTROL, 9)) for one in slow])
    world.publisher.publish([outgoing(one, lane_of(CONTROL, 0)) for one in urgent])

    world.taking().go_on()

    assert [at for at, one in enumerate(world.handled) if one in slow] == [16, 33, 42]


@pytest.mark.parametrize("queues", [2, 3, 4, 8, 17])
def test_every_queue_is_the_first_by_turns(world: World, queues: int) -> None:
    """Also among the least urgent: what floods one of them holds up no other one."""
    names = [f"q{at}" for at in range(queues)]
    taking = Taking(world.lists, names, world, world.going_on, 250)
    firsts: dict[bool, list[str]] = {True: [], False: []}
    for _ in range(17 * 17 * queues):
        order = taking._in_order()
        is_urgent = queue_and_step(order[0])[1] == 0
        firsts[is_urgent].append(queue_and_step(order[0])[0])
        taking._taken_so_far += 1

    for found in firsts.values():
        counts = Counter(found)
        assert set(counts) == set(names)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_a_queue_in_which_others_messages_were_seen_is_left_to_celery(world: World) -> None:
    """Between taking one and putting it back it could be lost, and nobody would send it again."""
    taking = world.taking()
    world.publisher.publish([Outgoing("SubmitWorkflow", "1", {}, WORK)])
    assert taking.go_on() == 0
    world.publisher.publish([outgoing(START, CONTROL), outgoing(TASK, WORK)])

    taking.go_on()

    assert world.handled == [START]
    assert len(world.waiting(WORK)) == 2


def test_a_probe_leaves_a_queue_as_it_was(world: World) -> None:
    """Celery delivers it, as any that is no ledger's; if it were lost, a keeper would send another one."""
    taking = world.taking()
    world.publisher.publish([Outgoing("Probe", "1", {}, WORK)])
    assert taking.go_on() == 0
    with redis.Redis.from_url(world.url) as client:
        client.delete(WORK)
    world.publisher.publish([outgoing(TASK, WORK)])

    assert taking.go_on() == 1
    assert world.handled == [TASK]


def test_what_cannot_be_put_back_is_put_back_later(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A server that is full refuses what it gave away a moment ago."""
    put_back, refused = world.lists.put_back, iter([True, False])

    def full(name: str, item: bytes) -> None:
        if next(refused, False):
            raise StoreError("Redis refused (OOM)")
        put_back(name, item)

    world.lists.put_back = full  # type: ignore[method-assign]
    taking = world.taking()
    world.publisher.publish([Outgoing("SubmitWorkflow", "1", {}, WORK)])
    before = world.waiting(WORK)

    assert taking.go_on() == 0
    assert world.waiting(WORK) == []
    assert "can't be put back" in caplog.text
    taking.go_on()

    assert world.waiting(WORK) == before


def test_what_is_put_back_is_put_back_into_its_lane(world: World) -> None:
    """It stays the first of its own, and goes before nothing that is more urgent."""
    slow = lane_of(CONTROL, 9)
    world.publisher.publish([Outgoing("Probe", "1", {}, slow)])
    before = world.waiting(slow)

    assert world.taking().go_on() == 0

    assert world.waiting(slow) == before != []


def test_a_turn_ends(world: World) -> None:
    """What waits then is for whoever comes first."""
    world.publisher.publish([outgoing(START, CONTROL), outgoing(TASK, WORK)])
    clock = count(0, 0.1)

    assert world.taking(lambda: next(clock), turn_ms=150).go_on() == 1

    assert world.handled == [START]
    assert len(world.waiting(WORK)) == 1


@pytest.mark.parametrize("kind", ["SubmitWorkflow", "Probe"])
def test_what_is_no_ledger_message_stays_first_in_line_for_celery(world: World, kind: str) -> None:
    """It ends the turn: nothing behind it is taken before it."""
    world.publisher.publish([Outgoing(kind, "1", {}, CONTROL), outgoing(START, CONTROL)])
    before = world.waiting(CONTROL)

    assert world.taking().go_on() == 0

    assert world.waiting(CONTROL) == before


@pytest.mark.parametrize("header", ["eta", "expires", "compression"])
def test_what_celery_treats_in_a_way_of_its_own_is_left_to_it(world: World, header: str) -> None:
    """Such as an operator's message with a countdown."""
    world.publisher.publish([outgoing(START, CONTROL)])
    told = json.loads((world.lists.take([CONTROL]) or ("", b""))[1])
    told["headers"][header] = "2030-01-01T00:00:00"

    assert ledger_message(json.dumps(told).encode()) is None


NESTED = "[" * 100_000


@pytest.mark.parametrize(
    "text",
    ["", "5", "null", "{}", '{"headers": 1, "properties": {}}', "\x00", pytest.param(NESTED, id="nested")],
)
def test_what_can_not_be_read_is_left_to_celery(world: World, text: str) -> None:
    """Celery says what is wrong with it."""
    world.push(WORK, text)

    assert world.taking().go_on() == 0

    assert world.waiting(WORK) == [text.encode()]


def test_a_foreign_message_is_refused_and_the_next_one_handled(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Its Celery id is not that of a ledger entry: nothing is owed for it."""
    world.publisher.publish([Outgoing("StartStage", "mine", {"workflow_id": "1"}, WORK), outgoing(TASK, WORK)])

    assert world.taking().go_on() == 1

    assert world.handled == [TASK]
    assert "refused" in caplog.text


def test_a_state_server_that_is_away_ends_the_turn(world: World) -> None:
    """What was taken is owed and comes back; the rest stays where it is."""
    world.publisher.publish([outgoing(START, CONTROL), outgoing(TASK, WORK)])
    world.fails = UnreachableError("Redis", "redis://x", "gone")

    assert world.taking().go_on() == 0

    assert len(world.waiting(WORK)) == 1


def test_a_broker_that_does_not_let_it_take_is_told_of_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Messages come through Celery as before."""
    with redis.Redis.from_url(world.url) as client:
        client.set(CONTROL, "no list")
        taking = world.taking()

        assert [taking.go_on(), taking.go_on()] == [0, 0]

        assert caplog.text.count("can't take messages itself") == 1
        client.delete(CONTROL)
    world.publisher.publish([outgoing(START, CONTROL)])
    assert taking.go_on() == 1
