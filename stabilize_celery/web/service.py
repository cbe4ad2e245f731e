"""What the page asks of the engine, as plain functions that block: the API runs them on a few threads."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

from stabilize_celery.client import Client, Outcome
from stabilize_celery.client.dead_letters import dead_letters, drop, read_letter, replay
from stabilize_celery.client.following import EventFeed
from stabilize_celery.client.outcomes import act
from stabilize_celery.client.why.deadlocks import deadlocks_among
from stabilize_celery.client.why.explain import explain_view
from stabilize_celery.client.why.locks import all_locks
from stabilize_celery.engine import outside
from stabilize_celery.errors import ConfigurationError, QueueError
from stabilize_celery.models.redaction import Redaction
from stabilize_celery.runtime.collecting import without_collector
from stabilize_celery.runtime.fleet import Fleet
from stabilize_celery.runtime.reading import read_view
from stabilize_celery.telemetry.fleet_gauges import FleetGauges
from stabilize_celery.transport.queues import queue_lengths
from stabilize_celery.web import bodies
from stabilize_celery.web.answers import NotFoundError
from stabilize_celery.web.reading import read_crowds, read_part, read_regions
from stabilize_celery.web.shapes import (
    deadlock_line,
    event_line,
    letter_line,
    lock_line,
    reason_line,
    redacted,
    stage_detail,
    stage_line,
    workflow_state,
)

__all__ = ["Service"]

_DUE_LOOKED_AT = 1_000
_EVENTS_PER_PAGE = 1_000
_LOCKS_FOLLOWED = 200
"""So many locks and workflows are read at most to find deadlocks, each second in which somebody looks (count)."""
_PAGES_LOOKED_THROUGH = 100
"""Where one stage is asked for, so many pages of events are looked through."""


class Service:
    """Answers of one client. Threads may share it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.store = client.store
        self._broker = threading.Lock()
        self.gauges = FleetGauges(client.store, client.settings, self._lengths, walks=True)
        self.version = metadata.version("stabilize-celery")

    # -- one workflow --------------------------------------------------------------------------------------------------

    def workflow(self, workflow_id: str) -> bodies.WorkflowState:
        """Return a workflow with all its stages. Raises WorkflowNotFoundError."""
        with without_collector():
            # What was read is gone before the collector comes back, which would look through it.
            return self._workflow(workflow_id)

    def _workflow(self, workflow_id: str) -> bodies.WorkflowState:
        since_ms = self.store.time_ms()
        view = read_view(self.store, workflow_id, without_payloads=True)
        crowds, regions = read_crowds(self.store, view.id, view.stages), read_regions(self.store, view.id)
        has_moved = bool(self.store.events(workflow_id, f"{since_ms}-0", None, 1))
        return workflow_state(view, crowds, regions, has_moved=has_moved)

    def changed(self, workflow_id: str, refs: set[str]) -> tuple[str, list[bodies.StageLine]]:
        """Return the workflow's status and these stages as they are now. Raises WorkflowNotFoundError."""
        part = read_part(self.store, workflow_id, refs, without_payloads=True)
        lines = [stage_line(ref, view, part.record, part.crowds.get(ref)) for ref, view in part.stages.items()]
        return part.record.status, lines

    def stage(self, workflow_id: str, ref: str) -> bodies.StageDetail:
        """Return all there is to know about a stage.

        Raises:
            WorkflowNotFoundError: there is no such workflow (any more).
            NotFoundError: it has no such stage.

        """
        part = read_part(self.store, workflow_id, {ref})
        if ref not in part.stages:
            raise NotFoundError(f"workflow {workflow_id} has no stage {ref!r}")
        view = part.stages[ref]
        if not (part.record.is_live or part.record.is_settled):
            # Whether its join was cut short is told by all the others.
            whole = read_view(self.store, workflow_id, without_payloads=True).stages.get(ref, view)
            view = replace(view, is_cut=whole.is_cut)
        detail = stage_detail(ref, view, part.record, part.crowds.get(ref), part.now_ms)
        return redacted(detail, Redaction(self.client.settings.redact_keys))

    def definition(self, workflow_id: str) -> dict[str, Any]:
        """Return the definition that a workflow was started with, secrets left out. Raises WorkflowNotFoundError."""
        shown: dict[str, Any] = Redaction(self.client.settings.redact_keys).shown(
            read_view(self.store, workflow_id).definition
        )
        return shown

    def events(self, workflow_id: str, from_id: str, ref: str | None = None) -> bodies.EventPage:
        """Return what happened after an event, to one stage if it is named, oldest first, at most 1,000 or a few more.

        Raises:
            WorkflowNotFoundError: there is no such workflow (any more).

        """
        self.client.handle(workflow_id).status()
        feed = EventFeed(self.store, workflow_id, from_id)
        found: list[bodies.EventLine] = []
        for _ in range(_PAGES_LOOKED_THROUGH):
            stored = feed.next_batch()
            found += [event_line(event) for event in stored if ref in (None, event.ref_id)]
            if len(stored) < _EVENTS_PER_PAGE:
                return bodies.EventPage(found, None)
            if ref is None or len(found) >= _EVENTS_PER_PAGE:
                break
        return bodies.EventPage(found, feed.position)

    def why(self, workflow_id: str) -> bodies.Reasons:
        """Return why a workflow does not go on, or failed. Raises WorkflowNotFoundError."""
        view = read_view(self.store, workflow_id, without_payloads=True)
        found = explain_view(self.store, view, self.client.settings)
        return bodies.Reasons([reason_line(reason) for reason in found])

    # -- acting --------------------------------------------------------------------------------------------------------

    def start(self, wanted: bodies.Start) -> str:
        """Start a workflow; return its id.

        Raises:
            InvalidWorkflowError: the definition is not sound.
            IdempotencyConflictError: the key stands for another definition.

        """
        own = {} if wanted.priority is None else {"priority": wanted.priority}
        return self.client.start({**wanted.definition, **own}, idempotency_key=wanted.idempotency_key).id

    def cancel(self, workflow_id: str, reason: str, user: str) -> Outcome:
        """End a workflow CANCELED, in the name of a user. Raises WorkflowNotFoundError."""
        runtime = self.client.runtime
        return act(runtime, workflow_id, lambda event_id: outside.cancel(workflow_id, event_id, reason, user))

    def pause(self, workflow_id: str, user: str) -> Outcome:
        """Hold back what would begin work, in the name of a user. Raises WorkflowNotFoundError."""
        return act(self.client.runtime, workflow_id, lambda event_id: outside.pause(workflow_id, event_id, user))

    # -- what all workflows share --------------------------------------------------------------------------------------

    def locks(self) -> bodies.Locks:
        """Return all locks that are held or waited for, and the deadlocks among them."""
        found = all_locks(self.store)
        deadlocks = deadlocks_among(self.store, found, _LOCKS_FOLLOWED)
        return bodies.Locks(
            [lock_line(lock, deadlocks.mark(lock.name)) for lock in found],
            [deadlock_line(one) for one in deadlocks.found],
            deadlocks.is_cut,
            self.store.time_ms(),
        )

    def fleet(self) -> bodies.FleetState:
        """Return workers, queues, partitions and what the server says of itself."""
        now_ms, due = self.store.first_due(range(self.store.partitions()), _DUE_LOOKED_AT)
        lines = self.store.fleet()
        fleet = Fleet(lines, now_ms)
        queues, broker_error = self._queues(fleet)
        health: Mapping[str, str] = self.store.health()
        return bodies.FleetState(
            workers=_workers(fleet, sorted(lines)),
            queues=queues,
            partitions=[_partition(number, [one.due_ms for one in due.get(number, ())], now_ms) for number in due],
            server=bodies.ServerLine(
                health["url"],
                health["redis_version"],
                health["ping_ms"],
                health["appendonly"],
                health["maxmemory_policy"],
            ),
            broker_error=broker_error,
            now_ms=now_ms,
        )

    def _queues(self, fleet: Fleet) -> tuple[list[bodies.QueueLine], str]:
        settings = self.client.settings
        served = {name for worker in fleet.live for name in worker.queues}
        names = sorted({settings.control_queue, settings.work_queue, *settings.task_queues.values(), *served})
        lengths: Mapping[str, int] = {}
        told = ""
        try:
            lengths = self._lengths(names)
        except (QueueError, ConfigurationError) as error:
            told = str(error)
        return [bodies.QueueLine(name, lengths.get(name, -1), len(fleet.listening(name))) for name in names], told

    def _lengths(self, queues: Sequence[str]) -> Mapping[str, int]:
        settings = self.client.settings
        # One connection is enough, and Celery's is not for two threads at once.
        with self._broker:
            return queue_lengths(settings.broker_url or settings.redis_url, settings, queues)

    def dead(self) -> bodies.DeadLetters:
        """Return all dead letters."""
        return bodies.DeadLetters([letter_line(letter) for letter in dead_letters(self.store)])

    def letter(self, letter_id: str) -> bodies.DeadLetterLine:
        """Return one dead letter. Raises NotFoundError."""
        found = read_letter(self.store, letter_id)
        if found is None:
            raise NotFoundError(f"there is no message {letter_id!r}: it was handled or dropped")
        return letter_line(found)

    def replay(self, letter_id: str) -> Outcome:
        """Handle a dead letter again. Raises WorkflowNotFoundError."""
        return replay(self.client.runtime, letter_id)

    def drop(self, letter_id: str) -> Outcome:
        """Give a dead letter up; its workflow ends TERMINAL. Raises WorkflowNotFoundError."""
        return drop(self.client.runtime, letter_id)


def _workers(fleet: Fleet, ids: Sequence[str]) -> list[bodies.WorkerLine]:
    return [
        bodies.WorkerLine(
            worker.id,
            worker.node,
            worker.version,
            worker.silent_ms,
            worker.answers,
            sorted(worker.queues),
            sorted(worker.types),
        )
        for worker in map(fleet.find, ids)
        if worker is not None
    ]


def _partition(number: int, due_ms: list[int], now_ms: int) -> bodies.PartitionLine:
    late = [now_ms - one for one in due_ms if one <= now_ms]
    return bodies.PartitionLine(number, len(late), max(late, default=0))
