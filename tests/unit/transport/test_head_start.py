"""What the next message begins with is read by the commit that takes it, if that has sent it (decision 017)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import redis

from stabilize_celery.engine import places
from stabilize_celery.engine.steps import Hash, Slot, workflow_slot
from stabilize_celery.errors import UnreachableError
from stabilize_celery.models.messages import CompleteStage, Message, RunTask, SettleWorkflow, StartStage
from stabilize_celery.runtime.sessions import Sessions
from stabilize_celery.settings import PER_MESSAGE
from stabilize_celery.store.contract import Transaction
from tests.unit.transport.child import Child, chain, statuses


@pytest.fixture
def child(redis_url: str) -> Iterator[Child]:
    made = Child(redis_url, PER_MESSAGE)
    yield made
    made.close()


def test_a_chain_costs_four_round_trips_a_stage(child: Child) -> None:
    """Seven without: each of the three messages reads nothing of its own, but the first of its kind."""
    (workflow,) = child.run(chain(6))

    assert set(statuses(workflow)) == {"SUCCEEDED"}
    assert child.costs_of("StartStage")[2:] == [1] * 4
    assert child.costs_of("RunTask")[2:] == [2] * 4
    assert child.costs_of("CompleteStage")[1:-1] == [1] * 4


def test_where_others_wait_little_is_read_ahead_in_vain(child: Child) -> None:
    """Of each kind that is read ahead which came next when it was sent the last time."""
    found = child.run(*(chain(6) for _ in range(8)))

    assert all(set(statuses(workflow)) == {"SUCCEEDED"} for workflow in found)
    kinds = [kind for kind, _ in child.costs]
    assert kinds.count("RunTask") == 48
    assert len(child.asked_ahead) / 2 < child.used_ahead < len(kinds) / 2


@pytest.mark.parametrize("kind", [RunTask, CompleteStage, StartStage])
def test_what_others_do_meanwhile_counts(child: Child, kind: type[Message]) -> None:
    """What was read ahead is watched: a message whose workflow was cancelled behind its taking decides anew."""
    handle = child.client.start(chain(4))

    def cancel(message: Message) -> None:
        if type(message) is kind and len(child.costs) > 4:
            child.meanwhile = lambda _: None
            handle.cancel()

    child.meanwhile = cancel
    child.go_on()

    told = [event.kind for event in handle.events()]
    behind = told[told.index("workflow.canceled") :]
    assert child.runtime.read(handle.id).status.name == "CANCELED"
    assert not {"stage.started", "task.started", "task.completed", "stage.completed"} & set(behind)


def test_a_message_that_comes_in_between_is_handled_on_its_own(child: Child) -> None:
    """What was read for the expected one is given up."""
    first, second = child.client.start(chain(4)), chain(2)

    def start_another(message: Message) -> None:
        if isinstance(message, RunTask) and len(child.costs) > 4:
            child.meanwhile = lambda _: None
            child.client.start(second)

    child.meanwhile = start_another
    child.go_on()

    for workflow_id in (first.id, second.id):
        assert set(statuses(child.runtime.read(workflow_id))) == {"SUCCEEDED"}


def test_connections_come_back_however_long_it_goes_on(child: Child) -> None:
    """A thousand messages, each begun on what the one before has read, need no more connections than one."""
    with redis.Redis.from_url(child.settings.redis_url) as server:
        child.run(chain(2))
        before = len(server.client_list())

        (workflow,) = child.run(chain(350))

        assert set(statuses(workflow)) == {"SUCCEEDED"}
        assert len(server.client_list()) == before


def test_what_a_commit_turns_out_to_owe_is_sent_taken_and_read_ahead_at_once(child: Child) -> None:
    """A look at a join, or at a workflow that may have ended: the commit itself tells whether it is to be sent."""
    left = [chain(1) for _ in range(3)]

    def another(message: Message) -> None:
        if isinstance(message, SettleWorkflow) and left:
            child.client.start(left.pop())

    child.meanwhile = another
    child.run(chain(1))

    assert left == []
    assert child.costs_of("SettleWorkflow") == [2, 1, 1, 1]
    assert child.costs_of("CompleteStage")[1:] == [2] * 3  # its commit, and what sends, takes and reads


def test_what_cannot_be_sent_then_is_owed(child: Child, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    """The commit before it was written: it does not fail, and the keeper sends again."""
    child.run(chain(1))
    commit_last = Sessions.commit_last

    def unreachable(self: Sessions, slot: Slot, transaction: Transaction, sent: Sequence[Message]) -> object:
        if transaction.posts and not transaction.changes:
            raise UnreachableError("the state server (Redis)", redis_url, "gone")
        return commit_last(self, slot, transaction, sent)

    monkeypatch.setattr(Sessions, "commit_last", unreachable)
    (workflow,) = child.run(chain(1))

    assert statuses(workflow) == ["RUNNING", "SUCCEEDED"]
    assert child.store.look(workflow_slot(workflow.id), [query := Hash(places.ledger("Settle"))])[query]
