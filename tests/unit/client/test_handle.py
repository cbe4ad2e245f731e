"""Acting on a workflow, and its history."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from stabilize_celery.client import WorkflowEvent, WorkflowHandle
from stabilize_celery.engine.places import DEFINITION
from stabilize_celery.engine.steps import SetFields, workflow_slot
from stabilize_celery.errors import RecoveryError, WorkflowNotFoundError
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.store.contract import Transaction
from tests.unit.client.world import World, gate, stage


def test_cancelling_takes_effect_once(world: World):
    """The first time has an effect; an ended workflow refuses and says how it ended."""
    handle = world.start(gate())

    first, second = handle.cancel("changed my mind"), handle.cancel("again")
    world.settle()

    assert first
    assert not second
    assert "CANCELED" in str(second)
    done = handle.get()
    assert (done.status, done.cancellation_reason) == (WorkflowStatus.CANCELED, "changed my mind")
    assert done.canceled_by


@pytest.mark.parametrize("width", [1, 1_000])
def test_a_restart_waits_for_no_worker_to_clear_what_was_cancelled(world: World, width: int):
    """Nothing handles a message meanwhile: what is still being cancelled is cleared by who restarts."""
    handle = world.start(gate(), *(gate(f"g{number}") for number in range(width)))
    handle.cancel("changed my mind")

    restarted = handle.restart("gate")

    assert restarted
    assert str(restarted) == "restarted 'gate'"
    world.settle()
    assert handle.get().stage_by_ref_id("gate").status is WorkflowStatus.SUSPENDED
    assert handle.get().stage_by_ref_id("g0").status is WorkflowStatus.CANCELED


def test_what_a_hand_in_redis_has_spoilt_is_told_in_words(world: World):
    """One typed error for whoever reads it, and what ends it; it can be cancelled all the same."""
    handle = world.start(gate(), stage("b", "gate"))
    with world.fleet.store.session(workflow_slot(handle.id)) as session:
        session.commit(Transaction([SetFields(DEFINITION, {"s:b": b"\x91\x01"})]))

    for read in (handle.get, handle.why):
        with pytest.raises(RecoveryError, match=f"can't be read.*stabilize-celery cancel {handle.id}"):
            read()
    assert handle.cancel("it can't be read")
    assert handle.status() is WorkflowStatus.CANCELED


def test_a_paused_workflow_is_paused_until_it_is_resumed(world: World):
    handle = world.start(gate(), stage("b", "gate"))

    assert handle.pause()
    handle.signal("gate", "approve")
    world.settle()
    assert handle.status() is WorkflowStatus.PAUSED
    assert handle.get().stage_by_ref_id("b").status is WorkflowStatus.NOT_STARTED
    assert handle.resume()
    world.settle()

    assert handle.status() is WorkflowStatus.SUCCEEDED
    assert not handle.resume()


def test_a_signal_carries_its_payload(world: World):
    handle = world.start(gate())

    assert handle.signal("gate", "approve", {"by": "ops"})
    world.settle()

    assert handle.get().stage_by_ref_id("gate").outputs["payload"] == {"by": "ops"}


def test_a_transient_signal_is_not_kept(world: World):
    """Nobody waits: a persistent signal is kept, a transient one is refused."""
    handle = world.start(gate("first", signal="go"), gate("second", "first"))

    assert not handle.signal("second", "approve", transient=True)
    assert handle.signal("second", "approve")
    handle.signal("first", "go")
    world.settle()

    assert handle.status() is WorkflowStatus.SUCCEEDED


def test_a_payload_that_is_no_json_is_the_callers_mistake(world: World):
    handle = world.start(gate())
    with pytest.raises(ValueError, match="payload"):
        handle.signal("gate", "approve", {"who": object()})


@pytest.mark.parametrize("instance", [-1, 2**31, 10**30])
def test_a_signal_for_what_is_no_instance_is_the_callers_mistake(world: World, instance: int):
    handle = world.start(gate())
    with pytest.raises(ValueError, match=f"there is no instance {instance}; give one from 0 to"):
        handle.signal("gate", "approve", instance=instance)


def test_a_signal_to_an_unknown_stage_is_refused_in_words(world: World):
    outcome = world.start(gate()).signal("gaet", "approve")

    assert not outcome
    assert "gaet" in outcome.told


def test_a_failed_stage_is_restarted(world: World):
    """Restarting runs the stage and what follows again; the rest keeps its results."""
    answers = iter([TaskResult.terminal(error="no"), TaskResult.success()])
    world = World(flaky=lambda stage: next(answers))
    handle = world.start(stage("a"), stage("b", "a", does="flaky"), stage("c", "b"))
    assert handle.status() is WorkflowStatus.TERMINAL

    assert handle.restart("b")
    world.settle()

    assert handle.status() is WorkflowStatus.SUCCEEDED
    assert not handle.restart("nowhere")


def test_a_stage_is_skipped_or_cancelled_from_outside(world: World):
    skipped, cancelled = world.start(gate(), stage("b", "gate")), world.start(gate(), stage("b"))

    assert skipped.skip_stage("gate")
    assert cancelled.cancel_stage("gate")
    world.settle()

    assert skipped.get().stage_by_ref_id("gate").status is WorkflowStatus.SKIPPED
    assert skipped.get().stage_by_ref_id("b").status is WorkflowStatus.SUCCEEDED
    assert cancelled.get().stage_by_ref_id("gate").status is WorkflowStatus.CANCELED
    assert not skipped.skip_stage("gate")


def test_the_history_is_told_in_order(world: World):
    """Each event is one line that names its stage; asked from an event on, what is behind it comes."""
    handle = world.start(stage("first"), stage("second", "first", mutex_key="crane"))

    events = list(handle.events())
    lines = [str(event) for event in events]

    assert [event.kind for event in events][:3] == ["workflow.created", "workflow.started", "stage.started"]
    assert any(line.endswith("workflow SUCCEEDED") for line in lines[-2:])
    assert any("second" in line and "crane" in line for line in lines)
    assert all("\n" not in line for line in lines)
    assert list(handle.events(from_id=events[2].id)) == events[3:]


def test_following_ends_with_the_workflow(world: World):
    """Live events end once the workflow has ended and its stages are cleared."""
    handle = world.start(gate())
    handle.cancel("enough")
    world.settle()

    kinds = [event.kind for event in handle.events(follow=True)]

    assert kinds[-1] == "stage.canceled"
    assert "workflow.canceled" in kinds


def test_an_event_of_a_newer_version_is_shown_as_it_is():
    """What this version has no sentence for is still one readable line."""
    event = WorkflowEvent("1-0", "stage.invented", "a", 0, {"what": "something\nnew", "thread": "t"})

    assert str(event).endswith("a                 stage.invented what=something new")


def test_an_event_without_its_data_is_still_a_line():
    assert WorkflowEvent("1-0", "stage.failed", "a", 0).told == "TERMINAL"


@pytest.mark.parametrize(
    ("name", "payload", "told"),
    [
        ("", None, "name of 0 characters; 1 to 255"),
        ("n" * 256, None, "name of 256 characters"),
        ("go", "x" * (4 * 1024 * 1024), "payload takes 4194309 bytes, at most 4194304"),
    ],
)
def test_a_signal_is_of_a_size_that_can_be_kept(world: World, name: str, payload: str | None, told: str):
    """It is kept until somebody waits for it, and so are a thousand of them."""
    handle = world.start(gate())

    with pytest.raises(ValueError, match=told):
        handle.signal("gate", name, payload)
    assert not [event for event in handle.events() if "got signal" in str(event)]


WRONG: dict[str, tuple[Callable[[WorkflowHandle], object], str]] = {
    "a reason in bytes": (lambda handle: handle.cancel(b"\xff"), "reason: expected text"),
    "a user in bytes": (lambda handle: handle.pause(user=b"\xff"), "user: expected text"),
    "a name in bytes": (lambda handle: handle.signal("gate", b"go"), "name must be text"),
    "a name in a list": (lambda handle: handle.signal("gate", ["go"]), "name must be text"),
    "half a surrogate pair": (lambda handle: handle.signal("gate", "\ud800"), "surrogate"),
    "half an instance": (lambda handle: handle.signal("gate", "no", instance=1.5), "whole number"),
    "true as an instance": (lambda handle: handle.signal("gate", "no", instance=True), "whole number"),
    "bytes in a context": (
        lambda handle: handle.add_instances("gate", 1, {"k": b"x"}),
        r"context\.k: object is not JSON",
    ),
    "a number as a key": (lambda handle: handle.add_instances("gate", 1, {5: 1}), "keys must be text"),
    "no number": (lambda handle: handle.add_instances("gate", 1, {"k": math.nan}), "number is not JSON"),
    "a list as a context": (lambda handle: handle.add_instances("gate", 1, ["k"]), "must be an object"),
    "a context of 5 MB": (lambda handle: handle.add_instances("gate", 1, {"k": "x" * 5_000_000}), "at most 4194304"),
    "half an instance more": (lambda handle: handle.add_instances("gate", 1.5), "whole number"),
    "true instances more": (lambda handle: handle.add_instances("gate", True), "whole number"),
    "a run by its name": (lambda handle: handle.add_instances("gate", 1, run="first"), "whole number"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_could_not_be_read_again_is_the_callers_mistake(world: World, name: str):
    """Nothing of it is written: the workflow can be looked at, signalled and ended as before."""
    ask, told = WRONG[name]
    handle = world.start(gate(mi_config=MultiInstanceConfig(count=1, allow_dynamic=True)))

    with pytest.raises((TypeError, ValueError), match=told):
        ask(handle)

    assert handle.why()
    assert handle.signal("gate", "approve")
    world.settle()
    assert handle.get().status is WorkflowStatus.SUCCEEDED


def test_of_a_reason_four_kilobytes_are_kept(world: World):
    """Whoever lists workflows reads it each time; half a character becomes a question mark."""
    handle = world.start(gate())

    assert handle.cancel("\ud800" + "x" * 1_000_000)

    reason = handle.get().cancellation_reason
    assert reason.startswith("?xxx")
    assert len(reason) <= 4_000


IMPOSSIBLE = ["", "a b", "a/b", "{x}", "x" * 201, "ix", "\ud800", "a\n"]
METHODS: dict[str, Callable[[WorkflowHandle], object]] = {
    "status": lambda handle: handle.status(),
    "get": lambda handle: handle.get(),
    "why": lambda handle: handle.why(),
    "wait": lambda handle: handle.wait(0),
    "result": lambda handle: handle.result(0),
    "events": lambda handle: list(handle.events()),
    "follow": lambda handle: list(handle.events(follow=True)),
    "cancel": lambda handle: handle.cancel(),
    "pause": lambda handle: handle.pause(),
    "resume": lambda handle: handle.resume(),
    "restart": lambda handle: handle.restart("a"),
    "signal": lambda handle: handle.signal("a", "go"),
    "skip_stage": lambda handle: handle.skip_stage("a"),
    "cancel_stage": lambda handle: handle.cancel_stage("a"),
    "choose": lambda handle: handle.choose("a"),
    "cancel_region": lambda handle: handle.cancel_region("a"),
    "complete_instances": lambda handle: handle.complete_instances("a"),
    "add_instances": lambda handle: handle.add_instances("a", 1),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_an_id_that_no_workflow_can_have_is_not_found(world: World, method: Callable[[WorkflowHandle], object]):
    """As one that no workflow has: whoever mistypes an id need not know how."""
    for workflow_id in (*IMPOSSIBLE, "nobody"):
        with pytest.raises(WorkflowNotFoundError, match="there is no workflow"):
            method(world.client.handle(workflow_id))


@pytest.mark.parametrize("workflow_id", [None, 5, b"x", ["x"]])
def test_an_id_that_is_no_text_is_a_mistake_of_the_program(world: World, workflow_id: Any):
    for ask in (world.client.handle, world.client.get):
        with pytest.raises(TypeError, match="a workflow's id must be text, not "):
            ask(workflow_id)


WITH_REF: dict[str, Callable[[WorkflowHandle, Any], object]] = {
    "restart": lambda handle, ref_id: handle.restart(ref_id),
    "signal": lambda handle, ref_id: handle.signal(ref_id, "go"),
    "skip_stage": lambda handle, ref_id: handle.skip_stage(ref_id),
    "cancel_stage": lambda handle, ref_id: handle.cancel_stage(ref_id),
    "choose": lambda handle, ref_id: handle.choose(ref_id),
    "cancel_region": lambda handle, ref_id: handle.cancel_region(ref_id),
    "complete_instances": lambda handle, ref_id: handle.complete_instances(ref_id),
    "add_instances": lambda handle, ref_id: handle.add_instances(ref_id, 1),
}


@pytest.mark.parametrize("method", WITH_REF.values(), ids=WITH_REF)
def test_a_name_that_is_no_text_is_a_mistake_of_the_program(world: World, method: Callable[..., object]):
    """It is told by what it should name; nothing happens to the workflow."""
    handle = world.start(gate())

    for ref_id in (5, None, ["gate"], b"gate"):
        with pytest.raises(TypeError, match=r"a (stage's ref_id|region's name) must be text, not "):
            method(handle, ref_id)
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        method(handle, "\ud800")

    assert handle.get().stage_by_ref_id("gate").status is WorkflowStatus.SUSPENDED


def test_times_and_places_to_wait_from_are_checked(world: World):
    handle = world.start(gate())

    for timeout in ("5", [5]):
        with pytest.raises(TypeError, match="timeout_s must be a number of seconds, or None"):
            handle.wait(timeout)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="5 is not the id of an event"):
        list(handle.events(5))  # type: ignore[arg-type]
