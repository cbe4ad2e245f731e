"""The command that shows locks: who holds each, who waits in which order, and who can't go on because of it."""

from collections.abc import Iterator

import typer
from rich.cells import cell_len
from rich.text import Text

from stabilize_celery.cli.commands import command
from stabilize_celery.cli.failures import DONE
from stabilize_celery.cli.plain import padded, plain
from stabilize_celery.cli.session import Session
from stabilize_celery.client.why.cycle import MOST_TOLD, Deadlock
from stabilize_celery.client.why.deadlocks import Deadlocks, deadlocks_among
from stabilize_celery.client.why.locks import LockFacts, Party, all_locks
from stabilize_celery.client.words import duration, in_line, ordinal, plural, short_id

__all__ = ["add_locking", "deadlock_lines", "lock_lines", "lock_object"]

_MOST_FOLLOWED = 500
_MOST_WAITERS_SHOWN = 20


def add_locking(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "locks")(locks)


def locks(session: Session) -> int:
    """Show who holds each mutex, since when, who waits for it, and deadlocks."""
    store = session.client().store
    found, now_ms = all_locks(store), store.time_ms()
    deadlocks = deadlocks_among(store, found, _MOST_FOLLOWED)
    if session.as_json:
        session.print_json([lock_object(lock, deadlocks) for lock in found])
        return DONE
    if not found:
        session.print("No mutex is held or waited for.")
    for lock in found:
        _print(session, lock_lines(lock, deadlocks, now_ms))
    for deadlock in deadlocks.found:
        session.print()
        _print(session, deadlock_lines(deadlock, now_ms))
    if deadlocks.is_cut:
        session.say(f"Only the first {_MOST_FOLLOWED} locks and workflows were followed: there may be more deadlocks.")
    return DONE


def _print(session: Session, lines: Iterator[str]) -> None:
    for position, line in enumerate(lines):
        session.out.print(Text(in_line(line), style="" if position else "bold"), soft_wrap=not session.is_live)


def lock_lines(lock: LockFacts, deadlocks: Deadlocks, now_ms: int) -> Iterator[str]:
    """Return what is shown of a lock: its key, scope and limit; a line for each holder, and for each who waits."""
    narrowed = f" {short_id(lock.within) if lock.scope == 'WORKFLOW' else lock.within}" if lock.within else ""
    mark = deadlocks.mark(lock.name)
    yield f"{lock.key}  {lock.scope}{narrowed}, {lock.limit} at a time{f'  {mark.upper()}' if mark else ''}"
    held = [plain(in_line(_line("held", holder, now_ms))) for holder in lock.holders]
    width = max(map(cell_len, held), default=0)
    for holder, line in zip(lock.holders, held, strict=True):
        yield f"{padded(line, width)}  token {holder.token}"
    for position, waiter in enumerate(lock.waiters[:_MOST_WAITERS_SHOWN], 1):
        yield _line(ordinal(position), waiter, now_ms)
    if len(lock.waiters) > _MOST_WAITERS_SHOWN:
        yield f"  and {plural(len(lock.waiters) - _MOST_WAITERS_SHOWN, 'other')} (--json shows all)"


def _line(place: str, party: Party, now_ms: int) -> str:
    since = duration(now_ms - party.since_ms) if party.since_ms else ""
    return f"  {place:<5}  {since:>8}  {party}"


def deadlock_lines(deadlock: Deadlock, now_ms: int) -> Iterator[str]:
    """Return what is shown of a deadlock: its parties, and what would break it."""
    is_one = len(deadlock.links) == 1
    told = "it waits for a mutex that it holds itself" if is_one else "each of these waits for another one to end"
    yield f"Deadlock: {told}. To break it, end {'it' if is_one else 'one of them'}:"
    for line in deadlock.told(now_ms):
        yield f"  {line}"
    for line in deadlock.commands[:MOST_TOLD]:
        yield f"  → {line}"


def lock_object(lock: LockFacts, deadlocks: Deadlocks) -> dict[str, object]:
    """Return a lock as JSON has it. Times in epoch ms."""
    sides = {"holders": lock.holders, "waiters": lock.waiters}
    parties = {side: [_party(one) for one in sides[side]] for side in sides}
    cycles = [one.as_objects() for one in deadlocks.found if any(link.holds == lock.name for link in one.links)]
    told = {"key": lock.key, "name": lock.name, "scope": lock.scope, "limit": lock.limit, **parties}
    return told | {"is_stuck": lock.name in deadlocks.locks, "deadlocks": cycles}


def _party(party: Party) -> dict[str, object]:
    fields = ("workflow_id", "workflow_name", "ref_id", "section", "since_ms", "token")
    return {name: getattr(party, name) for name in fields}
