"""The unit of work: conflicts decide again, a bounded number of times; what is owed is published once it is written."""

from collections.abc import Callable

import pytest

from stabilize_celery.engine import places
from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import (
    Commit,
    Decision,
    Event,
    Handling,
    Hash,
    Increment,
    Owed,
    Plan,
    Read,
    SetFields,
    workflow_slot,
)
from stabilize_celery.errors import QueueError
from stabilize_celery.models.limits import DEFAULT_PRIORITY
from stabilize_celery.models.messages import ClearWorkflow, EvaluateJoin, RunTask, StartStage
from stabilize_celery.runtime.lanes import lane_of
from stabilize_celery.runtime.unit import UnitOfWork
from stabilize_celery.store.contract import Transaction
from tests.unit.runtime.world import World

W = "w1"
SLOT, OTHER = workflow_slot(W), workflow_slot("w2")
START = StartStage(workflow_id=W, ref_id="a", thread="t")
JOIN = EvaluateJoin(workflow_id=W, ref_id="j")


class Working:
    """A unit of work over a store in memory; pauses between tries are written down."""

    def __init__(self, **settings: object) -> None:
        self.world = World(**settings)
        self.pauses: list[float] = []
        self.unit = UnitOfWork(
            self.world.store,
            self.world.publisher,
            self.world.settings,
            lambda plan: {"planned": plan.phase},
            self.pauses.append,
        )

    def write(self, key: str, slot=SLOT, **fields: str | int) -> None:
        """What somebody else does in the midst of it."""
        with self.world.store.session(slot) as session:
            assert session.commit(Transaction([SetFields(key, fields)])) is not None

    def hash(self, key: str, slot=SLOT) -> dict[str, bytes]:
        return self.world.store.look(slot, [Hash(key)]).hash(key)

    def published(self) -> list[str]:
        return [message.task_id for message in self.world.publisher.take()]


def deciding(decision: Decision, disturb: Callable[[], None] = lambda: None) -> Callable[[int], Handling]:
    def handle(_attempt: int) -> Handling:
        yield Read((Hash("k"),), ("k",))
        disturb()
        return decision

    return handle


def test_what_is_decided_is_written_and_what_is_owed_published() -> None:
    """Changes, ledger, events: one commit; then one batch."""
    work = Working()
    decision = Decision([SetFields("k", {"x": 1})], owes=[Owed(START)], events=[Event("told", "a", {"n": 1})])

    done = work.unit.run(SLOT, deciding(decision))

    assert (done.is_applied, done.tries, work.pauses) == (True, 1, [])
    assert work.hash("k") == {"x": b"1"}
    assert work.world.entry(W, "Start:t").t == "StartStage"
    assert work.published() == ["w1/Start:t"]
    assert [event.fields["kind"] for event in work.world.store.events(W, "0", None, 10)] == [b"told"]


def test_a_conflict_decides_again_after_a_pause() -> None:
    """The next try sees what the winner wrote."""
    work = Working()
    seen: list[dict[str, bytes]] = []

    def handle(attempt: int) -> Handling:
        snapshot = yield Read((Hash("k"),), ("k",))
        seen.append(snapshot.hash("k"))
        if attempt < 2:
            work.write("k", by=attempt)
        return Decision([SetFields("k", {"mine": attempt})])

    done = work.unit.run(SLOT, handle)

    assert (done.is_applied, done.tries) == (True, 3)
    assert seen == [{}, {"by": b"0"}, {"by": b"1"}]
    assert work.hash("k") == {"by": b"1", "mine": b"2"}
    assert len(work.pauses) == 2
    assert all(2 <= pause <= 80 for pause in work.pauses)


def test_past_the_bound_nothing_is_written_and_the_entry_stands() -> None:
    """The keeper brings it round again; nothing is published."""
    work = Working(commit_tries=3)
    work.world.owe(W, "Start:t")
    count = iter(range(10))
    decision = Decision([SetFields("x", {"never": 1})], owes=[Owed(JOIN)])

    done = work.unit.run(SLOT, deciding(decision, lambda: work.write("k", n=next(count))), "Start:t")

    assert (done.is_applied, done.decision.keeps_entry) == (False, True)
    assert work.hash("x") == {}
    assert work.world.entry(W, "Start:t").exists
    assert work.published() == []


def test_a_commit_on_the_way_does_not_end_what_is_watched() -> None:
    """A relay may post into its own slot (two runs of one workflow share a lock): its own reads stay WATCHed."""
    work = Working()
    rounds: list[int] = []

    def handle(attempt: int) -> Handling:
        rounds.append(attempt)
        yield Read((Hash("k"),), ("k",))
        yield Read((Hash("nudged"),), ("nudged",), SLOT)
        yield Commit(Decision([SetFields("nudged", {"by": attempt})]), SLOT)
        if attempt == 0:
            work.write("k", changed=1)
        return Decision([SetFields("k", {"decided": attempt})])

    work.unit.run(SLOT, handle)

    assert rounds == [0, 1]
    assert work.hash("k") == {"changed": b"1", "decided": b"1"}


def test_a_lost_commit_on_the_way_starts_the_handler_over() -> None:
    """In another slot, too: nothing of the own slot is written before."""
    work = Working()
    rounds: list[int] = []

    def handle(attempt: int) -> Handling:
        rounds.append(attempt)
        yield Read((), ("k",))
        yield Read((Hash("o"),), ("o",), OTHER)
        if attempt == 0:
            work.write("o", OTHER, raced=1)
        yield Commit(Decision([SetFields("o", {"by": attempt})], keeps_entry=True), OTHER)
        return Decision([SetFields("k", {"done": attempt})])

    work.unit.run(SLOT, handle)

    assert rounds == [0, 1]
    assert work.hash("o", OTHER) == {"raced": b"1", "by": b"1"}
    assert work.hash("k") == {"done": b"1"}


def test_the_own_entry_goes_with_the_decision_unless_it_is_kept() -> None:
    """Done and forgotten are one commit; a decision that keeps its entry and writes nothing costs no commit."""
    work = Working()
    for keeps in (True, False):
        work.world.owe(W, "Start:t")
        work.unit.run(SLOT, deciding(Decision(keeps_entry=keeps)), "Start:t")
        assert work.world.entry(W, "Start:t").exists is keeps
    assert work.unit.run(SLOT, deciding(Decision())).is_applied


def test_results_of_the_commit_say_what_is_published_at_once() -> None:
    """What is not published is only later: it is owed, and never was published."""
    work = Working()

    def decision() -> Decision:
        made = Decision()
        position = made.change(Increment("c", "n", 1))
        made.owes.append(Owed(JOIN, publish=lambda results: (results[position] or 0) >= 2))
        return made

    work.unit.run(SLOT, deciding(decision()))
    assert (work.published(), work.world.entry(W, "Eval:j").pub) == ([], 0)
    work.unit.run(SLOT, deciding(decision()))
    assert work.published() == ["w1/Eval:j"]


def test_what_is_owed_later_is_neither_published_nor_due_before() -> None:
    """Its time is in the entry and in `due`."""
    work = Working()
    at_ms = work.world.now_ms + 60_000
    work.unit.run(SLOT, deciding(Decision(owes=[Owed(START, at_ms)])))

    entry = work.world.entry(W, "Start:t")
    assert (entry.nb, entry.pub, work.world.due_in(W, "Start:t")) == (at_ms, 0, 60_000)
    assert work.published() == []


def test_a_merge_message_is_never_put_off_by_owing_it_again() -> None:
    """Whoever owes it later must not take away an earlier look."""
    work = Working()
    work.unit.run(SLOT, deciding(Decision(owes=[Owed(JOIN, publish=lambda _: False)])))
    first = work.world.due_in(W, "Eval:j")
    work.world.now_ms += 1_000
    work.unit.run(SLOT, deciding(Decision(owes=[Owed(JOIN, publish=lambda _: False)])))

    assert first is not None
    assert work.world.due_in(W, "Eval:j") == first - 1_000


def test_a_nudge_brings_an_entry_forward_and_a_deferral_puts_it_off() -> None:
    """Where a decision says both of one entry, the nudge wins."""
    work = Working()
    for name in ("Start:t", "Clear", "Eval:j"):
        work.world.owe(W, name, due_ms=work.world.now_ms + 300_000, nb=5)
    clear = ClearWorkflow(workflow_id=W)
    defers = {"Clear": work.world.now_ms + 9_000, "Eval:j": work.world.now_ms + 7_000}
    work.unit.run(SLOT, deciding(Decision(nudges=[START, clear], defers=defers, keeps_entry=True)))

    soon = work.world.settings.republish_ms
    assert [work.world.due_in(W, name) for name in ("Start:t", "Clear", "Eval:j")] == [soon, soon, 7_000]
    assert (work.world.entry(W, "Clear").nb, work.world.entry(W, "Clear").pub) == (0, work.world.now_ms)
    assert work.published() == ["w1/Start:t", "w1/Clear"]


def test_a_parked_entry_leaves_due_and_stays() -> None:
    """A resume finds it by its name."""
    work = Working()
    work.world.owe(W, "Start:t")
    work.unit.run(SLOT, deciding(Decision(parks=["Start:t"], keeps_entry=True)), "Start:t")

    assert work.world.due_in(W, "Start:t") is None
    assert work.world.entry(W, "Start:t").exists


def test_a_broker_that_is_away_is_the_keepers_business() -> None:
    """What was committed stands; nobody hears of the broker but the log."""
    work = Working()
    work.world.publisher.is_away = True

    assert work.unit.run(SLOT, deciding(Decision(owes=[Owed(START)]))).is_applied
    assert work.world.entry(W, "Start:t").exists
    with pytest.raises(QueueError):
        work.world.publisher.publish([])


def test_fields_and_queue_of_an_owed_message_reach_its_entry() -> None:
    """A task that was woken goes back to where it was, with the number of its attempts."""
    work = Working(task_queues={"gpu": "stabilize.gpu"})
    tasks = [RunTask(workflow_id=W, ref_id="a", thread=name, task_index=0, task_type="gpu") for name in ("t", "u")]
    owes = [Owed(tasks[0], fields=ENTRY.encode(att=4)), Owed(tasks[1], queue="elsewhere")]
    work.unit.run(SLOT, deciding(Decision(owes=owes)))

    gpu = lane_of("stabilize.gpu", DEFAULT_PRIORITY)
    assert (work.world.entry(W, "Run:t..0").att, work.world.entry(W, "Run:t..0").q) == (4, gpu)
    assert work.world.entry(W, "Run:u..0").q == "elsewhere"
    assert [message.queue for message in work.world.publisher.take()] == [gpu, "elsewhere"]


def test_a_handler_may_ask_for_plans() -> None:
    """Stage builders are user code; the unit of work passes the question on."""
    work = Working()
    answers: list[object] = []

    def handle(_attempt: int) -> Handling:
        yield Read((), (places.WORKFLOW,))
        answers.append((yield Plan("start", None)))
        return Decision()

    work.unit.run(SLOT, handle)

    assert answers == [{"planned": "start"}]
