"""The commit that ends a message takes the next one off the broker's lists, in the same EXEC (decision 015)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext

import pytest
import redis
from celery import Celery

from stabilize_celery.engine.steps import Hash, Read, SetFields, workflow_slot
from stabilize_celery.errors import UnreachableError
from stabilize_celery.models.messages import Message, StartStage
from stabilize_celery.runtime.lanes import lane_of
from stabilize_celery.runtime.next_message import NextMessage, has_next, taking_next
from stabilize_celery.runtime.ports import Outcome, Outgoing, outgoing
from stabilize_celery.runtime.sessions import Sessions
from stabilize_celery.store.contract import Peek, Post, Take, Transaction
from stabilize_celery.store.redis_store import RedisStore, open_lists
from stabilize_celery.transport.consumed_queues import ConsumedQueues
from stabilize_celery.transport.publish import CeleryPublisher
from stabilize_celery.transport.taking import Taking
from stabilize_celery.transport.waiting import SLICE_S, Waiting, Waits

CONTROL, WORK = "stabilize.control", "stabilize.work"
SLOT = workflow_slot("01HW")


def start(thread: str) -> StartStage:
    return StartStage(workflow_id="01HW", ref_id="a", thread=thread)


class AsInAChild(Waiting):
    """What a child sees of its worker."""

    is_here = True
    is_orphan = False


class World:
    """A server that is broker and state, and a child that takes from it. Each message commits once."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.app = Celery("test", broker=url, set_as_current=False)
        self.publisher = CeleryPublisher(self.app, url)
        self.lists = open_lists(url, 5)
        self.store = RedisStore(url)
        self.consumed = ConsumedQueues((CONTROL, WORK))
        self.waiting = AsInAChild(self.consumed)
        self.handled: list[Message] = []
        self.looks: list[int] = []
        """How often the lists themselves had been asked when a message was handled."""
        self.behind: deque[Callable[[], None]] = deque()
        """What happens behind the commits of messages, in order."""
        self.asked = 0
        take = self.lists.take
        self.lists.take = lambda *args, **more: (setattr(self, "asked", self.asked + 1), take(*args, **more))[1]  # type: ignore[method-assign]

    def handle(self, message: Message) -> str:
        self.handled.append(message)
        self.looks.append(self.asked)
        self.commit()
        if self.behind:
            self.behind.popleft()()
        return ""

    def opening(self, message: Message) -> None:
        """Nothing is read before it is handled."""

    def commit(self) -> None:
        with ExitStack() as stack:
            written = Transaction([SetFields("x", {"n": len(self.handled)})])
            assert Sessions(self.store, stack).commit_last(SLOT, written, []) is not None

    def taking(self, databases: tuple[int, int] | None = (0, 0)) -> Taking:
        return Taking(
            self.lists, (CONTROL, WORK), self, self.going_on, 250, waits=Waits(self.waiting, 50), databases=databases
        )

    def go_on(self, databases: tuple[int, int] | None = (0, 0)) -> int:
        return self.taking(databases).go_on()

    def going_on(self, message: Message) -> AbstractContextManager[Outcome]:
        return nullcontext(Outcome())

    def send(self, *messages: Message | str, queue: str = CONTROL) -> None:
        sent = [Outgoing(one, "1", {}, queue) if isinstance(one, str) else outgoing(one, queue) for one in messages]
        self.publisher.publish(sent)

    def left(self, queue: str = CONTROL) -> int:
        with redis.Redis.from_url(self.url) as client:
            return int(client.llen(queue))  # type: ignore[arg-type]  # redis-py's types are of both its clients


@pytest.fixture
def world(redis_url: str) -> Iterator[World]:
    made = World(redis_url)
    yield made
    made.lists.close()
    made.store.close()
    made.app.close()


def test_only_the_first_message_and_the_end_are_asked_for(world: World) -> None:
    """In between, each commit brings the next message; the order is that of asking."""
    messages = [start(f"t{number}") for number in range(5)]
    world.send(*messages)

    assert world.go_on() == 5

    assert world.handled == messages
    assert world.looks == [1] * 5


@pytest.mark.parametrize("recall", [Waiting.ask_for_a_process, Waiting.end_turns])
def test_a_turn_that_is_called_back_while_it_waits_looks_no_more(
    world: World, recall: Callable[[Waiting], None]
) -> None:
    """However long it was to wait: what comes now is for the process that is asked for."""
    asked: list[float] = []

    def nothing_yet(_: object, wait_s: float = 0, **__: object) -> None:
        asked.append(wait_s)
        if len(asked) == 3:
            recall(world.waiting)

    world.lists.take = nothing_yet  # type: ignore[method-assign, assignment]
    clock = iter(range(100))
    waits = Waits(world.waiting, 60_000)
    taking = Taking(
        world.lists, (CONTROL, WORK), world, world.going_on, 1_000_000, waits=waits, clock_s=lambda: next(clock) / 10
    )

    assert taking.go_on() == 0

    assert asked == [0, SLICE_S, SLICE_S]


def test_the_commit_of_a_delivery_takes_what_the_turn_goes_on_with(world: World) -> None:
    """Once the server has been seen to let this process take: Celery is not asked for what follows from it."""
    taking = world.taking()
    taking.go_on()
    asked = world.asked
    world.send(start("a"), start("b"))

    begun = taking.begin(start("delivered"))

    assert world.left() == 1
    assert taking.go_on(begun) == 2
    assert world.handled == [start("delivered"), start("a"), start("b")]
    assert world.looks == [asked] * 3


def test_a_delivery_that_fails_behind_its_commit_puts_back_what_that_took(world: World) -> None:
    def fail() -> None:
        raise ValueError("a bug")

    taking = world.taking()
    taking.go_on()
    world.send(start("a"))
    world.behind.append(fail)

    with pytest.raises(ValueError, match="a bug"):
        taking.begin(start("delivered"))

    assert world.left() == 1


def test_what_is_most_urgent_is_taken_first(world: World) -> None:
    late, soon, first = start("late"), start("soon"), start("first")
    world.send(first)
    world.send(late, queue=lane_of(CONTROL, 9))
    world.send(soon, queue=lane_of(WORK, 0))

    world.go_on()

    assert world.handled == [first, soon, late]


def test_without_one_server_for_both_each_is_asked_for(world: World) -> None:
    world.send(start("a"), start("b"))

    assert world.go_on(databases=None) == 2

    assert world.looks == [1, 2]


def test_nobody_is_held_back_when_turns_are_to_end(world: World) -> None:
    """What was taken is the next one again, for whoever comes first."""
    world.send(start("a"), start("b"), start("c"))
    world.behind.append(world.waiting.end_turns)

    assert world.go_on() == 1

    assert world.left() == 2
    assert world.go_on() == 2
    assert world.handled == [start("a"), start("b"), start("c")]


@pytest.mark.parametrize("error", [UnreachableError("Redis", "redis://x", "gone"), SystemExit(), ValueError("a bug")])
def test_what_was_taken_by_a_message_that_fails_afterwards_is_put_back(world: World, error: BaseException) -> None:
    def fail() -> None:
        raise error

    world.send(start("a"), start("b"))
    world.behind.append(fail)

    if isinstance(error, UnreachableError):
        world.go_on()
    else:
        with pytest.raises(type(error)):
            world.go_on()

    assert world.handled == [start("a")]
    assert world.left() == 1


OTHERS = "celery"


@pytest.mark.parametrize("lane", [OTHERS, lane_of(OTHERS, 9)])
def test_a_turn_ends_when_something_waits_in_other_queues_of_the_worker(world: World, lane: str) -> None:
    """What was taken by then is done; the process is free for what Celery has of the app's other tasks."""
    world.consumed.set((CONTROL, WORK, OTHERS))
    taking = world.taking()
    world.send(*(start(f"t{number}") for number in range(10)))
    with redis.Redis.from_url(world.url) as client:
        world.behind += [lambda: None, lambda: client.lpush(lane, "something else")]

        assert taking.go_on() == 4, "the one whose commit looked, and what that took"
        assert taking.go_on() == 1, "it is looked at with the first"
        assert taking.go_on(taking.begin(start("delivered"))) == 1
        client.delete(lane)

    assert taking.go_on() == 4


def test_nothing_is_lost_where_others_queues_may_not_be_looked_at(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """What was taken beside that is put back, and no commit tries: Celery delivers each message."""
    world.send(start("a"))
    with redis.Redis.from_url(world.url) as client:
        client.acl_setuser(
            "limited", enabled=True, passwords=["+p"], categories=["+@all"], commands=["-exists"], keys="*"
        )
        try:
            world.lists = open_lists(world.url.replace("://", "://limited:p@"), 5)
            world.consumed.set((CONTROL, WORK, OTHERS))
            taking = world.taking()

            assert [taking.go_on(), taking.go_on()] == [0, 0]
            taking.begin(start("delivered"))
        finally:
            client.acl_deluser("limited")

    assert world.left() == 1
    assert world.handled == [start("delivered")]
    assert caplog.text.count("can't take messages itself") == 1


def test_where_other_queues_are_consumed_no_process_waits(world: World) -> None:
    """Celery could not hand it anything else meanwhile."""
    world.consumed.set((CONTROL, WORK, OTHERS))

    assert world.go_on() == 0
    assert world.asked == 1


def test_what_is_no_ledger_message_stays_first_in_line_for_celery(world: World) -> None:
    world.send(start("a"), "SubmitWorkflow", start("b"))

    assert world.go_on() == 1

    assert world.left() == 2
    assert world.lists.take([CONTROL]) is not None
    assert world.go_on() == 1


def test_one_message_is_taken_however_many_commits_there_are(world: World) -> None:
    """What would be taken beside it would wait for it, where others may have nothing to do."""
    world.send(start("a"), start("b"), start("c"))
    world.behind.append(world.commit)

    assert world.go_on() == 3

    assert world.handled == [start("a"), start("b"), start("c")]


def test_who_wants_nothing_takes_nothing(world: World) -> None:
    """Commits of code that runs elsewhere, or for nobody who takes messages, are as they were."""
    world.send(start("a"))

    world.commit()
    with taking_next(NextMessage(lambda: None)):
        world.commit()

        assert not has_next()
    assert world.left() == 1


# -- in the store ------------------------------------------------------------------------------------------------------


def committed(world: World, take: Take, *posts: Post) -> Take:
    with world.store.session(SLOT) as session:
        assert session.commit(Transaction([SetFields("x", {"n": 7})], posts=posts, take=take)) == [None]
    assert world.store.look(SLOT, [Hash("x")])[Hash("x")] == {"n": b"7"}
    return take


def test_a_commit_takes_what_has_been_there_for_longest(world: World) -> None:
    """Of the first list that has anything: also what it has just sent itself."""
    world.send(start("old"))

    assert committed(world, Take([WORK, CONTROL]), Post(CONTROL, ["mine"])).taken[0] == CONTROL  # type: ignore[index]
    assert committed(world, Take([WORK, CONTROL])).taken == (CONTROL, b"mine")
    assert committed(world, Take([WORK, CONTROL])).taken is None


def test_it_takes_from_the_brokers_database(world: World) -> None:
    with redis.Redis.from_url(f"{world.url.rsplit('/', 1)[0]}/1") as there:
        there.lpush(CONTROL, "elsewhere")

        assert committed(world, Take([CONTROL], (1, 0))).taken == (CONTROL, b"elsewhere")
        assert committed(world, Take([CONTROL], (1, 0)), Post(CONTROL, ["sent"], (1, 0))).taken == (CONTROL, b"sent")


def test_the_way_to_the_brokers_database_is_made_once(world: World) -> None:
    """However much a commit has to do there; what follows it is at home."""
    base = world.url.rsplit("/", 1)[0]
    with redis.Redis.from_url(f"{base}/3") as broker, world.store.session(SLOT) as session:
        broker.lpush("waits", "a")
        broker.config_resetstat()
        take, peek = Take(["sent"], (3, 0)), Peek(["waits", "sent"], (3, 0))
        posts = [Post("sent", ["one"], (3, 0)), Post("also", ["two"], (3, 0))]
        assert session.commit(Transaction([SetFields("x", {"n": 1})], posts=posts, take=take, peek=peek)) is not None
        stats: dict[str, dict[str, int]] = broker.info("commandstats")  # type: ignore[assignment]

        assert stats["cmdstat_select"]["calls"] == 2
        assert take.taken == ("sent", b"one")
        assert not peek.nothing_waits
        assert broker.lrange("also", 0, -1) == [b"two"]
        assert session.read([Hash("x")]).hash("x") == {"n": b"1"}


def test_a_look_tells_that_nothing_waits(world: World) -> None:
    """Of all lists that it was asked about; a look that was not made tells nothing."""
    with world.store.session(SLOT) as session:
        peek = Peek(["one", "two"])
        assert not peek.nothing_waits
        assert session.commit(Transaction([SetFields("x", {"n": 1})], peek=peek)) is not None

    assert peek.nothing_waits


def test_a_commit_that_is_lost_takes_nothing(world: World) -> None:
    world.send(start("a"))
    take = Take([CONTROL])
    with world.store.session(SLOT) as session, world.store.session(SLOT) as other:
        session.read([Hash("x")], ["x"])
        other.commit(Transaction([SetFields("x", {"n": 1})]))

        assert session.commit(Transaction([SetFields("x", {"n": 2})], take=take)) is None

    assert take.taken is None
    assert world.left() == 1


def test_a_key_that_is_no_list_is_no_reason_to_doubt_a_commit(world: World) -> None:
    with redis.Redis.from_url(world.url) as client:
        client.set(CONTROL, "no list")

    assert committed(world, Take([CONTROL])).taken is None


def test_what_is_read_ahead_again_has_a_session_of_its_own(world: World) -> None:
    """Where nobody took the message that the first commit of a delivery had sent, and a second commit asks again."""
    following = NextMessage(lambda: Take([CONTROL], (0, 0)), opening=lambda _: Read((Hash("x"),), ("x",)))
    with taking_next(following), ExitStack() as stack:
        sessions = Sessions(world.store, stack)
        for number in (1, 2):
            written = Transaction([SetFields("x", {"n": number})])
            assert sessions.commit_last(SLOT, written, [start("a")]) is not None

    found = following.head_start(start("a"))

    assert found is not None
    assert found.read((Hash("x"),), ("x",))[Hash("x")] == {"n": b"2"}
    found.close()
