"""What a draft knows without asking the store: a `Hand` for what follows at once (engine/following.py)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stabilize_celery.engine import places
from stabilize_celery.engine.state import Run, WorkflowRecord
from stabilize_celery.engine.steps import Plan
from stabilize_celery.runtime.draft import Draft

__all__ = ["AtHand"]


@dataclass(frozen=True, slots=True)
class AtHand:
    """What was read into a draft and is WATCHed, and what is known of definitions.

    Args:
        draft: Has nothing in it yet.
        is_code: Whether users' code answers a step.
        plan: Answers one.

    """

    draft: Draft
    is_code: Callable[[Plan], bool]
    plan: Callable[[Plan], dict[str, Any]]

    @property
    def now_us(self) -> int:
        """Time of the slot's server (us)."""
        return self.draft.now_us

    def workflow(self) -> WorkflowRecord | None:
        """Return the workflow's record, if it was read."""
        found: WorkflowRecord | None = self.draft.record(places.WORKFLOW)
        return found

    def run(self, thread: str) -> Run | None:
        """Return a run that was read."""
        found: Run | None = self.draft.record(places.run(thread))
        return found

    def stage(self, ref_id: str) -> Mapping[str, bytes] | None:
        """Return the fields with a stage's plan and context, if they are known."""
        return self.draft.stage(ref_id)

    def planned(self, step: Plan) -> dict[str, Any] | None:
        """Answer a step; None: users' code would."""
        return None if self.is_code(step) else self.plan(step)
