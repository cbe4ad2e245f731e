"""A lock covers all code that executes under it, wherever that is planned, and is given back by whatever ends it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from stabilize_celery.client.why.locks import all_locks
from stabilize_celery.engine import outside
from stabilize_celery.engine.restart import restart
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.enums import MutexScope
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.settings import Settings
from stabilize_celery.testing import Faults, Simulation
from tests.simulation.laws import Laws
from tests.simulation.lock_watch import LockWatch
from tests.simulation.nesting import AFTER, BEFORE, around
from tests.simulation.stalling import Stalled
from tests.simulation.stories import stage, workflow

PATIENT = Settings(lease_ms=3_600_000)
"""No body is given up while it runs."""
KEY: dict[str, Any] = {"mutex_key": "k"}
SECTION: dict[str, Any] = {"mutex_key": "k", "mutex_section": "section"}
TWO = MultiInstanceConfig(count=2)


class Dock:
    """Workflows that want key `k`. Body `slow` takes 20 s; what is set as `midst` happens once, 3 s after it began."""

    def __init__(self, seed: int = 0, settings: Settings = PATIENT, **tasks: Callable[[StageExecution], Any]) -> None:
        self.simulation = Simulation(seed, faults=Faults(die=0), settings=settings)
        self.watch, self.laws = LockWatch(self.simulation), Laws(self.simulation)
        self.midst: Callable[[], object] | None = None
        bodies = {"work": lambda _: TaskResult.success(), "slow": self.slow, **tasks}
        for name, body in bodies.items():
            self.simulation.registry.register(name, self.watch.watched(body))
        self.ids: list[str] = []
        self.begun: list[str] = []
        self.asked = 0

    def slow(self, stage: StageExecution) -> TaskResult:
        self.begun.append(stage.ref_id)
        self.simulation.meanwhile(3_000)
        if self.midst is not None:
            act, self.midst = self.midst, None
            act()
        self.simulation.meanwhile(17_000)
        return TaskResult.success()

    def start(self, *stages: StageExecution, **more: Any) -> str:
        self.ids.append(self.simulation.start(workflow(*stages, **more)))
        return self.ids[-1]

    def ask(self, event: Callable[..., Any], *arguments: Any, of: str = "") -> outside.Answer:
        self.asked += 1
        workflow_id, name = of or self.ids[0], f"e{self.asked}"
        answer: outside.Answer = self.simulation.ask(workflow_id, lambda: event(workflow_id, name, *arguments))
        return answer

    def run(self) -> "Dock":
        """To the end of all; then no law is broken, and every lock is free."""
        self.simulation.run(*self.ids)
        self.pass_time(3_700_000)
        assert self.watch.broken == []
        assert self.simulation.store.locks() == []
        for workflow_id in self.ids:
            self.laws.require_the_end(workflow_id)
        return self

    def pass_time(self, ms: int) -> None:
        self.simulation.drain(until_ms=self.simulation.now_ms + ms)

    def statuses(self, workflow_id: str) -> dict[str, str]:
        return {one.ref_id: one.status.name for one in self.simulation.read(workflow_id).stages}


def holder_with_instances(**more: Any) -> list[StageExecution]:
    return [stage("a", does="slow", mi_config=TWO, **KEY, **more)]


def holder_with(owner: Any) -> Callable[..., list[StageExecution]]:
    return lambda **more: around(stage("a", **KEY, **more), owner, stage("part", does="slow"))


def deep_holder(**more: Any) -> list[StageExecution]:
    """Instances of a stage before a stage before the holder."""
    outer = stage("a", **KEY, **more)
    middle = stage("middle")
    inner = stage("inner", does="slow", mi_config=TWO)
    around(outer, BEFORE, middle)
    around(middle, BEFORE, inner)
    return [outer, middle, inner]


def section_member(**more: Any) -> list[StageExecution]:
    return [stage("a", does="slow", **SECTION, **more), stage("b", "a", **SECTION)]


def section_with_parts(**more: Any) -> list[StageExecution]:
    """Instances and a stage before in the members of a section."""
    first = stage("a", does="slow", mi_config=TWO, **SECTION, **more)
    second = stage("b", **SECTION, **more)
    return [first, *around(second, BEFORE, stage("part", does="slow"))]


def section_of_parts(**more: Any) -> list[StageExecution]:
    """A section whose members are stages before and after a stage that is in none."""
    parts = (stage("first", does="slow", **SECTION), stage("second", does="slow", **SECTION))
    return around(stage("a", **more), BEFORE, *parts)


SHAPES = {
    "instances": holder_with_instances,
    "before": holder_with(BEFORE),
    "after": holder_with(AFTER),
    "deep": deep_holder,
    "section": section_member,
    "parts of a section": section_with_parts,
    "section of parts": section_of_parts,
}
ENDS: dict[str, Callable[[Dock], object]] = {
    "workflow": lambda dock: dock.ask(outside.cancel, "enough", "x"),
    "stage": lambda dock: dock.ask(outside.cancel_stage, "a"),
    "region": lambda dock: dock.ask(outside.cancel_region, "region"),
    "skip": lambda dock: dock.ask(outside.skip_stage, "a"),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("end", sorted(ENDS))
@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_code_that_still_executes_keeps_the_lock_of_its_run_or_section(shape: str, end: str, seed: int) -> None:
    """Cancelled or skipped in whatever way: who waits gets in when the last body under the lock has returned."""
    dock = Dock(seed)
    dock.start(*SHAPES[shape](cancel_region="region"))
    dock.midst = lambda: ENDS[end](dock)
    dock.simulation.after(1_000, lambda: dock.start(stage("next", does="slow", **KEY)))
    dock.run()

    assert "next" in dock.begun
    assert dock.statuses(dock.ids[1]) == {"next": "SUCCEEDED"}


LIMITED: dict[str, Any] = {
    "pipeline_config_id": "p",
    "is_limit_concurrent": True,
    "keep_waiting_pipelines": True,
    "max_concurrent_executions": 1,
}


def stage_with_parts(**more: Any) -> list[StageExecution]:
    return around(stage("a", "b", **more), BEFORE, stage("part", does="slow"))


WITHOUT_LOCK = {
    "stage": lambda **more: [stage("a", does="slow", **more)],
    "instances": lambda **more: [stage("a", does="slow", mi_config=TWO, **more)],
    "beside a lock": lambda **more: [stage("a", does="slow", **KEY, **more), stage("c", does="slow")],
    "nested": lambda **more: [stage("b"), *stage_with_parts(**more)],
}
FAILS = stage("fails", does="fail")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("end", [*sorted(ENDS), "failure", "late"])
@pytest.mark.parametrize("shape", sorted(WITHOUT_LOCK))
def test_code_that_still_executes_counts_for_the_limit_of_its_pipeline(shape: str, end: str, seed: int) -> None:
    """Whatever ended it: the next workflow of the pipeline begins when the last body has returned."""

    def fail(_: StageExecution) -> TaskResult:
        dock.simulation.meanwhile(5_000)
        return TaskResult.terminal("on purpose")

    dock = Dock(seed, fail=fail)
    stages = WITHOUT_LOCK[shape](cancel_region="region")
    if end == "late":
        stages[0].context["stageTimeoutMs"] = 5_000
    dock.start(*stages, *([FAILS] if end == "failure" else []), **LIMITED)
    if end in ENDS:
        dock.midst = lambda: ENDS[end](dock)
    dock.simulation.after(1_000, lambda: dock.start(stage("next", does="slow"), **LIMITED))
    dock.run()

    assert dock.statuses(dock.ids[1]) == {"next": "SUCCEEDED"}


def test_who_died_does_not_count_for_the_limit_of_its_pipeline() -> None:
    """A cancelled workflow whose worker is lost gives its slot back when the lease has run out."""
    dock = Dock(settings=Settings())
    dock.simulation.faults = Faults(die=1.0)
    first = dock.start(stage("a", does="slow"), **LIMITED)
    dock.pass_time(2_000)
    dock.simulation.faults = Faults.none()
    dock.ask(outside.cancel, "enough", "x", of=first)
    dock.start(stage("next"), **LIMITED)
    dock.pass_time(60_000)

    assert dock.statuses(dock.ids[1]) == {"next": "SUCCEEDED"}
    assert dock.simulation.store.locks() == []


def test_a_workflow_whose_code_still_runs_under_a_limit_is_not_restarted_yet() -> None:
    """It would be beside itself, or beside the next of its pipeline; when the code has returned it is."""
    dock = Dock()
    answers: list[outside.Answer] = []
    dock.start(stage("a", does="slow"), **LIMITED)

    def cut() -> None:
        dock.ask(outside.cancel, "enough", "x")
        dock.simulation.meanwhile(5_000)
        answers.append(dock.ask(restart, "a"))

    dock.midst = cut
    dock.run()
    answers.append(dock.ask(restart, "a"))
    dock.run()

    assert [answer.took_effect for answer in answers] == [False, True]
    assert "code still runs" in answers[0].told
    assert dock.statuses(dock.ids[0]) == {"a": "SUCCEEDED"}


@pytest.mark.parametrize("shape", ["instances", "before", "after", "deep", "parts of a section"])
def test_all_that_executes_under_a_lock_has_its_token(shape: str) -> None:
    """Instances, the stages before and after, and what is nested in them: the token of the lock that covers them."""
    dock = Dock()
    dock.start(*SHAPES[shape]())
    dock.start(stage("next", **KEY))
    dock.run()

    tokens = [token for ref_id, token in dock.watch.tokens if ref_id != "next"]
    assert tokens[0] is not None
    assert len(tokens) > 1
    assert set(tokens) == {tokens[0]}
    assert ("next", tokens[0]) not in dock.watch.tokens


def test_an_inner_lock_has_a_token_of_its_own() -> None:
    """A stage before the holder that holds another key: the innermost lock is the one that its body can be refused by."""
    dock = Dock()
    dock.start(*around(stage("a", **KEY), BEFORE, stage("part", mutex_key="other")))
    dock.run()

    inner, outer = dock.watch.tokens
    assert (inner[0], outer[0]) == ("part", "a")
    assert None not in (inner[1], outer[1])
    assert inner[1] != outer[1]


def test_loose_instances_are_inside_their_section() -> None:
    """Their thread has gone on and left the section; it ends when they do."""
    told: list[str] = []

    def instance(_: StageExecution) -> TaskResult:
        dock.simulation.meanwhile(20_000)
        told.append("an instance ends")
        return TaskResult.success()

    def begin(stage: StageExecution) -> TaskResult:
        told.append(f"{stage.ref_id} begins")
        return TaskResult.success()

    dock = Dock(instance=instance, begin=begin)
    loose = MultiInstanceConfig(count=2, sync_on_complete=False)
    dock.start(stage("a", does="instance", mi_config=loose, **SECTION), stage("z", "a", does="begin"))
    dock.simulation.after(1_000, lambda: dock.start(stage("next", does="begin", **KEY)))
    dock.run()

    assert told == ["z begins", "an instance ends", "an instance ends", "next begins"]


def test_sections_of_one_name_and_two_keys_are_two() -> None:
    """Each holds its own key: the name alone says nothing about who excludes whom."""
    dock = Dock()
    dock.start(stage("a", does="slow", **SECTION), stage("b", does="slow", mutex_key="other", mutex_section="section"))
    dock.simulation.after(1_000, lambda: dock.start(stage("next", does="slow", mutex_key="other")))
    dock.run()

    assert dock.statuses(dock.ids[1]) == {"next": "SUCCEEDED"}


def test_all_who_may_hold_a_lock_together_are_let_in_at_once() -> None:
    """However many there are: who gives it back reads only the first of the line."""
    holders: list[int] = []

    def together(_: StageExecution) -> TaskResult:
        dock.simulation.meanwhile(3_000)
        (lock,) = dock.simulation.store.calmly(dock.simulation.store.locks)
        holders.append(len(lock.holders))
        return TaskResult.success()

    dock = Dock(together=together)
    dock.start(stage("first", does="slow", **KEY))
    for _ in range(5):
        dock.simulation.after(1_000, lambda: dock.start(stage("next", does="together", mutex_limit=5, **KEY)))
    dock.run()

    assert len(holders) == 5
    assert max(holders) == 5


# -- what is given back ------------------------------------------------------------------------------------------------


def half_open_section(**more: Any) -> list[StageExecution]:
    """A section whose last member waits at its join for a branch from outside."""
    outside_it = stage("outside", does="approval", context={"signal": "go"})
    return [stage("a", **SECTION), outside_it, stage("b", "a", "outside", **SECTION), *more.get("others", [])]


CUTS: dict[str, Callable[[Dock], object]] = {
    "cancelled": lambda dock: dock.ask(outside.cancel, "enough", "x"),
    "failed": lambda dock: dock.ask(outside.signal, "gate", "go", None),
    "timed out": lambda dock: dock.pass_time(300_000),
    "its branch cancelled": lambda dock: dock.ask(outside.cancel_stage, "outside"),
}


@pytest.mark.parametrize("cut", sorted(CUTS))
def test_a_section_is_given_back_when_its_workflow_ends(cut: str) -> None:
    """However it ends, and at once: nobody has to wait for it, and no doctor finds it."""
    dock = Dock(fail=lambda _: TaskResult.terminal(error="meant to fail"))
    gate = stage("gate", does=["approval", "fail"], context={"signal": "go"})
    dock.start(*half_open_section(others=[gate]), timeout_ms=200_000)
    dock.pass_time(1_000)
    assert len(dock.simulation.store.locks()) == 1

    CUTS[cut](dock)
    dock.pass_time(60_000)

    assert dock.simulation.store.locks() == []


def test_a_section_is_given_back_when_a_stage_ends_the_workflow() -> None:
    """`terminates_workflow` leaves arrivals at the section's join behind."""
    dock = Dock()
    dock.start(*half_open_section(others=[stage("end", "a", terminates_workflow=True)]))
    dock.run()

    assert dock.statuses(dock.ids[0])["end"] == "SUCCEEDED"


@pytest.mark.parametrize("again", ["start", "a", "outside", "b"])
def test_a_section_that_is_restarted_ends_again(again: str) -> None:
    """Arrivals that the restart drops are not inside any more, those that it keeps are."""
    dock = Dock()
    dock.start(
        stage("start"),
        stage("a", "start", **SECTION),
        stage("outside", "start", does="approval", context={"signal": "go"}),
        stage("b", "a", "outside", **SECTION),
    )
    dock.pass_time(60_000)
    dock.ask(outside.signal, "outside", "go", None)
    dock.pass_time(60_000)
    dock.run()
    for _ in range(2):
        assert dock.ask(restart, again).took_effect
        dock.pass_time(60_000)
        dock.ask(outside.cancel, "in its midst", "x")
        dock.pass_time(60_000)
        assert dock.ask(restart, again).took_effect
        dock.ask(outside.signal, "outside", "go", None)
        dock.pass_time(60_000)
        dock.run()


def test_what_a_workflow_keeps_for_its_code_outlives_its_retention() -> None:
    """It is deleted when the code has returned: a lock whose holder has no record any more would be taken from it."""
    dock = Dock(settings=Settings(lease_ms=3_600_000, retention_ms=1_000))
    dock.start(stage("a", does="slow", **KEY))
    dock.midst = lambda: dock.ask(outside.cancel, "enough", "x")
    dock.simulation.after(1_000, lambda: dock.start(stage("next", does="slow", **KEY)))
    dock.simulation.run(*dock.ids)
    dock.pass_time(3_700_000)

    assert dock.begun == ["a", "next"]
    assert dock.watch.broken == []
    assert dock.simulation.store.locks() == []


@pytest.mark.parametrize("ending", [0, 1])
def test_instances_beyond_a_taken_away_stage_end_with_it(ending: int) -> None:
    """Instances of a stage before a stage that is cancelled: nothing of them lives on, not even who waits."""
    dock = Dock()
    waits = stage("part", does="approval", mi_config=TWO, context={"signal": "never"})
    dock.start(*around(stage("a", **KEY), BEFORE, waits))
    dock.pass_time(5_000)
    dock.ask(*[(outside.cancel_stage, "a"), (outside.skip_stage, "a")][ending])
    dock.run()

    assert dock.statuses(dock.ids[0])["part"] == "CANCELED"


# -- names -------------------------------------------------------------------------------------------------------------


def test_applications_and_keys_with_colons_do_not_share_a_lock() -> None:
    """Application `a:b` with key `c`, and application `a` with key `b:c`: two locks, each shown as it was written."""
    dock = Dock(wait=lambda _: TaskResult.suspend())
    for application, key in (("a:b", "c"), ("a", "b:c"), ("a%3Ab", "c")):
        gate = stage("gate", does="approval", mutex_key=key, mutex_scope=MutexScope.APPLICATION)
        dock.ids.append(dock.simulation.start(replace(workflow(gate), application=application)))
    dock.pass_time(60_000)

    assert [dock.statuses(workflow_id) for workflow_id in dock.ids] == [{"gate": "SUSPENDED"}] * 3
    shown = sorted((lock.scope, lock.within, lock.key) for lock in all_locks(dock.simulation.store))
    assert shown == [("APPLICATION", "a", "b:c"), ("APPLICATION", "a%3Ab", "c"), ("APPLICATION", "a:b", "c")]


# -- grants that come too late -----------------------------------------------------------------------------------------


def restarted(dock: Dock) -> None:
    dock.ask(outside.cancel, "enough", "x")
    dock.simulation.meanwhile(30_000)
    dock.ask(restart, "first")


LATE: dict[str, Callable[[Dock], object]] = {
    "stage cancelled": lambda dock: dock.ask(outside.cancel_stage, "a"),
    "stage skipped": lambda dock: dock.ask(outside.skip_stage, "a"),
    "workflow cancelled": lambda dock: dock.ask(outside.cancel, "enough", "x"),
    "restarted": restarted,
    "milestone gone": lambda dock: dock.ask(outside.cancel_stage, "open"),
    "expired": lambda dock: (dock.ask(outside.cancel, "enough", "x"), dock.simulation.meanwhile(60_000)),
}


@pytest.mark.parametrize("late", sorted(LATE))
@pytest.mark.parametrize("asks", ["run", "section"])
def test_a_grant_that_comes_after_its_request_was_over_is_given_back(asks: str, late: str) -> None:
    """The handler that asks stalls, its run goes, and all is given back; then it gets the lock: for nobody."""
    dock = Dock(settings=Settings(lease_ms=3_600_000, retention_ms=20_000 if late == "expired" else 86_400_000))
    dock.simulation.faults = Faults.none()
    key = KEY if asks == "run" else SECTION
    if late == "milestone gone":
        key = {**key, "milestone_ref_id": "open", "milestone_status": "RUNNING"}
    gate = stage("open", "first", does="approval", context={"signal": "go"})
    dock.start(stage("first"), gate, stage("a", "first", **key), stage("z", "open"))

    def meanwhile() -> None:
        LATE[late](dock)
        dock.simulation.meanwhile(30_000)

    stalled = Stalled(dock.simulation, lambda slot: slot.kind == "lock", meanwhile)
    dock.pass_time(200_000)
    assert stalled.has_happened
    assert dock.simulation.store.locks() == []

    started_ms = dock.simulation.now_ms
    dock.start(stage("next", **KEY))
    dock.simulation.run(dock.ids[1])
    assert dock.statuses(dock.ids[1]) == {"next": "SUCCEEDED"}
    assert dock.simulation.now_ms - started_ms < 5_000
    dock.pass_time(1_000)
    assert dock.simulation.store.locks() == []
