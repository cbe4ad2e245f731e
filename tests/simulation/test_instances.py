"""Multiple instances of a stage (wcp 1.11)."""

from typing import Any

import pytest

from stabilize_celery.engine import outside
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.tasks.call import current_call
from tests.simulation.stories import ROUGH, Story, stage

SEEDS = range(12)


def many(
    ref: str, *after: str, does: str = "work", context: dict[str, Any] | None = None, **config: Any
) -> StageExecution:
    return stage(ref, *after, does=does, context=context or {}, mi_config=MultiInstanceConfig(**config))


@pytest.mark.parametrize("seed", SEEDS)
def test_all_instances_are_done_before_the_next_stage(seed: int) -> None:
    """WCP-13: a fixed number; outputs are collected in order."""

    def number(stage: StageExecution) -> TaskResult:
        return TaskResult.success(outputs={"n": stage.context["instance_index"] * 10})

    story = Story(seed, ROUGH, number=number).start(many("m", does="number", count=4), stage("z", "m")).run()

    assert story.status == "SUCCEEDED"
    assert story.outputs("m") == {"n": [0, 10, 20, 30]}
    assert len(story.events("instance.completed")) == 4
    assert story.events("stage.started").count("z") == 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("value", "status"), [(3, "SUCCEEDED"), (0, "SUCCEEDED"), (-1, "TERMINAL"), (True, "TERMINAL"), ("x", "TERMINAL")]
)
def test_the_number_may_come_from_an_earlier_stage(seed: int, value: object, status: str) -> None:
    """WCP-14: zero is fine, nonsense fails."""
    story = (
        Story(seed, ROUGH)
        .start(stage("a", context={"outputs": {"n": value}}), many("m", "a", count_from_context="n"), stage("z", "m"))
        .run()
    )

    assert story.status == status
    assert len(story.events("instance.started")) == (3 if value == 3 else 0)


@pytest.mark.parametrize(
    ("value", "config", "told"),
    [
        (10**9, {"count_from_context": "n"}, "count_from_context: 'n' is 1000000000"),
        ([0] * 100_001, {"collection_from_context": "n"}, "collection_from_context: 'n' has 100001 items"),
    ],
)
def test_more_instances_than_a_worker_could_hold_fail_the_stage(value: object, config: Any, told: str) -> None:
    """A number is quickly said: whoever begins the stage would run out of memory, and whoever tries it next."""
    story = (
        Story(0).start(stage("a", context={"outputs": {"n": value}}), many("m", "a", **config), stage("z", "m")).run()
    )

    assert story.status == "TERMINAL"
    assert not story.events("instance.started")
    (ended,) = (
        one for one in story.simulation.store.events(story.id, "0", None, 100) if b"terminal" in one.fields["kind"]
    )
    assert f"{told}; a run has at most 100000 instances".encode() in ended.fields["data"]


@pytest.mark.parametrize("seed", SEEDS)
def test_one_instance_per_item_of_a_collection(seed: int) -> None:
    """Each sees its item and its index."""
    seen: set[tuple[int, str]] = set()

    def look(stage: StageExecution) -> TaskResult:
        assert current_call().instance_index == stage.context["instance_index"]
        seen.add((stage.context["instance_index"], stage.context["instance_item"]))
        return TaskResult.success()

    story = (
        Story(seed, ROUGH, look=look)
        .start(
            stage("a", context={"outputs": {"files": ["x", "y", "z"]}}),
            many("m", "a", does="look", collection_from_context="files"),
        )
        .run()
    )

    assert story.status == "SUCCEEDED"
    assert seen == {(0, "x"), (1, "y"), (2, "z")}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("cancels", [True, False])
def test_the_thread_goes_on_after_enough_instances(seed: int, cancels: bool) -> None:
    """WCP-34, WCP-35: two of four; the rest is cancelled, or runs on without effect."""

    def some(stage: StageExecution) -> TaskResult:
        waits = stage.context["instance_index"] > 1 and current_call().signal is None
        return TaskResult.suspend() if waits else TaskResult.success()

    story = (
        Story(seed, ROUGH, some=some)
        .start(
            many("m", does="some", context={"signal": "go"}, count=4, join_threshold=2, cancel_remaining=cancels),
            stage("z", "m"),
        )
        .run()
    )

    assert story.bodies["z"] >= 1
    if cancels:
        assert story.status == "SUCCEEDED"
        assert len(story.events("instance.canceled")) == 2
    else:
        assert story.status == "RUNNING"
        for _ in range(2):
            story.ask(outside.signal, "m", "go", None)
        story.run()
        assert story.status == "SUCCEEDED"
        assert story.events("stage.completed").count("z") == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_waits_for_loose_instances_but_the_workflow(seed: int) -> None:
    """WCP-12."""
    story = (
        Story(seed, ROUGH)
        .start(many("m", does="approval", context={"signal": "go"}, count=2, sync_on_complete=False), stage("z", "m"))
        .run()
    )
    assert (story.status, story.statuses["z"]) == ("RUNNING", "SUCCEEDED")

    for _ in range(2):
        story.ask(outside.signal, "m", "go", None)
    story.run()

    assert story.status == "SUCCEEDED"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_failing_instance_ends_the_run_and_cancels_the_others(seed: int) -> None:
    """TERMINAL by default; with continuePipelineOnFailure it counts as done."""

    def third(stage: StageExecution) -> TaskResult:
        if stage.context["instance_index"] == 2:
            return TaskResult.terminal("no")
        return TaskResult.suspend() if not stage.context.get("continuePipelineOnFailure") else TaskResult.success()

    story = Story(seed, ROUGH, third=third).start(many("m", does="third", count=4), stage("z", "m")).run()
    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)
    kept = (
        Story(seed, ROUGH, third=third)
        .start(many("m", does="third", count=4, context={"continuePipelineOnFailure": True}), stage("z", "m"))
        .run()
    )

    assert (story.status, story.statuses) == ("TERMINAL", {"m": "TERMINAL", "z": "SKIPPED"})
    assert len(story.events("instance.canceled")) == 3
    assert kept.statuses == {"m": "FAILED_CONTINUE", "z": "SUCCEEDED"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_condition_decides_when_enough_are_done(seed: int) -> None:
    """WCP-36."""
    story = (
        Story(seed, ROUGH)
        .start(many("m", count=5, completion_condition="completed >= 3", cancel_remaining=True), stage("z", "m"))
        .run()
    )

    assert story.status == "SUCCEEDED"
    assert 3 <= len(story.events("instance.completed")) <= 5


@pytest.mark.parametrize("seed", SEEDS)
def test_only_so_many_instances_are_at_work_at_once(seed: int) -> None:
    """max_concurrent: the next begins when one has ended."""
    at_work: list[int] = []
    story = Story(seed, ROUGH)

    def count(stage: StageExecution) -> TaskResult:
        started, ended = story.events("instance.started"), story.events("instance.completed")
        at_work.append(len(started) - len(ended))
        return TaskResult.success()

    story.simulation.registry.register("count", count)
    story.start(many("m", does="count", count=6, max_concurrent=2), stage("z", "m")).run()

    assert story.status == "SUCCEEDED"
    assert max(at_work) <= 2
    assert len(story.events("instance.completed")) == 6


def test_instances_without_tasks_are_done_at_once() -> None:
    """Nothing to do, nothing to wait for."""
    empty = StageExecution(ref_id="m", type="test", name="m", mi_config=MultiInstanceConfig(count=3))
    story = Story().start(empty, stage("z", "m")).run()

    assert story.status == "SUCCEEDED"


def test_cancelling_the_workflow_takes_instances_away() -> None:
    """WCP-20."""
    story = Story().start(many("m", does="approval", context={"signal": "go"}, count=3)).run()
    story.ask(outside.cancel, "stop", "ops")
    story.simulation.drain(until_ms=story.simulation.now_us // 1000 + 60_000)

    assert story.status == "CANCELED"
    assert len(story.events("instance.canceled")) == 3


@pytest.mark.parametrize("seed", SEEDS)
def test_instances_are_added_while_one_is_unfinished(seed: int) -> None:
    """WCP-15: refused once all are done."""
    story = Story(seed, ROUGH).start(
        many("m", does="approval", context={"signal": "go"}, count=1, allow_dynamic=True), stage("z", "m")
    )
    story.run()
    assert story.ask(outside.add_instances, "m", 2, {"extra": 1}).took_effect
    story.run()
    for _ in range(3):
        story.ask(outside.signal, "m", "go", None)
    story.run()

    assert story.status == "SUCCEEDED"
    assert len(story.events("instance.completed")) == 3
    assert not story.ask(outside.add_instances, "m", 1).took_effect


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("event", "statuses"),
    [
        (outside.complete_instances, {"m": "SUCCEEDED", "z": "SUCCEEDED"}),
        (outside.cancel_stage, {"m": "CANCELED", "z": "SKIPPED"}),
        (outside.skip_stage, {"m": "SKIPPED", "z": "SUCCEEDED"}),
    ],
)
def test_open_instances_are_withdrawn_with_their_stage(seed: int, event: Any, statuses: dict[str, str]) -> None:
    """WCP-26, WCP-27: completed early, cancelled, skipped."""
    story = Story(seed, ROUGH).start(many("m", does="approval", context={"signal": "go"}, count=3), stage("z", "m"))
    story.run()
    assert story.ask(event, "m").took_effect
    story.run()

    assert (story.status, story.statuses) == ("SUCCEEDED", statuses)
    assert len(story.events("instance.canceled")) == 3


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("at_once", [1, 2, 3])
@pytest.mark.parametrize("enough", [{"join_threshold": 2}, {"completion_condition": "completed >= 2"}])
def test_the_rest_takes_its_turns_though_the_thread_has_gone_on(
    seed: int, at_once: int, enough: dict[str, Any]
) -> None:
    """WCP-34 with a limit: who has not begun yet still runs, without effect."""
    story = Story(seed, ROUGH).start(many("m", count=6, max_concurrent=at_once, **enough), stage("z", "m")).run()

    assert story.status == "SUCCEEDED"
    assert len(story.events("instance.completed")) == 6
    assert story.events("stage.completed").count("z") == 1


class AtWork:
    """How many instances are at work at once, and what each saw."""

    def __init__(self) -> None:
        self.seen: dict[int, Any] = {}

    def work(self, stage: StageExecution) -> TaskResult:
        if current_call().signal is None:
            return TaskResult.suspend()
        self.seen[stage.context["instance_index"]] = stage.context.get("added")
        return TaskResult.success()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("at_once", [1, 2, 0])
def test_instances_that_are_added_wait_for_their_turn(seed: int, at_once: int) -> None:
    """WCP-15 with a limit: each runs once, in order, with what it was given."""
    bodies = AtWork()
    story = Story(seed, ROUGH, wait=bodies.work).start(
        many("m", does="wait", context={"signal": "go"}, count=3, max_concurrent=at_once, allow_dynamic=True)
    )
    story.run()
    assert story.ask(outside.add_instances, "m", 1, {"added": "x"}).took_effect
    assert story.ask(outside.add_instances, "m", 2, {"added": "y"}).took_effect
    assert not story.ask(outside.add_instances, "m", 0).took_effect
    assert "add 1 to 100000 at once" in story.ask(outside.add_instances, "m", 10**30).told
    for _ in range(6):
        story.run()
        begun = len(story.events("instance.started")) - len(story.events("instance.completed"))
        assert begun <= (at_once or 6)
        story.ask(outside.signal, "m", "go", None)
    story.run()

    assert story.status == "SUCCEEDED"
    assert bodies.seen == {0: None, 1: None, 2: None, 3: "x", 4: "y", 5: "y"}
    assert len(story.events("instance.started")) == 6


@pytest.mark.parametrize("seed", SEEDS)
def test_instances_that_were_done_keep_their_outputs_when_the_stage_is_completed_early(seed: int) -> None:
    """WCP-27: what is there is collected, as after a threshold."""

    def first(stage: StageExecution) -> TaskResult:
        index = stage.context["instance_index"]
        return TaskResult.success(outputs={"n": index}) if index == 0 else TaskResult.suspend()

    story = Story(seed, ROUGH, first=first).start(
        many("m", does="first", context={"signal": "go"}, count=3), stage("z", "m", does="see")
    )
    story.simulation.registry.register("see", lambda stage: TaskResult.success(outputs={"saw": stage.context.get("n")}))
    story.run()
    assert story.ask(outside.complete_instances, "m").took_effect
    story.run()

    assert (story.status, story.outputs("m"), story.outputs("z")) == ("SUCCEEDED", {"n": [0]}, {"saw": [0]})


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_written_after_the_thread_has_gone_on_stays_unseen_when_the_stage_is_completed_early(seed: int) -> None:
    """WCP-27 behind WCP-34: the next stage looks after all that, and finds what it started with."""

    def wait(stage: StageExecution) -> TaskResult:
        if current_call().signal is None:
            return TaskResult.suspend()
        return TaskResult.success(outputs={"n": stage.context["instance_index"]})

    def look(stage: StageExecution) -> TaskResult:
        if current_call().signal is None:
            return TaskResult.suspend()
        return TaskResult.success(outputs={"saw": stage.context["n"]})

    story = Story(seed, ROUGH, wait=wait, look=look).start(
        many("m", does="wait", context={"signal": "go"}, count=3, join_threshold=1),
        stage("z", "m", does="look", context={"signal": "look"}),
    )
    for _ in range(2):
        story.run()
        assert story.ask(outside.signal, "m", "go", None).took_effect
    story.run()
    assert story.ask(outside.complete_instances, "m").took_effect
    story.run()
    assert story.ask(outside.signal, "z", "look", None).took_effect
    story.run()

    assert (story.status, story.outputs("m"), story.outputs("z")) == ("SUCCEEDED", {"n": [0]}, {"saw": [0]})


@pytest.mark.parametrize("seed", SEEDS)
def test_a_condition_is_asked_at_each_end(seed: int) -> None:
    """Also at the last, and one by one where several end together: an exact number is never passed over."""
    wrong = Story(seed, ROUGH).start(many("m", count=1, completion_condition="nope > 1"), stage("z", "m")).run()
    exact = Story(seed, ROUGH).start(
        many("m", count=8, completion_condition="completed == 3", cancel_remaining=True), stage("z", "m")
    )
    exact.run()

    assert wrong.statuses == {"m": "TERMINAL", "z": "SKIPPED"}
    assert exact.status == "SUCCEEDED"


@pytest.mark.parametrize("seed", SEEDS)
def test_nonsense_for_a_number_fails_the_workflow_whatever_the_stage_says(seed: int) -> None:
    """As with a condition, there is no safe way to go on (wcp 1.11)."""
    context = {"continuePipelineOnFailure": True, "n": -1}
    story = Story(seed, ROUGH).start(many("m", context=context, count_from_context="n"), stage("z", "m")).run()

    assert story.statuses == {"m": "TERMINAL", "z": "SKIPPED"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_signal_may_be_meant_for_one_instance(seed: int) -> None:
    """It wakes that one, and is kept for it if it does not wait yet."""
    bodies = AtWork()
    story = Story(seed, ROUGH, wait=bodies.work).start(many("m", does="wait", context={"signal": "go"}, count=3))
    assert story.ask(outside.signal, "m", "go", None, instance=2).took_effect
    story.run()
    assert list(bodies.seen) == [2]
    assert story.ask(outside.signal, "m", "go", None, instance=1).took_effect
    story.run()
    assert list(bodies.seen) == [2, 1]
