"""Bad and hostile input, on the real engine: one clear error, nothing written, nothing lost."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest

from stabilize_celery.client import Client
from stabilize_celery.engine import places
from stabilize_celery.engine.steps import Hash, SetFields, workflow_slot
from stabilize_celery.errors import IdempotencyConflictError, TransientError
from stabilize_celery.models.limits import MAX_DEFINITION_BYTES
from stabilize_celery.models.messages import LEDGER_VERSION, CompleteStage, FinalizeStage, RunTask, StartStage
from stabilize_celery.models.problems import InvalidWorkflowError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.runtime.reading import read_view
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Transaction
from stabilize_celery.testing import Simulation
from tests.hostile import HOSTILE_NAMES
from tests.simulation.stories import stage, workflow

TOO_DEEP: list[Any] = []
for _ in range(70):
    TOO_DEEP = [TOO_DEEP]
ITSELF: dict[str, Any] = {}
ITSELF["children"] = [{"parent": ITSELF} for _ in range(10)]


class _Untellable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")

    __repr__ = __str__


class World:
    """A simulated fleet, and its client."""

    def __init__(self, **tasks: Any) -> None:
        self.ran: list[str] = []
        known = {"work": self._work, **tasks}
        self.fleet = Simulation(0, known, settings=Settings(max_output_bytes=10_000))
        self.client = Client(settings=self.fleet.settings, store=self.fleet.store, publisher=self.fleet)

    def _work(self, stage: StageExecution) -> TaskResult:
        self.ran.append(stage.ref_id)
        return TaskResult.success(outputs={stage.ref_id: 1})

    def run(self, *stages: StageExecution) -> str:
        handle = self.client.start(workflow(*stages))
        self.fleet.run(handle.id)
        return handle.id

    def status(self, workflow_id: str) -> str:
        return self.fleet.read(workflow_id).status.name

    def why(self, workflow_id: str) -> str:
        return "\n".join(map(str, self.client.handle(workflow_id).why()))

    def entry(self, workflow_id: str, name: str) -> dict[str, bytes]:
        key = Hash(places.ledger(name))
        return self.fleet.store.look(workflow_slot(workflow_id), (key,)).hash(key.key)

    def rewrite(self, workflow_id: str, name: str, **fields: Any) -> None:
        """Write into a ledger entry, as another version would."""
        with self.fleet.store.session(workflow_slot(workflow_id)) as session:
            session.commit(Transaction([SetFields(places.ledger(name), fields)]))

    def nothing_is_written(self) -> bool:
        _, due = self.fleet.store.first_due(range(self.fleet.store.partitions()), 1)
        return not self.client.list().items and not any(due.values())


def defined(*stages: Any, **more: Any) -> dict[str, Any]:
    return {"application": "tests", "name": "bad", "stages": list(stages), **more}


def does(ref_id: str, *after: str, **more: Any) -> dict[str, Any]:
    tasks = [{"name": "work", "implementing_class": "work"}]
    return {"ref_id": ref_id, "type": "x", "name": "x", "requisite_stage_ref_ids": list(after), "tasks": tasks, **more}


def having(value: Any) -> dict[str, Any]:
    return defined(does("a", context={"key": value}))


def when(expression: str) -> dict[str, Any]:
    return defined(does("a", context={"stageEnabled": {"type": "expression", "expression": expression}}))


MOST_CALLS = 2_500_000
"""About a second of work: what has no end is looked at up to the largest number of parts (count)."""


@contextmanager
def counted_calls() -> Iterator[Iterator[int]]:
    """Count the function calls inside; what is given tells how many there were so far."""
    calls = count()
    sys.setprofile(lambda _, event, __: next(calls) if event.endswith("call") else None)
    try:
        yield calls
    finally:
        sys.setprofile(None)


REFUSED: dict[str, tuple[Any, list[str]]] = {
    "everything at once": (
        defined(does("a"), does("a"), does("b", "nowhere"), does("c", "d"), does("d", "c"), does("e", "bb")),
        ["stages[1].ref_id: duplicate", "'nowhere'", "cycle", "did you mean 'b'?"],
    ),
    "a threshold out of range": (
        defined(does("a"), does("b", "a", join_type="N_OF_M", join_threshold=7)),
        ["stages[1].join_threshold", "7"],
    ),
    "an object": (having(print), ["stages[0].context.key", "builtin_function_or_method"]),
    "not a number": (having(math.nan), ["stages[0].context.key", "nan"]),
    "infinity": (having(-math.inf), ["stages[0].context.key", "inf"]),
    "bytes": (having(b"raw"), ["stages[0].context.key", "bytes"]),
    "a set": (having({1}), ["stages[0].context.key", "sorted list"]),
    "keys that are no text": (having({1: "x"}), ["stages[0].context.key", "keys must be text"]),
    "a number beyond 64 bits": (having(10**30), ["stages[0].context.key", "64 bits"]),
    "half a surrogate pair": (having("\ud800"), ["stages[0].context.key", "surrogate"]),
    "half a surrogate pair in names": (
        defined(does("\ud800"), name="\ud800", tasks=5),
        ["stages[0].ref_id: text is not JSON", "name: text is not JSON", "tasks: unknown field"],
    ),
    "a time beyond 64 bits": (defined(does("a", scheduled_time=10**30)), ["stages[0].scheduled_time", "above"]),
    "a deadline beyond 64 bits": (defined(does("a"), timeout_ms=10**30), ["timeout_ms", "above"]),
    "a time-out that is none": (
        defined(does("a", context={"stageTimeoutMs": 2**60})),
        ["stageTimeoutMs", "milliseconds"],
    ),
    "very many threads": (defined(does("a", thread_split=10**9)), ["stages[0].thread_split", "above"]),
    "a key that can't be shown": (having({_Untellable(): 1}), ["stages[0].context.key", "_Untellable"]),
    "too deep": (having(TOO_DEEP), ["stages[0].context.key", "deeper"]),
    "a circle": (having(ITSELF), ["stages[0].context.key.children[0].parent", "contains itself"]),
    "too large": (having("x" * (MAX_DEFINITION_BYTES + 1)), ["bytes", "by reference"]),
    "nothing": (None, ["refused"]),
    "text": ("none", ["refused"]),
    "a number": (5, ["refused"]),
    "a list": ([], ["refused"]),
    "an empty object": ({}, ["stages"]),
    "stages that are text": ({"stages": "none"}, ["stages"]),
    "a stage that is a number": (defined(5), ["stages[0]"]),
    "a task that is text": (defined({**does("a"), "tasks": ["rm"]}), ["stages[0].tasks[0]"]),
    "an unknown field": (defined(does("a", contxt={})), ["stages[0].contxt", "did you mean 'context'?"]),
    "a field of the engine": (defined(does("a", status="SUCCEEDED")), ["stages[0].status", "the engine sets it"]),
    "a name too long": (defined(does("r" * 201)), ["stages[0].ref_id", "201"]),
    "an empty name": (defined(does("")), ["stages[0].ref_id", "empty"]),
    "a call": (when("__import__('os').system('true')"), ["stageEnabled", "not allowed"]),
    "an attribute": (when("n.__class__"), ["stageEnabled", "Attribute"]),
    "a lambda": (when("(lambda: 1)"), ["stageEnabled", "Lambda"]),
    "a comprehension": (when("[n for n in range(9)]"), ["stageEnabled", "not allowed"]),
    "a power": (when("9 ** 9 ** 9"), ["stageEnabled", "Pow"]),
    "no expression": (when("1 +"), ["stageEnabled", "parse"]),
    "an expression with a NUL": (when("1\x00"), ["stageEnabled", "parse"]),
    "an expression too long": (when("1 + " * 1_001 + "1"), ["stageEnabled", "at most 4000"]),
    "an expression too deep": (when("(" * 500 + "1" + ")" * 500), ["stageEnabled", "parse"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_definition_is_refused_whole(name: str) -> None:
    """One error with every problem and its path, soon; nothing is written."""
    definition, wanted = REFUSED[name]
    world = World()

    with counted_calls() as calls, pytest.raises(InvalidWorkflowError) as caught:
        world.client.start(definition)

    told = str(caught.value)
    assert [words for words in wanted if words not in told] == []
    assert next(calls) < MOST_CALLS
    assert world.nothing_is_written()


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("'%0999999999d' % 1 == ''", "numbers"),
        ("'x' * 999999999 == ''", "numbers"),
        ("[0] * 999999999 == []", "numbers"),
        ("missing > 1", "unknown name 'missing'"),
        ("1 / 0", "ZeroDivisionError"),
        ("key['deep']['deeper']", "expression"),
        ("key < 5", "TypeError"),
        ("not " * 900 + "1", "RecursionError"),
    ],
)
def test_an_expression_that_goes_wrong_fails_its_stage(expression: str, told: str) -> None:
    """Closed, at once, and with the reason: the stage is TERMINAL and its task does not run."""
    world = World()
    switch = {"stageEnabled": {"type": "expression", "expression": expression}, "key": {}}

    workflow_id = world.run(stage("a", context=switch))

    assert world.status(workflow_id) == "TERMINAL"
    assert told in world.why(workflow_id)
    assert world.ran == []


def test_any_name_is_only_a_name() -> None:
    """Braces, colons, slashes, NUL, names of the engine's own keys: each stage runs once, and data goes by that name."""
    world = World()
    branches = [stage(name) for name in HOSTILE_NAMES]

    workflow_id = world.run(*branches, stage("the end", *HOSTILE_NAMES, context={"n": 1}))

    done = world.fleet.read(workflow_id)
    assert done.status is WorkflowStatus.SUCCEEDED
    assert sorted(world.ran) == sorted([*HOSTILE_NAMES, "the end"])
    assert done.get_context().keys() >= set(HOSTILE_NAMES)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_any_name_serves_as_a_mutex(name: str) -> None:
    """Of two stages with the same key, in two workflows."""
    world = World()
    ids = [world.run(stage("a", mutex_key=name)) for _ in range(2)]

    assert {world.status(workflow_id) for workflow_id in ids} == {"SUCCEEDED"}


def test_a_join_named_like_its_workflow_is_not_its_first_stage() -> None:
    """Names of threads say what causes them: a text is not a number, however it is written."""
    world = World()
    stages = [stage("1"), stage("b"), stage("same", "1", "b")]
    handle = world.client.start(workflow(*stages, id="same"))
    world.fleet.run(handle.id)

    assert world.status("same") == "SUCCEEDED"
    assert sorted(world.ran) == ["1", "b", "same"]


def _raising(error: BaseException) -> Callable[[StageExecution], TaskResult]:
    def task(stage: StageExecution) -> TaskResult:
        raise error

    return task


def _answering(answer: Any) -> Callable[[StageExecution], TaskResult]:
    return lambda stage: answer


def _endless(stage: StageExecution) -> TaskResult:
    return _endless(stage)


ANSWERS: dict[str, tuple[Callable[[StageExecution], Any], str]] = {
    "an object among the outputs": (_answering(TaskResult.success({"handle": object()})), "outputs.handle"),
    "not a number": (_answering(TaskResult.success({"n": math.nan})), "outputs.n"),
    "half a surrogate pair": (_answering(TaskResult.success({"n": "\ud800"})), "outputs.n"),
    "half a surrogate pair as a key": (_answering(TaskResult.success({"\ud800": 1})), "outputs"),
    "keys that are no text": (_answering(TaskResult.success({5: 1})), "keys must be text"),  # type: ignore[dict-item]
    "too deep": (_answering(TaskResult.success({"n": TOO_DEEP})), "deeper"),
    "a circle": (_answering(TaskResult.success({"n": ITSELF})), "contains itself"),
    "outputs too large": (_answering(TaskResult.success({"small": 1, "big": "x" * 20_000})), "outputs.big"),
    "a context too large": (_answering(TaskResult.running({"big": "x" * 20_000})), "context.big"),
    "no result": (_answering(5), "int"),
    "a status that is none of a task's": (_answering(TaskResult(WorkflowStatus.BUFFERED)), "BUFFERED"),
    "a jump to nowhere": (_answering(TaskResult.jump_to("nowhere")), "'nowhere'"),
    "a jump to half a surrogate pair": (_answering(TaskResult.jump_to("\ud800")), "stored"),
    "an exception": (_raising(ValueError("what?")), "ValueError: what?"),
    "an exception with half a surrogate pair": (_raising(ValueError("\ud800")), "ValueError: ?"),
    "an exception of a megabyte": (_raising(ValueError("x" * 1_000_000)), "TRUNCATED"),
    "an exception that can't be told": (_raising(_Untellable()), "_Untellable"),
    "a pause that is no number": (_raising(TransientError("later", retry_after=math.nan)), "TransientError"),
    "sys.exit": (_raising(SystemExit("\ud800")), "sys.exit"),
    "an endless recursion": (_endless, "RecursionError"),
    "an error of a megabyte": (_answering(TaskResult.terminal("y" * 9_000)), "yyy"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_bad_answer_is_the_failure_of_its_stage(name: str) -> None:
    """TERMINAL with a reason that names it; nothing of the answer is kept, and the next workflow runs."""
    task, told = ANSWERS[name]
    world = World(bad=task)

    workflow_id = world.run(stage("a", does="bad"), stage("b", "a"))

    assert world.status(workflow_id) == "TERMINAL"
    assert told in world.why(workflow_id)
    assert len(world.why(workflow_id)) < 15_000
    failed = world.fleet.read(workflow_id).stage_by_ref_id("a")
    assert failed is not None
    assert failed.outputs == {}
    assert world.ran == []
    assert world.status(world.run(stage("good"))) == "SUCCEEDED"


def test_a_pause_beyond_all_times_is_a_long_pause() -> None:
    """What is due must be a time: ten years later the task is tried again."""
    world = World(bad=_raising(TransientError("later", retry_after=1e20)))
    began_us = world.fleet.now_us

    workflow_id = world.run(stage("a", does="bad"))

    assert "given up after 10 tries" in world.why(workflow_id)
    assert world.fleet.now_us - began_us > 80 * 365 * 24 * 3_600_000_000


def test_the_same_key_for_another_definition_is_refused_by_its_name() -> None:
    """The first workflow goes on untouched."""
    world = World()
    first = world.client.start(workflow(stage("a")), idempotency_key="order-17")

    again = world.client.start(workflow(stage("a")), idempotency_key="order-17")
    with pytest.raises(IdempotencyConflictError, match="order-17"):
        world.client.start(workflow(stage("a"), stage("b", "a")), idempotency_key="order-17")

    world.fleet.run(first.id)
    assert again.id == first.id
    assert world.ran == ["a"]


@pytest.mark.parametrize("key", [5, 1.5, b"raw", ["list"], {}, "", "x" * 1_001, "\ud800"])
def test_a_key_that_is_no_text_is_refused(key: Any) -> None:
    """Naming the argument; nothing is written."""
    world = World()

    with pytest.raises(InvalidWorkflowError, match="idempotency_key"):
        world.client.start(workflow(stage("a")), idempotency_key=key)

    assert world.nothing_is_written()


@pytest.mark.parametrize("key", ["\x00", "{a}", "a/b:c\n", "é" * 1_000, "__proto__"])
def test_any_text_is_a_key(key: str) -> None:
    """However it is written."""
    world = World()
    first, second = (world.client.start(workflow(stage("a")), idempotency_key=key) for _ in range(2))

    assert first.id == second.id


def _thread(world: World, workflow_id: str) -> str:
    _, due = world.fleet.store.first_due(range(world.fleet.store.partitions()), 10)
    (name,) = [e.name for found in due.values() for e in found if e.workflow_id == workflow_id]
    return name.partition(":")[2]


def test_a_newer_version_of_a_message_is_parked_shown_and_not_lost() -> None:
    """It rests for longer each time, is never a dead letter, and a worker that knows the version takes it."""
    world = World()
    workflow_id = world.client.start(workflow(stage("a"))).id
    name = f"Start:{_thread(world, workflow_id)}"
    world.rewrite(workflow_id, name, v=LEDGER_VERSION + 98, new_field="kept")

    world.fleet.drain(until_ms=world.fleet.now_us // 1000 + 3_600_000)

    entry = world.entry(workflow_id, name)
    assert (world.ran, world.status(workflow_id)) == ([], "RUNNING")
    assert f"version {LEDGER_VERSION + 98}" in world.why(workflow_id)
    assert (entry["new_field"], entry.get("tries")) == (b"kept", None)
    assert 12 <= int(entry["rests"]) <= 20
    world.rewrite(workflow_id, name, v=LEDGER_VERSION)
    world.fleet.drain(until_ms=world.fleet.now_us // 1000 + 301_000)
    assert (world.ran, world.status(workflow_id)) == (["a"], "SUCCEEDED")


def test_an_unknown_type_under_a_known_name_is_parked_and_shown() -> None:
    """In `why` and among the dead letters, as what it is: a message for a newer worker."""
    world = World()
    workflow_id = world.client.start(workflow(stage("a"))).id
    name = f"Start:{_thread(world, workflow_id)}"
    world.rewrite(workflow_id, name, t="BeginStage")

    note = world.fleet.runtime.handle(StartStage(workflow_id=workflow_id, ref_id="a", thread=name[6:]))

    assert "BeginStage" in note
    assert "BeginStage" in world.why(workflow_id)
    world.rewrite(workflow_id, name, t="StartStage")
    world.fleet.run(workflow_id)
    assert world.status(workflow_id) == "SUCCEEDED"


def test_a_delivery_that_says_other_than_the_ledger_changes_nothing() -> None:
    """Another stage, another task type: what is owed is what was written, whatever a message claims."""
    dangerous: list[str] = []
    world = World(dangerous=lambda stage: dangerous.append(stage.ref_id))
    workflow_id = world.client.start(workflow(stage("a"), stage("b", "a"))).id
    thread = _thread(world, workflow_id)
    handle = world.fleet.runtime.handle
    real = RunTask(workflow_id=workflow_id, ref_id="a", thread=thread, task_index=0, task_type="work")
    notes = [handle(StartStage(workflow_id=workflow_id, ref_id=ref, thread=thread)) for ref in ("b", "nowhere", "")]
    handle(StartStage(workflow_id=workflow_id, ref_id="a", thread=thread))
    notes += [
        handle(RunTask(workflow_id=workflow_id, ref_id="a", thread=thread, task_index=0, task_type="dangerous")),
        handle(RunTask(workflow_id=workflow_id, ref_id="nowhere", thread=thread, task_index=0, task_type="work")),
    ]
    idle = [
        handle(RunTask(workflow_id=workflow_id, ref_id="a", thread=thread, task_index=9, task_type="work")),
        handle(CompleteStage(workflow_id=workflow_id, ref_id="a", thread=thread)),
        handle(FinalizeStage(workflow_id=workflow_id, ref_id="a", thread=thread)),
        handle(StartStage(workflow_id="nobody", ref_id="a", thread="x")),
    ]

    assert set(notes) == {"not the message that is owed under this name"}
    assert set(idle) == {"duplicate: nothing is owed under this name"}
    assert "tries" not in world.entry(workflow_id, real.name)
    world.fleet.run(workflow_id)
    assert (world.status(workflow_id), world.ran, dangerous) == ("SUCCEEDED", ["a", "b"], [])


def test_a_finalizer_runs_for_what_is_owed_only() -> None:
    """A late duplicate, or a message that somebody made up, calls nobody's code."""
    world = World()
    called: list[str] = []
    world.fleet.registry.finalizers.register("tidy", lambda stage: called.append(stage.ref_id))
    workflow_id = world.run(stage("a", finalizer_names=["tidy"]))
    world.fleet.drain(until_ms=world.fleet.now_us // 1000 + 5_000)
    ((thread, _),) = read_view(world.fleet.store, workflow_id).stages["a"].runs

    note = world.fleet.runtime.handle(FinalizeStage(workflow_id=workflow_id, ref_id="a", thread=thread))

    assert (called, "duplicate" in note) == (["a"], True)
