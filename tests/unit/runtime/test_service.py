"""The runtime of one process: submissions, deliveries, tasks nobody knows, handlers that fail."""

from typing import Any, Self

import msgspec
import pytest

from stabilize_celery.engine import outside, places
from stabilize_celery.engine.registry import HANDLERS
from stabilize_celery.engine.state import ENTRY, Entry
from stabilize_celery.engine.steps import Hash, Members, SetFields, workflow_slot
from stabilize_celery.errors import (
    CommitConflictError,
    IdempotencyConflictError,
    UnreachableError,
    WorkflowNotFoundError,
)
from stabilize_celery.models.messages import MESSAGE_TYPES, StartStage
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.validation import InvalidWorkflowError
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime import recording
from stabilize_celery.runtime.claiming import UNKNOWN_HERE_MS
from stabilize_celery.runtime.ports import Body, Claim, Outgoing
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.settings import FUSED, PER_MESSAGE, Settings
from stabilize_celery.store.contract import Bury, Drop, Transaction
from stabilize_celery.store.memory import MemoryStore
from stabilize_celery.store.session import PackedSession
from stabilize_celery.tasks.builders import StageDefinitionBuilder
from stabilize_celery.tasks.options import TaskOptions
from stabilize_celery.tasks.registry import TaskRegistry
from tests.unit.runtime.world import START_MS, RecordingPublisher


def stage(ref_id: str, *after: str, does: str = "work", **more: Any) -> StageExecution:
    tasks = [TaskExecution.create(does, does)] if does else []
    return StageExecution(ref_id=ref_id, type="t", name=ref_id, requisite_stage_ref_ids=set(after), tasks=tasks, **more)


def workflow(*stages: StageExecution, **more: Any) -> Workflow:
    return Workflow(application="tests", name="orders", stages=list(stages), **more)


class Process:
    """One worker process with a store in memory; deliveries by hand."""

    def __init__(self, **settings: Any) -> None:
        self.now_ms = START_MS
        self.store = MemoryStore(lambda: self.now_ms * 1000, partitions=2)
        self.publisher = RecordingPublisher()
        self.registry = TaskRegistry()
        self.bodies: list[str] = []
        self.registry.register("work", self.work)
        self.runtime = Runtime(
            self.store, self.registry, self.publisher, Settings(**settings), "me", pause_ms=lambda _: None
        )

    def work(self, found: StageExecution) -> TaskResult:
        self.bodies.append(found.ref_id)
        return TaskResult.success()

    def deliver(self, message: Outgoing) -> str:
        return self.runtime.handle(msgspec.convert(dict(message.kwargs), MESSAGE_TYPES[message.kind]))

    def deliver_all(self) -> list[str]:
        """Deliver until nothing is published any more; return the notes."""
        notes: list[str] = []
        while batch := self.publisher.take():
            notes += [self.deliver(message) for message in batch]
        return notes

    def entry(self, workflow_id: str, name: str) -> Entry:
        key = Hash(places.ledger(name))
        return ENTRY.decode(self.store.look(workflow_slot(workflow_id), [key])[key])


def test_a_workflow_runs_by_its_messages_alone() -> None:
    """Submit, deliver what is published until nothing is."""
    process = Process()
    workflow_id = process.runtime.submit(workflow(stage("a"), stage("b", "a")))
    process.deliver_all()

    assert process.bodies == ["a", "b"]
    assert process.runtime.read(workflow_id).status.name == "SUCCEEDED"


def test_the_same_key_is_the_same_workflow() -> None:
    """Ids do not count; another definition under that key is an error that names it."""
    process = Process()
    first = process.runtime.submit(workflow(stage("a")), "order-1")
    again = process.runtime.submit(workflow(stage("a")), "order-1")

    assert first == again
    with pytest.raises(IdempotencyConflictError, match="'order-1'"):
        process.runtime.submit(workflow(stage("b")), "order-1")
    assert process.runtime.submit(workflow(stage("a")), "order-2") != first


def test_the_same_id_is_the_same_workflow() -> None:
    """A submission whose answer was lost may be repeated."""
    process = Process()
    made = workflow(stage("a"))

    assert process.runtime.submit(made) == process.runtime.submit(made) == made.id
    with pytest.raises(IdempotencyConflictError, match="workflow id"):
        process.runtime.submit({"stages": [{"ref_id": "x"}]}, workflow_id=made.id)
    assert process.runtime.submit({"stages": [{"ref_id": "x"}]}) != made.id


@pytest.mark.parametrize("key", ["", "x" * 10_000, "\ud800", 7])
def test_a_key_that_cannot_be_one_is_refused(key: Any) -> None:
    """It may have come over the wire."""
    with pytest.raises(InvalidWorkflowError, match="idempotency_key"):
        Process().runtime.submit(workflow(stage("a")), key)


def test_a_bad_definition_writes_nothing() -> None:
    """Every problem at once, and no trace of it."""
    process = Process()
    with pytest.raises(InvalidWorkflowError, match="duplicate"):
        process.runtime.submit(workflow(stage("a"), stage("a")))

    assert list(process.store._wire.scan("*w")) == []
    assert process.publisher.take() == []


def test_a_workflow_that_is_not_there_is_said_so() -> None:
    """By its id."""
    with pytest.raises(WorkflowNotFoundError, match="'nobody'"):
        Process().runtime.read("nobody")


def test_a_task_of_an_unknown_type_waits_and_says_so() -> None:
    """No live worker knows it: tried again in ten seconds, for ever. Another one does: at once, elsewhere."""
    process = Process()
    workflow_id = process.runtime.submit(workflow(stage("a", does="unheard")))
    process.deliver_all()
    (name,) = [f"Run:{thread}..0" for thread in _threads(process, workflow_id)]

    assert "no live worker knows the task type 'unheard'" in process.entry(workflow_id, name).parked
    assert process.entry(workflow_id, name).nb == process.now_ms + process.runtime.settings.unknown_task_ms

    process.now_ms += 10_000
    process.store.announce("other", {"types": "work\nunheard"})
    process.deliver(_again(process, workflow_id, name))
    assert "another one does" in process.entry(workflow_id, name).parked
    assert process.entry(workflow_id, name).nb == process.now_ms + UNKNOWN_HERE_MS

    process.now_ms += 1_000
    process.registry.register("unheard", process.work)
    process.deliver(_again(process, workflow_id, name))
    process.deliver_all()
    assert process.runtime.read(workflow_id).status.name == "SUCCEEDED"


def test_a_second_delivery_does_not_execute_a_body_that_is_at_work() -> None:
    """The claim stands in the ledger; a duplicate leaves it alone."""
    process = Process()
    notes: list[str] = []

    def reentrant(_found: StageExecution) -> TaskResult:
        notes.append(process.deliver(running[0]))
        return TaskResult.success()

    process.registry.register("reentrant", reentrant)
    workflow_id = process.runtime.submit(workflow(stage("a", does="reentrant")))
    process.deliver(process.publisher.take()[0])
    running = process.publisher.take("RunTask")
    process.deliver(running[0])
    process.deliver_all()

    (note,) = notes
    assert "claimed by me/" in note
    assert process.runtime.read(workflow_id).status.name == "SUCCEEDED"


def test_claims_are_made_known_while_the_body_runs() -> None:
    """So that somebody extends their leases; also where the body fails."""
    process = Process()
    told: list[tuple[str, Claim]] = []

    class Runner:
        is_stopping = True

        def began(self, claim: Claim, _body: Body) -> None:
            told.append(("began", claim))

        def ended(self, claim: Claim) -> None:
            told.append(("ended", claim))

    process.runtime.runner = Runner()
    process.registry.register("work", lambda _: TaskResult.terminal(error="x"))
    workflow_id = process.runtime.submit(workflow(stage("a")))
    process.deliver_all()

    (_, claim), (_, same) = told
    assert [what for what, _ in told] == ["began", "ended"]
    assert claim == same
    assert claim.workflow_id == workflow_id
    assert claim.owner.startswith("me/")


def test_something_that_changes_while_the_body_runs_is_read_again() -> None:
    """A pause in the midst: the result counts, and the next task is held back."""
    process = Process()
    process.registry.register("pausing", lambda found: _pause(process, found))
    workflow_id = process.runtime.submit(workflow(stage("a", does="pausing"), stage("b", "a")))
    process.deliver_all()

    found = process.runtime.read(workflow_id)
    assert found.status.name == "PAUSED"
    assert {each.ref_id: each.status.name for each in found.stages} == {"a": "SUCCEEDED", "b": "NOT_STARTED"}


def started_by_a_bug(process: Process, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Outgoing, str]:
    """Submit a workflow whose first message no handler can handle; return its id, that message and its name."""
    workflow_id = process.runtime.submit(workflow(stage("a")))
    (start,) = process.publisher.take()

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("our bug")
        yield

    monkeypatch.setitem(HANDLERS, StartStage, broken)
    return workflow_id, start, start.task_id.split("/", 1)[1]


def test_a_handler_that_raises_is_tried_again_later_and_then_a_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of ours never drops what is owed: it rests longer each time, is counted, and at last is buried, visibly."""
    process = Process(max_handler_tries=3)
    workflow_id, start, name = started_by_a_bug(process, monkeypatch)
    rests = []
    for _ in range(2):
        process.deliver(start)
        rests.append(process.entry(workflow_id, name).nb - process.now_ms)
        process.now_ms += rests[-1]
    note = process.deliver(start)

    assert rests == [2_000, 4_000]
    assert "dead letter" in note
    assert "our bug" in process.entry(workflow_id, name).error
    assert [letter.name for letter in process.store.dead_letters()] == [name]
    assert "nothing is owed" in process.runtime.handle(StartStage(workflow_id="w9", ref_id="a", thread="t"))


@pytest.mark.parametrize("mode", [PER_MESSAGE, FUSED])
def test_a_dead_letter_that_is_handled_all_the_same_is_none_any_more(mode: str) -> None:
    """A delivery that was under way when it was buried, by a worker that has no such bug."""
    process = Process(mode=mode)
    workflow_id = process.runtime.submit(workflow(stage("a")))
    (start,) = process.publisher.take()
    name = start.task_id.split("/", 1)[1]
    with process.store.session(workflow_slot(workflow_id)) as session:
        fields = ENTRY.encode(tries=3, error="their bug")
        session.commit(Transaction([SetFields(places.ledger(name), fields)], [Bury(name, process.now_ms)]))
    assert [letter.name for letter in process.store.dead_letters()] == [name]

    process.deliver(start)

    assert process.store.dead_letters() == []
    process.deliver_all()
    assert process.runtime.read(workflow_id).status.name == "SUCCEEDED"


def test_a_result_that_we_cannot_record_is_our_failure_and_no_loss_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim is given up with the count, so that losses of workers, which end a task for good, stay what they are."""
    process = Process()
    workflow_id = process.runtime.submit(workflow(stage("a")))
    process.deliver(process.publisher.take()[0])
    (run,) = process.publisher.take("RunTask")

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("our bug")

    with monkeypatch.context() as patch:
        patch.setattr(recording, "record", broken)
        note = process.deliver(run)
    entry = process.entry(workflow_id, run.task_id.split("/", 1)[1])
    assert (note, entry.own, entry.lost, entry.tries) == ("failed, try 1", "", 0, 1)
    assert "our bug" in entry.error

    process.now_ms = entry.nb
    process.deliver(run)
    process.deliver_all()
    assert process.runtime.read(workflow_id).status.name == "SUCCEEDED"
    assert process.bodies == ["a", "a"]


def test_a_result_that_we_cannot_record_leaves_the_claim_of_another_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own was reaped while the body ran: given up, the other's would be executed a third time."""
    process = Process()
    workflow_id = process.runtime.submit(workflow(stage("a")))
    process.deliver(process.publisher.take()[0])
    (run,) = process.publisher.take("RunTask")
    name = run.task_id.split("/", 1)[1]

    def broken(*_: Any) -> Any:
        with process.store.session(workflow_slot(workflow_id)) as session:
            session.commit(Transaction([SetFields(places.ledger(name), ENTRY.encode(own="other/7", att=2))]))
        raise ZeroDivisionError("our bug")

    monkeypatch.setattr(recording, "record", broken)

    assert process.deliver(run) == "failed, try 1"
    assert process.entry(workflow_id, name).own == "other/7"


def test_a_failure_of_what_another_has_done_meanwhile_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is owed no more is not counted: half an entry would be a dead letter that nobody can replay."""
    process = Process()
    workflow_id = process.runtime.submit(workflow(stage("a")))
    (start,) = process.publisher.take()
    name = start.task_id.split("/", 1)[1]

    class Faster(_Busy):
        def interfere(self) -> None:
            with process.store.session(workflow_slot(workflow_id)) as session:
                session.commit(Transaction(ledger=[Drop(name)]))

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("our bug")

    monkeypatch.setitem(HANDLERS, StartStage, broken)
    process.runtime.store = Faster(process.store, workflow_id)  # type: ignore[assignment]
    process.deliver(start)

    key = Hash(places.ledger(name))
    assert process.store.look(workflow_slot(workflow_id), [key])[key] == {}
    assert not any(process.store.first_due([0, 1], 10)[1].values())


@pytest.mark.parametrize(("most", "executions"), [(1, 0), (2, 1), (None, 1)])
def test_a_task_type_says_how_many_workers_it_may_cost(most: int | None, executions: int) -> None:
    """One that takes down its machine is given up sooner; without a word of its own the setting counts."""
    process = Process(max_lost=5)
    process.registry.register("work", process.work, options=TaskOptions(max_lost=most))
    workflow_id = process.runtime.submit(workflow(stage("a")))
    process.deliver(process.publisher.take()[0])
    (run,) = process.publisher.take("RunTask")
    name = run.task_id.split("/", 1)[1]
    with process.store.session(workflow_slot(workflow_id)) as session:
        session.commit(Transaction([SetFields(places.ledger(name), ENTRY.encode(lost=1))]))

    process.deliver(run)
    process.deliver_all()

    assert len(process.bodies) == executions
    assert process.runtime.read(workflow_id).status.name == ("SUCCEEDED" if executions else "TERMINAL")


def test_a_failure_is_counted_though_others_change_the_entry_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would be tried for ever, and no try be its last."""
    process = Process()
    workflow_id, start, name = started_by_a_bug(process, monkeypatch)
    reads: list[Any] = []
    read = PackedSession.read

    def watched_by_others_too(session: PackedSession, *asked: Any) -> Any:
        snapshot = read(session, *asked)
        reads.append(asked)
        if len(reads) == 1:
            with process.store.session(workflow_slot(workflow_id)) as other:
                other.commit(Transaction([SetFields(places.ledger(name), ENTRY.encode(pub=7))]))
        return snapshot

    monkeypatch.setattr(PackedSession, "read", watched_by_others_too)
    note = process.deliver(start)

    assert note == "failed, try 1"
    assert process.entry(workflow_id, name).tries == 1


def test_failures_of_ours_count_in_a_row() -> None:
    """A task that polls for weeks does not collect them until it is a dead letter."""
    process = Process()
    process.registry.register("poll", lambda _: TaskResult.running())
    workflow_id = process.runtime.submit(workflow(stage("a", does="poll")))
    process.deliver(process.publisher.take()[0])
    (run,) = process.publisher.take("RunTask")
    name = run.task_id.split("/", 1)[1]
    with process.store.session(workflow_slot(workflow_id)) as session:
        session.commit(Transaction([SetFields(places.ledger(name), ENTRY.encode(tries=9, error="once"))]))

    process.deliver(run)

    assert (process.entry(workflow_id, name).tries, process.entry(workflow_id, name).error) == (0, "")


def test_a_builder_that_cannot_look_at_the_workflow_is_asked_again() -> None:
    """Redis being away while it looks is no failure of the stage."""
    process = Process()

    class Planner(StageDefinitionBuilder):
        type = "planned"

        def build_tasks(self, stage: StageExecution) -> list[TaskExecution]:
            raise UnreachableError("redis is away", "redis://nowhere", "start it")

    process.registry.register_builder(Planner())
    workflow_id = process.runtime.submit(workflow(StageExecution(ref_id="a", type="planned")))
    with pytest.raises(UnreachableError):
        process.deliver(process.publisher.take()[0])

    assert process.runtime.read(workflow_id).status.name == "RUNNING"


def test_a_state_server_that_is_away_is_nobodys_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as no try: the message stays owed as it was."""
    process = Process()
    workflow_id = process.runtime.submit(workflow(stage("a")))
    (start,) = process.publisher.take()

    def away(*_: Any) -> Any:
        raise UnreachableError("redis is away", "redis://nowhere", "start it")
        yield

    monkeypatch.setitem(HANDLERS, StartStage, away)
    with pytest.raises(UnreachableError):
        process.deliver(start)

    assert process.entry(workflow_id, start.task_id.split("/", 1)[1]).tries == 0


def test_who_is_always_outrun_writes_nothing_and_says_so() -> None:
    """A claim, a result, an outside event: past the bound the message stays owed, and a caller is told."""
    process = Process(commit_tries=2)
    workflow_id = process.runtime.submit(workflow(stage("a")))
    process.deliver(process.publisher.take()[0])
    (run,) = process.publisher.take("RunTask")
    busy = _Busy(process.store, workflow_id)
    process.runtime.store = process.runtime.unit._store = busy  # type: ignore[assignment]

    assert "lost every claim" in process.deliver(run)
    answer = process.runtime.ask(workflow_id, lambda: outside.pause(workflow_id, "e", "x"))

    assert not answer.took_effect
    assert "too busy" in answer.told
    assert process.bodies == []


def test_who_is_always_outrun_starts_nothing_and_may_try_again() -> None:
    """It is not taken for a key that stands for something else."""
    process = Process(commit_tries=2)
    wanted = workflow(stage("a"))
    process.runtime.unit._store = _Busy(process.store, wanted.id)  # type: ignore[assignment]

    with pytest.raises(CommitConflictError, match="try again") as told:
        process.runtime.submit(wanted)

    assert told.value.retryable
    assert process.publisher.take() == []


class _Busy:
    """A store in which somebody else always commits first."""

    def __init__(self, store: MemoryStore, workflow_id: str) -> None:
        self._store, self._slot = store, workflow_slot(workflow_id)
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def session(self, slot: Any) -> Any:
        outer = self

        class Session:
            def __enter__(self) -> Self:
                self.inner = outer._store.session(slot)
                self.session = self.inner.__enter__()
                return self

            def __exit__(self, *raised: object) -> None:
                self.inner.__exit__(*raised)

            def read(self, queries: Any, watch: Any = ()) -> Any:
                return self.session.read(queries, watch)

            def commit(self, transaction: Transaction) -> Any:
                outer.interfere()
                return self.session.commit(transaction)

            def commit_and_read(self, transaction: Transaction, queries: Any, watch: Any = ()) -> Any:
                outer.interfere()
                return self.session.commit_and_read(transaction, queries, watch)

        return Session()

    def interfere(self) -> None:
        self._count += 1
        with self._store.session(self._slot) as session:
            session.commit(Transaction([SetFields(places.WORKFLOW, {"noise": self._count})]))


def _threads(process: Process, workflow_id: str) -> set[str]:
    live = Members(places.LIVE)
    found: set[str] = process.store.look(workflow_slot(workflow_id), [live])[live]
    return found


def _again(process: Process, workflow_id: str, name: str) -> Outgoing:
    thread = name.removeprefix("Run:").removesuffix("..0")
    kwargs = {"workflow_id": workflow_id, "ref_id": "a", "thread": thread, "task_index": 0, "task_type": "unheard"}
    return Outgoing("RunTask", f"{workflow_id}/{name}", kwargs, "q")


def _pause(process: Process, found: StageExecution) -> TaskResult:
    workflow_id = found.execution.id
    process.runtime.ask(workflow_id, lambda: outside.pause(workflow_id, "e", "x"))
    return TaskResult.success()
