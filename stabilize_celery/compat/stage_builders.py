"""Builders of stages under upstream's names: by type for a whole process, of loops, and of several instances.

`stabilize_celery.models.patterns` has functions that say the same in one line, with all that the engine can.
"""

from collections.abc import Sequence
from typing import Any

from stabilize_celery.models import graph
from stabilize_celery.models.multi_instance import MultiInstanceConfig
from stabilize_celery.models.patterns import exclusive_choice
from stabilize_celery.models.patterns.loops import repeat_until
from stabilize_celery.models.stage import JoinMode, JoinType, StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.tasks.builders import SHARED, StageDefinitionBuilder, StageDefinitionBuilderFactory

__all__ = [
    "LoopBuilder",
    "MultiInstanceBuilder",
    "StageGraphBuilder",
    "get_builder",
    "get_default_factory",
    "register_builder",
]


def get_default_factory() -> StageDefinitionBuilderFactory:
    """Return the builders of this process."""
    return SHARED


def register_builder(builder: StageDefinitionBuilder) -> None:
    """Make a builder known to this process: stages of its type need no tasks in their definition."""
    SHARED.register(builder)


def get_builder(stage_type: str) -> StageDefinitionBuilder:
    """Return the builder of a type; the one that builds nothing where there is none."""
    return SHARED.get(stage_type)


class StageGraphBuilder(graph.StageGraphBuilder):
    """`stabilize_celery.models.graph.StageGraphBuilder`, which tells what was added so far."""

    @property
    def stages(self) -> list[StageExecution]:
        """What was added, in order."""
        return self.build()

    @property
    def last_stage(self) -> StageExecution | None:
        """What was added last; None: nothing was."""
        return next(reversed(self.build()), None)

    def is_empty(self) -> bool:
        """Return whether nothing was added."""
        return not self.build()


class LoopBuilder:
    """Loops around a list of stages, one behind the other; by jumps, whose limit the workflow has."""

    @staticmethod
    def while_loop(
        condition: str,
        body_stages: list[StageExecution],
        loop_ref_prefix: str = "loop",
        max_iterations: int = 100,
        context: dict[str, Any] | None = None,
    ) -> list[StageExecution]:
        """Return the stages of a loop that runs its body as long as `condition` holds before it, perhaps never.

        What requires the last one, `<prefix>_loopback`, follows the loop.

        Raises:
            ValueError: the condition can't be parsed, or the body is empty.

        """
        _check_body(body_stages)
        head, back = f"{loop_ref_prefix}_condition", f"{loop_ref_prefix}_loopback"
        first = _noop(
            head, f"{loop_ref_prefix} condition check", context={**(context or {}), "_max_jumps": max_iterations}
        )
        last = _noop(back, f"{loop_ref_prefix} loop back", context={"jump_to": head, "jump_if": condition})
        last.requisite_stage_ref_ids, last.join_type = {head, _chain(head, body_stages)}, JoinType.OR
        last.tasks = [TaskExecution.create("Loop Back", "jump", stage_start=True, stage_end=True)]
        last.jump_targets = [head]
        exclusive_choice(first, {body_stages[0].ref_id: condition}, default=back)
        return [first, *body_stages, last]

    @staticmethod
    def repeat_until(
        condition: str,
        body_stages: list[StageExecution],
        loop_ref_prefix: str = "loop",
        max_iterations: int = 100,
        context: dict[str, Any] | None = None,
    ) -> list[StageExecution]:
        """Return the stages of a loop that runs its body once, and again until `condition` holds behind it.

        Raises:
            ValueError: the condition can't be parsed, or the body is empty.

        """
        _check_body(body_stages)
        entry, check = f"{loop_ref_prefix}_entry", f"{loop_ref_prefix}_condition"
        first = _noop(entry, f"{loop_ref_prefix} entry", context={**(context or {}), "_max_jumps": max_iterations})
        last = _noop(check, f"{loop_ref_prefix} condition check", after=_chain(entry, body_stages))
        repeat_until(last, condition, entry)
        return [first, *body_stages, last]


class MultiInstanceBuilder:
    """Several stages of one kind behind a parent, and what joins them: `<ref>_instance_<n>`, `<ref>_mi_join`.

    Instances have no tasks: a builder of their type gives them some, or the program does.
    """

    @staticmethod
    def create_fixed(
        parent_stage: StageExecution,
        count: int,
        instance_type: str = "",
        instance_name_prefix: str = "Instance",
        sync_on_complete: bool = True,
        join_threshold: int = 0,
        cancel_remaining: bool = False,
        instance_contexts: Sequence[dict[str, Any]] | None = None,
    ) -> list[StageExecution]:
        """Return `count` instances, and the stage that joins them unless `sync_on_complete` is false.

        The join waits for `join_threshold` instances (0: all), and with `cancel_remaining` takes the others away then.

        Raises:
            ValueError: more instances are waited for than there are.

        """
        if join_threshold > count:
            raise ValueError(
                f"stage {parent_stage.ref_id!r}: join_threshold is {join_threshold}, and there are {count} instances"
            )
        contexts = list(instance_contexts or ())
        made = [
            StageExecution.create(
                type=instance_type or parent_stage.type,
                name=f"{instance_name_prefix} [{at}]",
                ref_id=f"{parent_stage.ref_id}_instance_{at}",
                context={
                    "_mi_parent_ref_id": parent_stage.ref_id,
                    "_mi_instance_index": at,
                    **(contexts[at] if at < len(contexts) else {}),
                },
                requisite_stage_ref_ids={parent_stage.ref_id},
            )
            for at in range(count)
        ]
        if not sync_on_complete or not made:
            return made
        join = _noop(f"{parent_stage.ref_id}_mi_join", f"{parent_stage.name} [MI Join]")
        join.requisite_stage_ref_ids = {one.ref_id for one in made}
        if join_threshold:
            join.join_type, join.join_threshold = JoinType.N_OF_M, join_threshold
        if cancel_remaining:
            join.join_mode = JoinMode.CANCELLING
        return [*made, join]

    @classmethod
    def create_from_context(
        cls, parent_stage: StageExecution, count_key: str, *args: Any, **more: Any
    ) -> list[StageExecution]:
        """Return as many instances as the parent's context says now; `args`, `more`: as of `create_fixed`."""
        return cls.create_fixed(parent_stage, max(0, int(parent_stage.context.get(count_key, 0))), *args, **more)

    @classmethod
    def create_from_collection(
        cls,
        parent_stage: StageExecution,
        collection_key: str,
        instance_type: str = "",
        instance_name_prefix: str = "Instance",
        sync_on_complete: bool = True,
        item_context_key: str = "item",
    ) -> list[StageExecution]:
        """Return one instance for each item of a list in the parent's context, with it under `item_context_key`."""
        found = parent_stage.context.get(collection_key)
        items = found if isinstance(found, list) else []
        contexts = [{item_context_key: item} for item in items]
        return cls.create_fixed(
            parent_stage,
            len(items),
            instance_type,
            instance_name_prefix,
            sync_on_complete,
            instance_contexts=contexts,
        )

    @staticmethod
    def create_dynamic(
        parent_stage: StageExecution,
        instance_type: str = "",
        instance_name_prefix: str = "Instance",
        initial_count: int = 0,
    ) -> list[StageExecution]:
        """Let the parent itself run several times at once, and more while it runs; `AddMultiInstance` adds one.

        Its own tasks are what each instance does, and it ends when all have ended: there are no more stages.
        """
        del instance_type, instance_name_prefix
        parent_stage.mi_config = MultiInstanceConfig(count=initial_count, allow_dynamic=True, sync_on_complete=True)
        return []


def _check_body(body: Sequence[StageExecution]) -> None:
    if not body:
        raise ValueError("a loop needs a stage in its body")


def _chain(first: str, body: Sequence[StageExecution]) -> str:
    """Let each stage require the one before it, the first one `first`; return the last one's ref_id."""
    before = first
    for stage in body:
        stage.requisite_stage_ref_ids, before = {before}, stage.ref_id
    return before


def _noop(ref_id: str, name: str, *, after: str = "", context: dict[str, Any] | None = None) -> StageExecution:
    required = {after} if after else set()
    return StageExecution.create("noop", name, ref_id, context=context, requisite_stage_ref_ids=required)
