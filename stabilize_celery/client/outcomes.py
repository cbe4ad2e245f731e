"""Acting on a workflow from outside: asked once, answered in words."""

import time
from collections.abc import Callable

from ulid import ULID

from stabilize_celery.engine.answers import Answer, Hindrance
from stabilize_celery.engine.steps import Handling
from stabilize_celery.errors import WorkflowNotFoundError
from stabilize_celery.models.messages import ClearWorkflow
from stabilize_celery.runtime.service import Runtime

__all__ = ["Outcome", "act", "no_such_workflow"]

PATIENCE_S = 5.0
"""How long what may succeed in a moment is asked again (s)."""
_PAUSE_S = 0.05
_PASSES = (Hindrance.CLEARING, Hindrance.BUSY)


class Outcome(Answer):
    """Whether an act had an effect (it is truthy then), and in `told` what happened, or why nothing did."""

    __slots__ = ()

    @classmethod
    def of(cls, answer: Answer) -> "Outcome":
        """Return what the engine has answered."""
        return cls(answer.took_effect, answer.told, answer.hindrance)

    def __bool__(self) -> bool:
        return self.took_effect

    def __str__(self) -> str:
        return self.told

    @property
    def retryable(self) -> bool:
        """Whether it had no effect now and may have one in a moment, as `retryable` of an error says."""
        return self.hindrance in _PASSES


def act(runtime: Runtime, workflow_id: str, event: Callable[[str], Handling]) -> Outcome:
    """Apply an outside event, made from an event id; asked again under the same id where that may help at once.

    What an ended workflow has still to clear away is cleared here, and waits for no worker.

    Raises:
        WorkflowNotFoundError: there is no such workflow (any more).
        UnreachableError: the state server is away; whether the event took effect is not known.

    """
    event_id = str(ULID())
    deadline = time.monotonic() + PATIENCE_S
    pause_s = _PAUSE_S
    while True:
        answer = runtime.ask(workflow_id, lambda: event(event_id))
        outcome = Outcome.of(answer)
        if not outcome.retryable or time.monotonic() >= deadline:
            break
        if outcome.hindrance is Hindrance.CLEARING:
            runtime.handle(ClearWorkflow(workflow_id=workflow_id))
        else:
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.5)
    if outcome.hindrance is Hindrance.NO_WORKFLOW:
        raise no_such_workflow(workflow_id)
    return outcome


def no_such_workflow(workflow_id: str) -> WorkflowNotFoundError:
    """Return the error for an id that no workflow has."""
    told = f"there is no workflow {workflow_id!r}: the id is mistyped, or its retention is over"
    return WorkflowNotFoundError(told, execution_id=workflow_id)
