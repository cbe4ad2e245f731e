"""What `why` says of a stage behind several branches: every kind of join, every state of its branches."""

import re
from itertools import combinations_with_replacement
from typing import Any

import pytest

from stabilize_celery.client import WorkflowHandle
from stabilize_celery.errors import TransientError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.enums import JoinMode, JoinType, SplitType
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from tests.unit.client.world import World, gate, stage, workflow

JOINS: dict[str, dict[str, Any]] = {
    "AND": {},
    "OR": {"join_type": JoinType.OR},
    "MULTI_MERGE": {"join_type": JoinType.MULTI_MERGE},
    "DISCRIMINATOR": {"join_type": JoinType.DISCRIMINATOR},
    "DISCRIMINATOR BLOCKING": {"join_type": JoinType.DISCRIMINATOR, "join_mode": JoinMode.BLOCKING},
    "DISCRIMINATOR CANCELLING": {"join_type": JoinType.DISCRIMINATOR, "join_mode": JoinMode.CANCELLING},
    "2 OF 3": {"join_type": JoinType.N_OF_M, "join_threshold": 2},
    "2 OF 3 BLOCKING": {"join_type": JoinType.N_OF_M, "join_threshold": 2, "join_mode": JoinMode.BLOCKING},
    "2 OF 3 CANCELLING": {"join_type": JoinType.N_OF_M, "join_threshold": 2, "join_mode": JoinMode.CANCELLING},
    "ALL OF 3": {"join_type": JoinType.N_OF_M},
}
NEEDED = {"AND": 3, "OR": 1, "MULTI_MERGE": 1, "DISCRIMINATOR": 1, "2 OF 3": 2, "ALL OF 3": 3}

ALIVE = ("asks", "later", "waits", "retries", "polls", "unserved")
DEAD = ("untaken", "beyond", "cancelled", "stopped", "withdrawn")


def refuse(_stage: StageExecution) -> TaskResult:
    raise TransientError("no answer", retry_after=60)


def world() -> World:
    tasks = {
        "poll": lambda stage: TaskResult.running(),
        "fail": lambda stage: TaskResult.terminal(error="no card"),
        "refuse": refuse,
    }
    return World(**tasks)


def branch(ref: str, state: str) -> list[StageExecution]:
    """The stages of a branch between `head` and the join; the last one has the branch's name."""
    if state == "asks":
        return [gate(ref, "head")]
    if state == "later":
        return [gate(f"pre_{ref}", "head"), stage(ref, f"pre_{ref}")]
    if state == "beyond":
        return [stage(f"pre_{ref}", "head"), stage(ref, f"pre_{ref}")]
    if state == "cancelled":
        return [gate(ref, "head")]
    if state == "withdrawn":
        group = {"deferred_choice_group": f"choice_{ref}"}
        return [stage(ref, "head", **group), gate(f"rival_{ref}", "head", **group)]
    does = {"waits": "work", "retries": "refuse", "polls": "poll", "unserved": "nobody", "stopped": "fail"}
    more: dict[str, Any] = {"mutex_key": "dock"} if state == "waits" else {}
    more |= {"context": {"failPipeline": False}} if state == "stopped" else {}
    return [stage(ref, "head", does=does.get(state, "work"), **more)]


def started(join: str, *states: str) -> WorkflowHandle:
    """A workflow that stands still with branches a, b, c of a join in these states, and a stage beside them."""
    there = world()
    branches = dict(zip("abc", states, strict=True))
    closed = {"untaken": "", "beyond": "pre_"}
    conditions = {f"{closed[state]}{ref}": "False" for ref, state in branches.items() if state in closed}
    split = {"split_type": SplitType.OR, "split_conditions": conditions} if conditions else {}
    if "waits" in states:
        there.start(gate("holder", mutex_key="dock"))
    stages = [one for ref, state in branches.items() for one in branch(ref, state)]
    handle = there.start(stage("head", **split), *stages, stage("join", *branches, **JOINS[join]), gate("beside"))
    for ref, state in branches.items():
        if state == "cancelled":
            assert handle.cancel_stage(ref)
        if state == "withdrawn":
            assert handle.choose(f"rival_{ref}")
    there.settle()
    return handle


def told(handle: WorkflowHandle, ref_id: str = "join") -> Any:
    found = [reason for reason in handle.why() if reason.ref_id == ref_id]
    assert len(found) <= 1
    return found[0] if found else None


def plain(text: str) -> str:
    """Times of day differ with the reader's time zone."""
    return re.sub(r"\d\d:\d\d:\d\d", "T", text)


NONE_OF_ALL = "can't start any more: it needs all of its branches"
NONE_OF_TWO = "can't start any more: it needs 2 of its branches"
CASES = [
    # AND: all of them.
    ("AND", "asks asks asks", "can't start before a, b, c"),
    ("AND", "came asks asks", "has 1 of 3 branches (a), still needs 2: b, c"),
    ("AND", "came asks later", "has 1 of 3 branches (a), still needs 2: b, c"),
    ("AND", "came came polls", "has 2 of 3 branches (a, b), still needs 1: c"),
    ("AND", "came untaken asks", f"{NONE_OF_ALL}; what a brought is given up; what c may still bring, too"),
    ("AND", "came came cancelled", f"{NONE_OF_ALL}; what a, b brought is given up"),
    ("AND", "came came stopped", f"{NONE_OF_ALL}; what a, b brought is given up"),
    ("AND", "asks untaken later", f"{NONE_OF_ALL}; what a, c may still bring is given up"),
    ("AND", "came came came", None),
    ("AND", "untaken cancelled stopped", None),
    # OR: those that come; it waits for each that can.
    ("OR", "asks asks asks", "has none of 3 branches; starts once a, b, c have come or can't any more"),
    ("OR", "came asks later", "has 1 of 3 branches (a); starts once b, c have come or can't any more"),
    ("OR", "came came asks", "has 2 of 3 branches (a, b); starts once c has come or can't any more"),
    ("OR", "came cancelled asks", "has 1 of 3 branches (a); starts once c has come or can't any more"),
    ("OR", "untaken cancelled asks", "can't start before c"),
    ("OR", "came untaken stopped", None),
    ("OR", "untaken cancelled stopped", None),
    # MULTI_MERGE: each by itself.
    ("MULTI_MERGE", "asks asks asks", "starts with each of a, b, c that comes"),
    ("MULTI_MERGE", "asks untaken later", "starts with each of a, c that comes"),
    ("MULTI_MERGE", "cancelled untaken later", "can't start before c"),
    ("MULTI_MERGE", "came asks asks", None),
    # DISCRIMINATOR: one suffices.
    ("DISCRIMINATOR", "asks asks asks", "starts with the first of a, b, c that comes"),
    ("DISCRIMINATOR", "untaken asks asks", "starts with the first of b, c that comes"),
    ("DISCRIMINATOR", "untaken asks stopped", "can't start before b"),
    ("DISCRIMINATOR", "came asks asks", None),
    ("DISCRIMINATOR BLOCKING", "asks asks asks", "starts with the first of a, b, c that comes"),
    ("DISCRIMINATOR CANCELLING", "asks asks asks", "starts with the first of a, b, c that comes"),
    # N_OF_M: how many are lacking, and from whom.
    ("2 OF 3", "asks asks asks", "has none of 2 branches that it needs, still needs 2 of a, b, c"),
    ("2 OF 3", "came asks asks", "has 1 of 2 branches that it needs (a), still needs 1 of b, c"),
    ("2 OF 3", "came untaken asks", "has 1 of 2 branches that it needs (a), still needs 1: c"),
    ("2 OF 3", "asks cancelled asks", "has none of 2 branches that it needs, still needs 2: a, c"),
    ("2 OF 3", "came untaken stopped", f"{NONE_OF_TWO}; what a brought is given up"),
    ("2 OF 3", "cancelled untaken asks", f"{NONE_OF_TWO}; what c may still bring is given up"),
    ("2 OF 3", "came came asks", None),
    ("2 OF 3 BLOCKING", "came asks asks", "has 1 of 2 branches that it needs (a), still needs 1 of b, c"),
    ("2 OF 3 CANCELLING", "came asks asks", "has 1 of 2 branches that it needs (a), still needs 1 of b, c"),
    ("ALL OF 3", "asks asks asks", "can't start before a, b, c"),
    ("ALL OF 3", "came asks asks", "has 1 of 3 branches (a), still needs 2: b, c"),
    ("ALL OF 3", "came cancelled asks", f"{NONE_OF_ALL}; what a brought is given up; what c may still bring, too"),
]


@pytest.mark.parametrize(("join", "states", "text"), CASES)
def test_what_a_join_has_and_needs(join: str, states: str, text: str | None):
    """Only branches that can still come are waited for; a join that has started, or has no branch left, says nothing."""
    reason = told(started(join, *states.split()))

    assert (reason.text if reason else None) == text


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("asks", "b waits for signal 'approve'"),
        ("later", "b comes after pre_b, which waits for signal 'approve'"),
        ("waits", "b waits for mutex 'dock'"),
        ("retries", "b continues at T"),
        ("polls", "b continues at T"),
        ("unserved", "b waits for a worker"),
    ],
)
@pytest.mark.parametrize("join", ["AND", "OR", "2 OF 3"])
def test_who_could_bring_a_branch(join: str, state: str, words: str):
    """What a branch that can still come is at: a person, a lock, a time, a worker."""
    reason = told(started(join, "came", state, "polls"))

    assert reason is not None
    assert plain(reason.detail) == f"{words}; c continues at T"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("untaken", "b was not reached: head went another way"),
        ("beyond", "b was not reached: head went another way than to pre_b"),
        ("cancelled", "b was cancelled: cancelled stage 'b' from outside"),
        ("stopped", "b failed (STOPPED): no card"),
        ("withdrawn", "b was withdrawn: 'rival_b' was chosen"),
    ],
)
@pytest.mark.parametrize("join", ["AND", "OR", "2 OF 3"])
def test_why_a_branch_comes_no_more(join: str, state: str, words: str):
    """A condition, a cancellation, a failure, another choice: each by its own name."""
    reason = told(started(join, "came", state, "asks"))

    assert reason is not None
    moves = "" if join == "AND" else "c waits for signal 'approve'. "
    assert reason.detail == f"{moves}No longer to come: {words}"


@pytest.mark.parametrize(
    "states", list(combinations_with_replacement(["came", "asks", "later", *DEAD[:4]], 3)), ids="-".join
)
@pytest.mark.parametrize("join", NEEDED)
def test_the_words_agree_with_what_can_happen(join: str, states: tuple[str, ...]):
    """What is said follows from how many have come and how many can, whatever the states."""
    handle = started(join, *states)
    came = states.count("came")
    alive = [ref for ref, state in zip("abc", states, strict=True) if state in ALIVE]
    reason, status = told(handle), handle.get().stage_by_ref_id("join").status

    if came + len(alive) < NEEDED[join]:
        assert status is WorkflowStatus.SKIPPED
        assert (reason.kind if reason else None) == (
            "join_closed" if (came or alive) and join != "MULTI_MERGE" else None
        )
    elif came >= NEEDED[join] and not (join == "OR" and alive):
        assert (status, reason) == (WorkflowStatus.SUCCEEDED, None)
    else:
        assert (status, reason.kind if reason else None) == (WorkflowStatus.NOT_STARTED, "join")
        assert reason is not None
        assert re.findall(r"\b[abc]\b", re.sub(r"\(.*?\)", "", reason.text)) == alive
        assert ("No longer to come" in reason.detail) == any(state in DEAD for state in states)


# -- threads, loops, cycles --------------------------------------------------------------------------------------------


def test_a_thread_merge_counts_threads():
    """Two of three threads have come; the third is still at the one requisite."""
    there = world()
    one = {"join_type": JoinType.MULTI_MERGE}
    ways = [stage("a"), stage("b"), gate("c")]
    handle = there.start(*ways, stage("way", "a", "b", "c", **one), stage("merge", "way", thread_merge=3))

    reason = told(handle, "merge")

    assert reason is not None
    assert reason.text == "has 2 of 3 threads that it merges, needs 1 thread more from way"
    assert reason.detail == "way comes after c, which waits for signal 'approve'"


def test_a_thread_merge_that_cannot_be_filled():
    there = world()
    ways = [stage("a"), gate("c")]
    way = stage("way", "a", "c", join_type=JoinType.MULTI_MERGE)
    handle = there.start(*ways, way, stage("merge", "way", thread_merge=2), gate("beside"))
    handle.cancel_stage("c")
    there.settle()

    reason = told(handle, "merge")

    assert reason is not None
    assert reason.text.startswith("can't start any more: it merges 2 threads, and so many can't come")


def back_once() -> World:
    """A world whose task `back` jumps to `head` the first time."""
    passes: list[str] = []

    def back(_stage: StageExecution) -> TaskResult:
        passes.append("x")
        return TaskResult.jump_to("head") if len(passes) == 1 else TaskResult.success()

    return World(back=back)


def test_a_join_that_has_fired_tells_what_it_needs_for_its_next_run():
    """In the second pass of a loop: what came in the first does not count any more."""
    there = back_once()
    join = stage("join", "a", "b", does="back", jump_targets=["head"])
    handle = there.start(stage("head"), stage("a", "head"), gate("b", "head"), join)
    assert told(handle).text == "has 1 of 2 branches (a), still needs 1: b"
    handle.signal("b", "approve")
    there.settle()

    assert told(handle).text == "to run again it has 1 of 2 branches (a), still needs 1: b"


@pytest.mark.parametrize("mode", [JoinMode.STRUCTURED, JoinMode.BLOCKING])
def test_a_branch_that_comes_again_waits_for_the_end_of_the_cycle(mode: JoinMode):
    """WCP-28: the second arrival of a branch is blocked until the discriminator resets."""
    there = back_once()
    kind = {"join_type": JoinType.DISCRIMINATOR, "join_mode": mode}
    join = stage("join", "a", "b", does="back", jump_targets=["head"], **kind)
    handle = there.start(stage("head"), stage("a", "head"), gate("b", "head"), join)

    reason = told(handle)

    assert reason.text == "to run again it waits until b has come or can't any more; a has come again"
    assert reason.detail == "b waits for signal 'approve'"


def test_what_has_come_before_does_not_come_again():
    """One branch lies before the loop: the join behind it can't have it twice."""
    there = back_once()
    again = stage("again", "head", does="back", jump_targets=["head"])
    join = stage("join", "once", "again", "head", join_type=JoinType.N_OF_M, join_threshold=2)
    handle = there.start(stage("once"), stage("head"), again, join, gate("beside"))

    assert told(handle) is None


def test_a_loop_that_may_come_round_is_not_another_way():
    """A stage behind the loop's exit is not reached yet: its requisite runs again."""
    passes: list[str] = []

    def check(_stage: StageExecution) -> TaskResult:
        passes.append("x")
        return TaskResult.jump_to("head") if len(passes) == 1 else TaskResult.success()

    there = World(check=check)
    handle = there.start(
        gate("head"), stage("check", "head", does="check", jump_targets=["head"]), stage("out", "check")
    )
    assert str(told(handle, "out")) == "out: can't start before check"
    handle.signal("head", "approve")
    there.settle()

    assert str(told(handle, "out")) == "out: can't start before check runs again, and comes this way"


def test_a_stage_that_only_a_jump_can_reach():
    """Its requisite went another way; whoever may still jump to it is named."""
    there = world()
    head = stage("head", split_type=SplitType.XOR, split_conditions={"left": "True", "rescue": "False"})
    handle = there.start(head, gate("left", "head", jump_targets=["rescue"]), stage("rescue", "head"))

    assert str(told(handle, "rescue")) == "rescue: starts only if left jumps to it"


def test_a_join_whose_judgement_is_owed():
    """All has come, and no worker has looked at the join yet: that is what it waits for."""
    there = world()
    handle = there.client.start(workflow(stage("a"), stage("b"), stage("join", "a", "b")))
    there.announce("work")
    seen = set()
    while (reason := told(handle)) is not None and there.fleet.step():
        seen.add(reason.text)

    assert any(text.startswith("all that its join needs has come; the join is ") for text in seen)


def test_many_branches_are_counted_not_listed():
    """Five by name, three of them with what they are at."""
    there = world()
    handle = there.start(*(gate(f"g{n}") for n in range(20)), stage("join", *(f"g{n}" for n in range(20))))

    reason = told(handle)

    assert reason.text == "can't start before g0, g1, g10, g11, g12 and 15 more"
    assert reason.detail.count("waits for signal") == 3


def test_several_runs_of_a_stage_are_told_together():
    """Three threads in one stage: what they wait for, counted."""
    there = world()
    handle = there.start(stage("head", thread_split=3), gate("ask", "head"))

    reason = told(handle, "ask")

    assert reason.kind == "signal"
    assert reason.text == "3 runs are under way; 3 of them: waits for signal 'approve'"
