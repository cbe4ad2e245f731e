"""WorkflowHandle: everything that can be asked of one workflow, or done to it."""

import getpass
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from stabilize_celery.client.asked import checked_name, checked_number, checked_text, checked_value, told_text
from stabilize_celery.client.ending import result_or_failure
from stabilize_celery.client.events import WorkflowEvent
from stabilize_celery.client.following import follow as follow_steps
from stabilize_celery.client.following import history, walk
from stabilize_celery.client.following import wait as wait_steps
from stabilize_celery.client.outcomes import Outcome, act, no_such_workflow
from stabilize_celery.client.why import Reason, explain
from stabilize_celery.engine import outside, places
from stabilize_celery.engine.handler import workflow_of
from stabilize_celery.engine.restart import restart
from stabilize_celery.engine.steps import Handling, Hash, workflow_slot
from stabilize_celery.models.limits import MAX_INSTANCE, MAX_NAME_LENGTH
from stabilize_celery.models.problems import shown
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.service import Runtime

__all__ = ["WorkflowHandle"]


class WorkflowHandle:
    """A workflow by its id. Making one does no I/O; every method may raise `UnreachableError`.

    For an id that no workflow can have, such as an empty one, every method raises `WorkflowNotFoundError`.

    What acts on the workflow returns an `Outcome`: truthy if it had an effect, with the reason in words if not. It
    raises TypeError for a `ref_id` that is not a text.
    """

    def __init__(self, runtime: Runtime, workflow_id: str) -> None:
        if not isinstance(workflow_id, str):  # users' code is not checked
            raise TypeError(f"a workflow's id must be text, not {shown(workflow_id)}")
        self._runtime = runtime
        self.id = workflow_id

    def __repr__(self) -> str:
        return f"WorkflowHandle({self.id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WorkflowHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    # -- looking -------------------------------------------------------------------------------------------------------

    def status(self) -> WorkflowStatus:
        """Return the workflow's status, in one read. Raises WorkflowNotFoundError."""
        record = workflow_of(self._runtime.store.look(workflow_slot(self.id), [Hash(places.WORKFLOW)]))
        if not record.exists:
            raise no_such_workflow(self.id)
        return WorkflowStatus.stored(record.status)

    def get(self) -> Workflow:
        """Return the whole workflow as it is now. Raises WorkflowNotFoundError."""
        return self._runtime.read(self.id)

    def wait(self, timeout_s: float | None = None) -> Workflow:
        """Wait until the workflow has ended and return it; a short outage of Redis is tolerated.

        Raises:
            TimeoutError: it has not ended within `timeout_s`.
            WorkflowNotFoundError: there is no such workflow (any more).

        """
        for _ in walk(wait_steps(self.id, timeout_s), self._runtime.store, self.id):
            pass
        return self.get()

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the end; return what a canvas returned, as Celery's `get()` would; else the outputs of all stages.

        Raises:
            WorkflowFailedError: it did not succeed; the text says why.
            TimeoutError: it has not ended within `timeout_s`.
            WorkflowNotFoundError: there is no such workflow (any more).

        """
        return result_or_failure(self.wait(timeout_s), lambda: list(map(str, self.why())))

    def events(self, from_id: str = "0", follow: bool = False) -> Iterator[WorkflowEvent]:
        """Yield what happened after the event `from_id`, oldest first; with `follow`, also what happens from now on.

        Following ends with the workflow, and survives an outage of Redis of up to 60 s. ValueError at the first
        event: `from_id` is not the id of an event.
        """
        steps = follow_steps(from_id) if follow else history(from_id)
        return walk(steps, self._runtime.store, self.id)

    def why(self) -> list[Reason]:
        """Return what each unfinished stage waits for; once the workflow has ended, why it failed, by stage."""
        return explain(self._runtime.store, self.id, self._runtime.settings)

    # -- acting --------------------------------------------------------------------------------------------------------

    def cancel(self, reason: str = "", *, user: str | None = None) -> Outcome:
        """Cancel the workflow: nothing new starts, and running code is asked to stop.

        `user`: recorded as who did it; default: the user of this process. Of both, 4 kB are kept.

        Raises:
            TypeError: the reason or the user is not a text.

        """
        told, by = told_text(reason, "reason"), told_text(user, "user") or self._user
        return self._act(lambda event_id: outside.cancel(self.id, event_id, told, by))

    def pause(self, *, user: str | None = None) -> Outcome:
        """Pause the workflow: what runs ends, nothing new starts. `user`: as for `cancel`."""
        by = told_text(user, "user") or self._user
        return self._act(lambda event_id: outside.pause(self.id, event_id, by))

    def resume(self) -> Outcome:
        """Resume after a pause."""
        return self._act(lambda event_id: outside.resume(self.id, event_id))

    def restart(self, ref_id: str) -> Outcome:
        """Run a stage of an ended workflow, and what follows it, again; the rest keeps its results."""
        ref_id = checked_text(ref_id, "a stage's ref_id")
        return self._act(lambda event_id: restart(self.id, event_id, ref_id))

    def signal(
        self, ref_id: str, name: str, payload: Any = None, transient: bool = False, *, instance: int | None = None
    ) -> Outcome:
        """Wake a task of the stage that waits for this signal; if none does yet, it is kept unless `transient`.

        `instance`: only that instance of a multi-instance stage takes it (index from 0).

        Raises:
            TypeError: the name is not a text, or `instance` not a whole number.
            ValueError: the payload is not JSON, or larger than outputs may be; the name is empty or too long; or
                `instance` is not an index.

        """
        ref_id = checked_text(ref_id, "a stage's ref_id")
        name = checked_name(name, "a signal's name", MAX_NAME_LENGTH)
        if instance is not None:
            instance = checked_number(instance, f"signal {name!r}: instance")
        if instance is not None and not 0 <= instance <= MAX_INSTANCE:
            raise ValueError(f"signal {name!r}: there is no instance {instance}; give one from 0 to {MAX_INSTANCE}")
        most = self._runtime.settings.max_output_bytes
        plain = checked_value(payload, "payload", f"signal {name!r}", most)
        return self._act(
            lambda event_id: outside.signal(
                self.id, event_id, ref_id, name, plain, transient=transient, instance=instance
            )
        )

    def skip_stage(self, ref_id: str) -> Outcome:
        """Skip the rest of a stage's work; its branch continues."""
        ref_id = checked_text(ref_id, "a stage's ref_id")
        return self._act(lambda event_id: outside.skip_stage(self.id, event_id, ref_id))

    def cancel_stage(self, ref_id: str) -> Outcome:
        """Cancel a stage: its branch ends, the others continue."""
        ref_id = checked_text(ref_id, "a stage's ref_id")
        return self._act(lambda event_id: outside.cancel_stage(self.id, event_id, ref_id))

    def choose(self, ref_id: str) -> Outcome:
        """Choose an offered stage of a deferred choice (WCP-16); the others of its group are withdrawn."""
        ref_id = checked_text(ref_id, "a stage's ref_id")
        return self._act(lambda event_id: outside.choose(self.id, event_id, ref_id))

    def cancel_region(self, name: str) -> Outcome:
        """Cancel the work in the stages of a region (WCP-25)."""
        name = checked_text(name, "a region's name")
        return self._act(lambda event_id: outside.cancel_region(self.id, event_id, name))

    def complete_instances(self, ref_id: str) -> Outcome:
        """End a multi-instance stage early: open instances are withdrawn, its branch continues (WCP-27)."""
        ref_id = checked_text(ref_id, "a stage's ref_id")
        return self._act(lambda event_id: outside.complete_instances(self.id, event_id, ref_id))

    def add_instances(
        self, ref_id: str, n: int, context: Mapping[str, Any] | None = None, *, run: int | None = None
    ) -> Outcome:
        """Add `n` instances to a stage that allows it; `context`: values that they see (WCP-15).

        `run`: the number of the run to add to; default: the first one that accepts more.

        Raises:
            TypeError: `n` or `run` is not a whole number, or the context is not an object.
            ValueError: the context is not JSON, or larger than outputs may be.

        """
        ref_id = checked_text(ref_id, "a stage's ref_id")
        n = checked_number(n, "how many instances are added")
        run = None if run is None else checked_number(run, "the number of a run")
        if not isinstance(context, Mapping | None):
            raise TypeError(f"the context of added instances must be an object, not {shown(context)}")
        most = self._runtime.settings.max_output_bytes
        seen = checked_value(context or {}, "context", "added instances", most)
        return self._act(lambda event_id: outside.add_instances(self.id, event_id, ref_id, n, seen, run=run))

    def _act(self, event: Callable[[str], Handling]) -> Outcome:
        return act(self._runtime, self.id, event)

    @cached_property
    def _user(self) -> str:
        try:
            return f"{getpass.getuser()}@{socket.gethostname()}"
        except (KeyError, OSError):
            # A container's user may have no name.
            return socket.gethostname()
