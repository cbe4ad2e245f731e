"""Reasons of a workflow by stage, and what another worker would have written."""

from stabilize_celery.client import Reason
from stabilize_celery.engine.places import ledger
from stabilize_celery.engine.state import ENTRY
from stabilize_celery.engine.steps import SetFields, workflow_slot
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.store.contract import LedgerChange, Transaction
from tests.unit.client.world import World


def said(world: World, *stages: StageExecution, **more: object) -> dict[str, Reason]:
    """Start a workflow, let it settle; return its reasons by stage."""
    return reasons(world.start(*stages, **more).why())


def reasons(found: list[Reason]) -> dict[str, Reason]:
    return {reason.ref_id: reason for reason in found}


def write(world: World, workflow_id: str, *ledger_changes: LedgerChange, **fields: dict[str, object]) -> None:
    """Change ledger entries by hand, as another worker would."""
    changes = [SetFields(ledger(name.replace("__", ":")), ENTRY.encode(**values)) for name, values in fields.items()]
    with world.fleet.store.session(workflow_slot(workflow_id)) as session:
        session.commit(Transaction(changes, ledger_changes))


def run_name(world: World, handle: object) -> str:
    """Return the ledger name of the task that the workflow is at."""
    (found,) = (
        entry.name
        for entries in world.fleet.store.first_due(range(16), 100)[1].values()
        for entry in entries
        if entry.name.startswith("Run:")
    )
    return found
