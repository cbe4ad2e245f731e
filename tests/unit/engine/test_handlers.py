"""Decisions of single handlers by hand: what they find too late, and what they put off."""

import pytest

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.endings import lock_name
from stabilize_celery.engine.handler import Rules
from stabilize_celery.engine.handlers import (
    cancel_sub_workflow,
    complete_stage,
    complete_sub_workflow,
    expire_workflow,
    leave_lock,
    resume_parked,
    settle_workflow,
    start_stage,
    start_sub_workflow,
    start_workflow,
    time_out,
)
from stabilize_celery.engine.state import RUN, SIGNALS, TaskState, Waiter
from stabilize_celery.engine.steps import Add, Remove, SetFields, workflow_slot
from stabilize_celery.models.messages import (
    CancelSubWorkflow,
    CompleteStage,
    CompleteSubWorkflow,
    ExpireWorkflow,
    LeaveLock,
    Message,
    NotifyParent,
    ResumeParked,
    SettleWorkflow,
    StartStage,
    StartSubWorkflow,
    StartWorkflow,
    TimeOut,
)
from tests.unit.engine.driving import NOW_MS, W, World, as_stored, kinds, owed_names, plan_of

RULES = Rules()


def world(message: Message, status: str = "RUNNING", **record: object) -> World:
    given = World().workflow(status, **record).meta().stage(plan_of("a", "shell"))
    return given.owed(message, nb=NOW_MS - 1_000)


@pytest.mark.parametrize(
    ("handling", "message", "run"),
    [
        (complete_stage.handle, CompleteStage(workflow_id=W, ref_id="a", thread="t"), {"status": "CANCELED"}),
        (start_stage.handle, StartStage(workflow_id=W, ref_id="a", thread="t"), {"status": "RUNNING"}),
        (
            start_sub_workflow.handle,
            StartSubWorkflow(workflow_id=W, ref_id="a", thread="t", child_id="w2"),
            {"status": "RUNNING", "child": "another"},
        ),
        (
            complete_sub_workflow.handle,
            CompleteSubWorkflow(workflow_id=W, ref_id="a", thread="t", child_id="w2"),
            {"status": "CANCELED", "child": "w2"},
        ),
        (time_out.handle, TimeOut(workflow_id=W, scope="stage", ref_id="a", thread="t"), {"status": "SUCCEEDED"}),
        (
            time_out.handle,
            TimeOut(workflow_id=W, scope="task", ref_id="a", thread="t", task_index=0),
            {"status": "RUNNING", "task_index": 1},
        ),
        (
            time_out.handle,
            TimeOut(workflow_id=W, scope="wait", ref_id="a", thread="t", task_index=0),
            {"status": "RUNNING"},
        ),
    ],
)
def test_what_comes_too_late_only_drops_its_entry(handling: object, message: Message, run: dict[str, object]) -> None:
    """The run has gone on: the message has nothing to say any more."""
    decision = world(message).run("t", **run).decide(handling(message, RULES, 0))  # type: ignore[operator]

    assert decision.is_empty
    assert not decision.keeps_entry
    assert decision.note


@pytest.mark.parametrize("there", ["", "RUNNING", "SUCCEEDED", "GONE"])
def test_an_inner_workflow_is_created_once(there: str) -> None:
    """Whoever created it may have died before the call was told: what is there, at work or given up, stays as it is."""
    message = StartSubWorkflow(workflow_id=W, ref_id="a", thread="t", child_id="w2")
    definition = {"name": "in", "stages": [{"ref_id": "i", "tasks": [{"name": "work", "implementing_class": "work"}]}]}
    calling = {"status": "RUNNING", "child": "w2", "child_call": {"definition": definition}}
    given = world(message).run("t", **calling)
    given.slots[workflow_slot(W)][places.DEFINITION]["definition"] = pack({"name": "out", "stages": []})
    if there:
        given.workflow(there, "w2")

    decision = given.decide(start_sub_workflow.handle(message, RULES, 0))

    assert [slot.name for slot, _ in given.commits] == ([] if there else ["w2"])
    assert (workflow_slot("w2"), places.WORKFLOW) in given.watched
    assert kinds(decision) == ["stage.called"]


def test_an_inner_workflow_that_has_not_ended_is_waited_for() -> None:
    """A forged or early message takes no result; one that is gone counts as cancelled."""
    message = CompleteSubWorkflow(workflow_id=W, ref_id="a", thread="t", child_id="w2")
    waiting = {"status": "RUNNING", "child": "w2", "tasks": [TaskState()]}

    early = world(message).run("t", **waiting).workflow("RUNNING", "w2")
    gone = world(message).run("t", **waiting).workflow("GONE", "w2")

    assert early.decide(complete_sub_workflow.handle(message, RULES, 0)).keeps_entry
    decision = gone.decide(complete_sub_workflow.handle(message, RULES, 0))
    assert owed_names(decision) == ["Run:t..0"]


def test_why_an_inner_workflow_failed_is_told_to_its_caller() -> None:
    """How it begins and how it ends, where what was at the bottom of it stands, however long it is."""
    message = CompleteSubWorkflow(workflow_id=W, ref_id="a", thread="t", child_id="w2")
    waiting = {"status": "RUNNING", "child": "w2", "tasks": [TaskState()]}
    long = f"stage 'i': {'x' * 100_000} card declined"
    failed = world(message).run("t", **waiting).workflow("TERMINAL", "w2", reason=long)

    decision = failed.decide(complete_sub_workflow.handle(message, RULES, 0))
    (sub,) = (change.fields["sub"] for change in decision.changes if "sub" in getattr(change, "fields", ()))
    reason = RUN.decode({"sub": sub}).sub.reason

    assert reason.startswith("stage 'i': xxx")
    assert reason.endswith("xxx card declined")
    assert len(reason) < 1_000


def test_a_workflow_that_was_restarted_is_not_expired() -> None:
    """Its retention begins anew when it ends again."""
    message = ExpireWorkflow(workflow_id=W)
    decision = world(message).decide(expire_workflow.handle(message, RULES, 0))

    assert decision.is_empty
    assert not decision.keeps_entry


@pytest.mark.parametrize(("kept", "stays"), [(1, True), (0, False)])
def test_a_workflow_that_keeps_a_lock_for_its_code_is_not_expired(kept: int, stays: bool) -> None:
    """Whoever waits for the lock asks it whether the code has returned."""
    message = ExpireWorkflow(workflow_id=W)
    given = World().workflow("SUCCEEDED").owed(message).put(places.COUNTERS, {"kept": b"%d" % kept})

    decision = given.decide(expire_workflow.handle(message, RULES, 0))

    assert (list(decision.defers) == ["Expire"]) is stays
    assert decision.keeps_entry
    assert ("a lock is kept" in decision.note) is stays


def test_a_workflow_whose_caller_is_not_told_of_its_end_is_not_expired() -> None:
    """Its caller asks it how it ended: it would wait for ever, or call it again."""
    message = ExpireWorkflow(workflow_id=W)
    given = World().workflow("SUCCEEDED", parent_id="w0").owed(NotifyParent(workflow_id=W)).owed(message)

    decision = given.decide(expire_workflow.handle(message, RULES, 0))

    assert (list(decision.defers), decision.keeps_entry) == (["Expire"], True)
    assert "caller" in decision.note


@pytest.mark.parametrize("caller", ["CANCELED", "GONE", ""])
def test_an_inner_workflow_is_cancelled_whatever_became_of_its_caller(caller: str) -> None:
    """Its retention may be over before a worker comes to it."""
    message = CancelSubWorkflow(workflow_id=W, thread="t", child_id="w2")
    given = World().workflow("RUNNING", "w2").owed(message)
    if caller:
        given.workflow(caller)

    decision = given.decide(cancel_sub_workflow.handle(message, RULES, 0))

    ((slot, written),) = given.commits
    assert (slot.name, owed_names(written), decision.keeps_entry) == ("w2", ["Clear"], False)


def test_a_workflow_with_a_key_leaves_its_name_behind() -> None:
    """So that the key still answers for as long as was promised."""
    message = ExpireWorkflow(workflow_id=W)
    given = World().workflow("GONE", key="order-1", retention_ms=500).owed(message)
    decision = given.decide(expire_workflow.handle(message, RULES, 0))

    (expiry,) = [change for change in decision.changes if type(change).__name__ == "Expire"]
    assert expiry.key == places.WORKFLOW
    assert expiry.ttl_ms == 500
    assert not decision.keeps_entry


def test_a_resume_brings_back_what_is_due_and_leaves_the_rest_its_time() -> None:
    """In batches; names whose entries are gone are forgotten; paused again, it stops."""
    message = ResumeParked(workflow_id=W)
    starts = [StartStage(workflow_id=W, ref_id="a", thread=f"t{at:03}") for at in range(201)]
    given = world(message).put(places.PARKED, {start.name for start in starts} | {"Start:gone"})
    for at, start in enumerate(starts):
        given.owed(start, nb=NOW_MS + 60_000 if at == 0 else 0)
    decision = given.decide(resume_parked.handle(message, RULES, 0))

    (removed,) = [change for change in decision.changes if isinstance(change, Remove)]
    assert len(removed.members) == 200
    assert decision.defers == {"Start:t000": NOW_MS + 60_000}
    assert message in decision.nudges
    assert decision.keeps_entry
    assert len(decision.nudges) == 198 + 1, "one of 200 is gone, one has a time of its own"

    assert not world(message).decide(resume_parked.handle(message, RULES, 0)).keeps_entry
    paused = world(message, "PAUSED").put(places.PARKED, {"Start:t000"})
    assert paused.decide(resume_parked.handle(message, RULES, 0)).is_empty


@pytest.mark.parametrize("scope", ["workflow", "stage"])
def test_a_deadline_that_comes_while_paused_is_parked(scope: str) -> None:
    """How long the pause takes is not known yet: resuming makes it due, and the deadline stands in the entry."""
    message = TimeOut(workflow_id=W, scope=scope, ref_id="a", thread="t")
    given = world(message, "PAUSED").run("t", status="RUNNING", started_ms=1)
    decision = given.decide(time_out.handle(message, RULES, 0))

    assert decision.changes == [Add(places.PARKED, (message.name,))]
    assert decision.parks == [message.name]
    assert decision.keeps_entry


@pytest.mark.parametrize("scope", ["workflow", "stage"])
def test_a_deadline_is_put_off_by_the_time_that_was_paused(scope: str) -> None:
    """Once: what has been taken into account is remembered."""
    message = TimeOut(workflow_id=W, scope=scope, ref_id="a", thread="t")
    run = {"status": "RUNNING", "started_ms": 1}

    late = world(message, paused_ms=60_000).run("t", **run)
    decision = late.decide(time_out.handle(message, RULES, 0))
    assert decision.defers == {message.name: NOW_MS - 1_000 + 60_000}

    again = world(message, paused_ms=60_000, paused_timed_ms=60_000).run("t", **run, paused_ms=60_000)
    assert not again.decide(time_out.handle(message, RULES, 0)).keeps_entry


def test_a_workflow_that_has_begun_does_not_begin_again() -> None:
    """A second grant of its slot changes nothing."""
    message = StartWorkflow(workflow_id=W)
    decision = world(message, "RUNNING").decide(start_workflow.handle(message, RULES, 0))

    assert decision.is_empty


def test_a_standstill_with_a_failure_that_was_put_off_ends_terminal() -> None:
    """With its reason; without one it has succeeded. While threads move nothing is said."""
    message = SettleWorkflow(workflow_id=W)
    for failures, status in (({}, "SUCCEEDED"), ({"a": b"it broke"}, "TERMINAL")):
        given = world(message).put(places.FAILURES, failures)
        decision = given.decide(settle_workflow.handle(message, RULES, 0))
        assert kinds(decision) == [f"workflow.{status.lower()}"]
        assert owed_names(decision) == ["Expire"]
    moving = world(message).put(places.COUNTERS, {"act": b"1"})
    assert moving.decide(settle_workflow.handle(message, RULES, 0)).is_empty


def test_a_standstill_is_not_the_end_while_parts_of_an_ended_run_are_there() -> None:
    """Whatever has left them: their end is owed, and who takes them away looks again."""
    message = SettleWorkflow(workflow_id=W)
    given = world(message).run("t", status="CANCELED", phase="before").put(places.LIVE, {"u"})
    given.run("u", ref="b", status="BUFFERED", held_for="a", parent="t")

    decision = given.decide(settle_workflow.handle(message, RULES, 0))

    assert (kinds(decision), owed_names(decision)) == ([], ["Continue:t"])


def test_a_lock_is_called_by_its_scope() -> None:
    """Everywhere, in one application, in one workflow."""
    names = {scope: lock_name(plan_of(mutex_key="k", mutex_scope=scope, application="app"), W) for scope in _SCOPES}

    assert names == {"GLOBAL": "GLOBAL:k", "APPLICATION": "APPLICATION:app:k", "WORKFLOW": f"WORKFLOW:{W}:k"}


_SCOPES = ("GLOBAL", "APPLICATION", "WORKFLOW")


@pytest.mark.parametrize(
    ("run", "gives_back"),
    [
        ({"status": "CANCELED"}, True),
        ({"status": "CANCELED", "code_runs": True}, False),
        ({"status": "RUNNING"}, False),
        ({"status": "CANCELED", "lock": "done"}, False),
    ],
)
def test_the_last_who_leaves_gives_a_lock_back_only_once_its_own_code_has_returned(
    run: dict[str, object], gives_back: bool
) -> None:
    """A before stage that was skipped may return after its stage's own task was cancelled and before that returns."""
    message = LeaveLock(workflow_id=W, ref_id="a", thread="t")
    given = world(message).run("t", **{"lock": "held", "request": 1, **run})

    decision = given.decide(leave_lock.handle(message, RULES, 0))

    assert owed_names(decision) == (["Unlock:t#1"] if gives_back else [])
    assert not decision.keeps_entry


@pytest.mark.parametrize("scope", ["stage", "task", "wait"])
def test_whose_deadline_has_passed_waits_for_no_signal_any_more(scope: str) -> None:
    """Who still waits there goes on waiting: the next signal is for it, and not for a run that has failed."""
    message = TimeOut(workflow_id=W, scope=scope, ref_id="a", thread="t", task_index=0)
    late, other = (Waiter("go", thread, None, 0, "shell", 0, number) for number, thread in enumerate(("t", "u")))
    run = {"status": "SUSPENDED", "started_ms": 1, "waits": "go", "tasks": [TaskState()], "phase": "tasks"}
    given = world(message).run("t", **run)
    given.put(places.signals("a"), as_stored(SIGNALS.encode(waiters=[late, other])))

    decision = given.decide(time_out.handle(message, RULES, 0))

    assert SetFields(places.signals("a"), {"waiters": pack([other])}) in decision.changes
    assert owed_names(decision) == ["Done:t"]
