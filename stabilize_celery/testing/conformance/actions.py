"""The task that does what a scenario says. It goes on where it was after a wait; nothing of it shows in a context."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from stabilize_celery.errors import TaskNotFoundError, TransientError
from stabilize_celery.models.expressions import ConditionError, evaluate, evaluate_condition
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.tasks.call import TaskCall, current_call
from stabilize_celery.tasks.options import TaskOptions
from stabilize_celery.tasks.task import Task, Wait
from stabilize_celery.testing.conformance.journal import Journal, Key, Record, Visit
from stabilize_celery.testing.conformance.scenario import Scenario
from stabilize_celery.testing.conformance.steps import Step

__all__ = ["OPTIONS", "PREFIX", "SLEEP_TICK_MS", "InstanceAdder", "ScriptedTask", "Scripts", "task_type"]

PREFIX = "conformance:"
"""Task types that begin like this are scripts."""

OPTIONS = TaskOptions(max_attempts=sys.maxsize)
"""A script says itself how often it fails: nobody gives it up before."""

SLEEP_TICK_MS = 50
"""How long a tick is for a task that sleeps."""


class InstanceAdder(Protocol):
    """Asks the engine for one more instance of a run."""

    def __call__(self, workflow_id: str, event_id: str, ref_id: str, run: int, context: Mapping[str, Any]) -> None:
        """Return once the engine has answered; a refusal is no error."""
        ...


def task_type(file: int, scenario_id: str, workflow: int, stage: int, task: int) -> str:
    """Return the type of one task of one scenario, by its places in the files."""
    return f"{PREFIX}{file}/{workflow}/{stage}/{task}/{scenario_id}"


class Scripts:
    """The scripts of scenario files, by task type; a resolver for a task registry."""

    def __init__(self, files: Sequence[Sequence[Scenario]], journal: Journal, add_instance: InstanceAdder) -> None:
        self._scenarios = {(number, one.id): one for number, file in enumerate(files) for one in file}
        self._journal = journal
        self._add_instance = add_instance
        self._steps: dict[str, tuple[Step, ...]] = {}

    def __call__(self, kind: str) -> Task:
        """Return a task for one execution. Raises TaskNotFoundError."""
        steps = self._steps.get(kind)
        if steps is None:
            steps = self._steps[kind] = self._find(kind)
        return ScriptedTask(kind, steps, self._journal, self._add_instance)

    def _find(self, kind: str) -> tuple[Step, ...]:
        *places, scenario_id = kind.removeprefix(PREFIX).split("/", 4)
        try:
            file, workflow, stage, task = map(int, places)
            return self._scenarios[file, scenario_id].workflows[workflow].stages[stage].tasks[task].steps
        except (ValueError, LookupError):
            raise TaskNotFoundError(f"no scenario file of this worker has the task {kind!r}") from None


@dataclass(slots=True)
class _Place:
    """How far an execution of a task is."""

    step: int
    attempt: int
    outputs: dict[str, Any]
    signal: tuple[Any, ...] = ()
    """Nothing, or the data of the last signal."""


@dataclass(slots=True)
class ScriptedTask(Task):
    """One execution of a script. `kind`: its task type."""

    kind: str
    steps: tuple[Step, ...]
    journal: Journal
    add_instance: InstanceAdder
    _sleep_ms: int | None = field(default=None, init=False)
    _wait: Wait | None = field(default=None, init=False)

    def execute(self, stage: StageExecution) -> TaskResult:
        """Do the actions up to the first that ends the task or waits."""
        execution = _Execution(self, stage, current_call())
        try:
            return execution.go_on()
        except ConditionError:
            execution.end()
            return TaskResult(WorkflowStatus.TERMINAL, outputs=execution.place.outputs)

    def poll_after_ms(self, stage: StageExecution) -> int | None:  # noqa: ARG002 - a hook
        """Return how long it sleeps."""
        return self._sleep_ms

    def waits_for(self, stage: StageExecution) -> Wait | None:  # noqa: ARG002 - a hook
        """Return the signal that it waits for."""
        return self._wait

    def sleeps(self, ticks: int) -> None:
        """Remember how long to sleep."""
        self._sleep_ms = ticks * SLEEP_TICK_MS

    def waits(self, signal: str) -> None:
        """Remember what to wait for."""
        self._wait = Wait(signal)


class _Execution:
    def __init__(self, task: ScriptedTask, stage: StageExecution, call: TaskCall) -> None:
        self.task = task
        self.stage = stage
        self.call = call
        # A place belongs to one run and instance; what is counted belongs to the task, over all of them.
        self.key: Key = (call.workflow_id, call.idempotency_key, call.instance_index)
        self.over_all_runs: Key = (call.workflow_id, task.kind)
        self.place = self._take_up()

    def _take_up(self) -> _Place:
        kept = self.task.journal.place(self.key)
        if kept is None or not kept["step"]:
            call = self.call
            visit = Visit(call.workflow_id, call.stage_ref_id, call.run_number, call.instance_index)
            self.task.journal.visit(visit)
            outputs = dict(kept["outputs"]) if kept is not None else {}
            return _Place(0, self.task.journal.count(("attempt", *self.over_all_runs)), outputs)
        signal = tuple(kept["signal"])
        if kept["waits"]:
            signal = (self.call.signal_payload,)
        return _Place(kept["step"], kept["attempt"], dict(kept["outputs"]), signal)

    def go_on(self) -> TaskResult:
        while self.place.step < len(self.task.steps):
            step = self.task.steps[self.place.step]
            self.place.step += 1
            result = _DOES[step.verb](self, step)
            if result is not None:
                return result
        return self.end(WorkflowStatus.SUCCEEDED)

    def end(self, status: WorkflowStatus = WorkflowStatus.TERMINAL, target: str | None = None) -> TaskResult:
        self.task.journal.keep_place(self.key, None)
        return TaskResult(status, outputs=self.place.outputs, target_stage_ref_id=target)

    def leave(self, status: WorkflowStatus, *, waits: bool) -> TaskResult:
        place = self.place
        kept = {"step": place.step, "attempt": place.attempt, "outputs": place.outputs, "waits": waits}
        self.task.journal.keep_place(self.key, {**kept, "signal": list(place.signal)})
        return TaskResult(status, outputs=place.outputs)

    def names(self) -> dict[str, Any]:
        names = {**self.stage.context, **self.stage.outputs, **self.place.outputs, "attempt": self.place.attempt}
        if self.call.instance_index is not None:
            names["instance_index"] = self.call.instance_index
        if self.place.signal:
            names["signal"] = self.place.signal[0]
        return names

    def holds(self, expression: str) -> bool:
        return evaluate_condition(expression, self.names())

    def value(self, given: Any) -> Any:
        if isinstance(given, Mapping) and set(given) == {"expr"}:
            return evaluate(given["expr"], self.names())
        return given

    # -- actions -------------------------------------------------------------------------------------------------------

    def condition(self, step: Step) -> None:
        if not self.holds(step.argument):
            self.place.step = step.otherwise

    def retry(self, step: Step) -> None:
        if self.place.attempt <= step.argument:
            # What it has put out stays; all else begins anew.
            self.task.journal.keep_place(self.key, {"step": 0, "outputs": self.place.outputs})
            raise TransientError(f"execution {self.place.attempt} of the first {step.argument}", retry_after=0.02)

    def sleep(self, step: Step) -> TaskResult | None:
        if not step.argument:
            return None
        self.task.sleeps(step.argument)
        return self.leave(WorkflowStatus.RUNNING, waits=False)

    def outputs(self, step: Step) -> None:
        self.place.outputs |= {name: self.value(given) for name, given in step.argument.items()}

    def record(self, step: Step) -> None:
        self.task.journal.record(Record(self.call.workflow_id, self.call.stage_ref_id, self.value(step.argument)))

    def wait_for(self, step: Step) -> TaskResult:
        self.task.waits(step.argument)
        return self.leave(WorkflowStatus.SUSPENDED, waits=True)

    def jump_to(self, step: Step) -> TaskResult | None:
        if "if" in step.argument and not self.holds(step.argument["if"]):
            return None
        if "times" in step.argument:
            reached = self.task.journal.count(("jump", *self.over_all_runs, self.place.step))
            if reached > step.argument["times"]:
                return None
        return self.end(WorkflowStatus.REDIRECT, step.argument["target"])

    def one_more_instance(self, step: Step) -> None:
        context = {name: self.value(given) for name, given in step.argument.items()}
        event_id = "/".join(map(str, (*self.key, self.place.attempt, self.place.step)))
        call = self.call
        self.task.add_instance(call.workflow_id, event_id, call.stage_ref_id, call.run_number, context)


_Does: TypeAlias = Callable[[_Execution, Step], TaskResult | None]

_DOES: Mapping[str, _Does] = {
    "succeed": lambda execution, _: execution.end(WorkflowStatus.SUCCEEDED),
    "fail": lambda execution, _: execution.end(WorkflowStatus.TERMINAL),
    "fail_continue": lambda execution, _: execution.end(WorkflowStatus.FAILED_CONTINUE),
    "skip": lambda execution, _: execution.end(WorkflowStatus.SKIPPED),
    "if": _Execution.condition,
    "retry": _Execution.retry,
    "sleep": _Execution.sleep,
    "outputs": _Execution.outputs,
    "record": _Execution.record,
    "wait_for": _Execution.wait_for,
    "jump_to": _Execution.jump_to,
    "add_instance": _Execution.one_more_instance,
}
