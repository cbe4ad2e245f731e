"""`dead`: messages that nobody handles any more."""

from typing import Annotated

import typer

from stabilize_celery.cli.acting import tell
from stabilize_celery.cli.commands import Group, command
from stabilize_celery.cli.completing import letter_ids
from stabilize_celery.cli.failures import DONE, Mistake
from stabilize_celery.cli.session import Session
from stabilize_celery.cli.showing import print_table
from stabilize_celery.client.dead_letters import DeadLetter, dead_letters, drop, read_letter, replay
from stabilize_celery.client.words import clock_time, plural

__all__ = ["dead_app"]

LetterId = Annotated[
    str,
    typer.Argument(metavar="ID", help="As `dead list` shows it: WORKFLOW/MESSAGE.", autocompletion=letter_ids),
]


def dead_app() -> typer.Typer:
    """Return the group of commands."""
    app = typer.Typer(cls=Group, help="Messages that could not be handled.", no_args_is_help=True)
    command(app, "list")(list_dead)
    command(app, "show")(show)
    command(app, "replay")(replay_one)
    command(app, "drop")(drop_one)
    return app


def list_dead(session: Session) -> int:
    """List dead letters, and messages that this version does not know."""
    client = session.client()
    found, now_ms = dead_letters(client.store), client.store.time_ms()
    if session.as_json:
        session.print_json([_object(letter) for letter in found])
    elif not found:
        session.print("There are no dead letters.")
    else:
        rows = [_row(letter, now_ms) for letter in found]
        print_table(session, ("ID", "MESSAGE", "STAGE", "TRIES", "SINCE", "ERROR"), rows)
    return DONE


def _row(letter: DeadLetter, now_ms: int) -> tuple[str, ...]:
    last = letter.error.strip().splitlines()[-1] if letter.error else ""
    kind = f"{letter.kind} (unknown)" if letter.is_unknown else letter.kind
    return (letter.id, kind, letter.ref_id, str(letter.tries), clock_time(letter.at_ms, now_ms), last)


def _object(letter: DeadLetter) -> dict[str, object]:
    fields = ("id", "workflow_id", "name", "kind", "ref_id", "tries", "error", "at_ms", "is_unknown")
    return {name: getattr(letter, name) for name in fields}


def show(session: Session, letter_id: LetterId) -> int:
    """Show one message with its whole error."""
    letter = read_letter(session.client().store, _checked(letter_id))
    if letter is None:
        raise Mistake(f"there is no message {letter_id!r}; `stabilize-celery dead list` shows those that failed")
    if session.as_json:
        session.print_json(_object(letter))
    else:
        session.print(f"{letter.kind} of stage {letter.ref_id or '-'} of workflow {letter.workflow_id}")
        session.print(plural(letter.tries, "try", "tries"))
        session.out.print(letter.error or "no error was recorded", markup=False, soft_wrap=True)
    return DONE


def _checked(letter_id: str) -> str:
    workflow_id, _, name = letter_id.partition("/")
    if not (workflow_id and name):
        raise Mistake(
            f"{letter_id!r} is not the id of a message: write WORKFLOW/MESSAGE, as `stabilize-celery dead list` "
            "shows it"
        )
    return letter_id


def replay_one(session: Session, letter_id: LetterId) -> int:
    """Handle a dead letter again."""
    return tell(session, letter_id, replay(session.client().runtime, _checked(letter_id)))


def drop_one(session: Session, letter_id: LetterId) -> int:
    """Give up a dead letter: its workflow ends TERMINAL."""
    return tell(session, letter_id, drop(session.client().runtime, _checked(letter_id)))
