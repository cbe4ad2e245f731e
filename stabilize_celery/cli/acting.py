"""Commands that act on a workflow or on what runs in its stages: the outside events."""

from typing import Annotated, Any

import typer

from stabilize_celery.cli.commands import command
from stabilize_celery.cli.completing import ref_ids
from stabilize_celery.cli.failures import DONE, MISTAKE, TRY_AGAIN, Mistake
from stabilize_celery.cli.json_input import JsonMistake, json_of
from stabilize_celery.cli.looking import WorkflowId
from stabilize_celery.cli.session import Session
from stabilize_celery.client import Outcome

__all__ = ["add_acting", "tell"]

_MOST_SHOWN = 200
"""So much of what can't be read is shown (characters)."""

RefId = Annotated[str, typer.Argument(metavar="REF", help="A stage's ref_id.", autocompletion=ref_ids)]


def add_acting(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "cancel")(cancel)
    command(app, "pause")(pause)
    command(app, "resume")(resume)
    command(app, "restart")(restart)
    command(app, "signal")(signal)
    command(app, "skip-stage")(skip_stage)
    command(app, "cancel-stage")(cancel_stage)
    command(app, "cancel-region")(cancel_region)
    command(app, "choose")(choose)
    command(app, "add-instances")(add_instances)
    command(app, "complete-instances")(complete_instances)


def tell(session: Session, workflow_id: str, outcome: Outcome) -> int:
    """Print what an act did; return the exit code: where it had no effect 3 if trying again may help, else 2."""
    if session.as_json:
        session.print_json({"id": workflow_id, "took_effect": outcome.took_effect, "told": outcome.told})
    elif outcome:
        session.print(f"{workflow_id}: {outcome.told}")
    if not (outcome or session.as_json):
        session.err.print(f"{workflow_id}: no effect: {outcome.told}", markup=False)
    if outcome:
        return DONE
    return TRY_AGAIN if outcome.retryable else MISTAKE


def cancel(
    session: Session,
    workflow_id: WorkflowId,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why: shown with the workflow.")] = "",
) -> int:
    """Cancel a workflow; running code is asked to stop."""
    return tell(session, workflow_id, session.client().handle(workflow_id).cancel(reason))


def pause(session: Session, workflow_id: WorkflowId) -> int:
    """Pause a workflow: what runs ends, nothing new starts."""
    return tell(session, workflow_id, session.client().handle(workflow_id).pause())


def resume(session: Session, workflow_id: WorkflowId) -> int:
    """Resume a paused workflow."""
    return tell(session, workflow_id, session.client().handle(workflow_id).resume())


def restart(session: Session, workflow_id: WorkflowId, ref_id: RefId) -> int:
    """Run a stage of an ended workflow, and what follows it, again."""
    return tell(session, workflow_id, session.client().handle(workflow_id).restart(ref_id))


def signal(
    session: Session,
    workflow_id: WorkflowId,
    ref_id: RefId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The signal's name.")],
    payload: Annotated[str | None, typer.Argument(metavar="JSON", help="Data for the task, as JSON.")] = None,
    transient: Annotated[bool, typer.Option("--transient", help="Lost if no task waits for it now.")] = False,
    instance: Annotated[
        int | None, typer.Option("--instance", min=0, metavar="N", help="Only to this instance, from 0.")
    ] = None,
) -> int:
    """Send a signal to a stage."""
    given = _json(payload)
    handle = session.client().handle(workflow_id)
    try:
        return tell(session, workflow_id, handle.signal(ref_id, name, given, transient, instance=instance))
    except ValueError as error:
        raise Mistake(str(error)) from None


def _json(text: str | None, what: str = "the payload") -> Any:
    try:
        return None if text is None else json_of(text, f"{what} {_cut(text)!r}")
    except JsonMistake as mistake:
        if mistake.is_json:
            raise
        raise Mistake(f"{mistake}; write text as '\"text\"'") from None


def _cut(text: str | None) -> str:
    shown = text or ""
    return shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}…"


def skip_stage(session: Session, workflow_id: WorkflowId, ref_id: RefId) -> int:
    """Skip the rest of a stage's work; its branch continues."""
    return tell(session, workflow_id, session.client().handle(workflow_id).skip_stage(ref_id))


def cancel_stage(session: Session, workflow_id: WorkflowId, ref_id: RefId) -> int:
    """Cancel a stage: its branch ends, others continue."""
    return tell(session, workflow_id, session.client().handle(workflow_id).cancel_stage(ref_id))


def cancel_region(
    session: Session,
    workflow_id: WorkflowId,
    region: Annotated[str, typer.Argument(metavar="REGION", help="The region's name.")],
) -> int:
    """Cancel the work in a region's stages."""
    return tell(session, workflow_id, session.client().handle(workflow_id).cancel_region(region))


def choose(session: Session, workflow_id: WorkflowId, ref_id: RefId) -> int:
    """Choose an offered stage; the others of its group are withdrawn."""
    return tell(session, workflow_id, session.client().handle(workflow_id).choose(ref_id))


def add_instances(
    session: Session,
    workflow_id: WorkflowId,
    ref_id: RefId,
    number: Annotated[int, typer.Argument(min=1, metavar="N", help="How many.")] = 1,
    names: Annotated[str | None, typer.Argument(metavar="JSON", help="A JSON object of values that they see.")] = None,
) -> int:
    """Add instances to a stage that allows it."""
    seen = _json(names, "the context")
    if not isinstance(seen, dict | None):
        raise Mistake(f"the context {_cut(names)!r} is not a JSON object; write it as '{{\"name\": 1}}'")
    handle = session.client().handle(workflow_id)
    try:
        return tell(session, workflow_id, handle.add_instances(ref_id, number, seen))
    except ValueError as error:
        raise Mistake(str(error)) from None


def complete_instances(session: Session, workflow_id: WorkflowId, ref_id: RefId) -> int:
    """End a multi-instance stage early; its branch continues."""
    return tell(session, workflow_id, session.client().handle(workflow_id).complete_instances(ref_id))
