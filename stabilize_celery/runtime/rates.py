"""Rate limits of task types: whose turn it is, over all workers. A turn is kept in Redis, and taken by no other."""

from random import uniform

from stabilize_celery.engine.steps import Change, DeleteFields, Expire, Fields, SetFields, lock_slot
from stabilize_celery.store.contract import Store, Transaction

__all__ = ["RATE_LIMIT", "wait_for_turn_ms"]

RATE_LIMIT = "rate limit"
"""How the reason begins for which a task rests that waits for its turn."""
_NEXT, _TURNS = "next", "turns"
_TRIES = 10
_BUSY_MS = (20, 100)
_KEPT_MS = 24 * 3600 * 1000
"""How long turns are kept after the last one was given (ms): of tasks that were cancelled, too."""


def wait_for_turn_ms(store: Store, task_type: str, per_s: float, who: str) -> int:
    """Return how long an execution has to wait (ms); 0: it is its turn, which is used up by that.

    Args:
        store: Where turns are kept.
        task_type: What is limited.
        per_s: Executions per second, evenly spread (count).
        who: Whose turn it is: asking again before it has come gives the same one.

    """
    next_turn, own_turn = Fields(_NEXT, ("us",)), Fields(_TURNS, (who,))
    step_us = round(1_000_000 / per_s)
    for _ in range(_TRIES):
        with store.session(lock_slot(f"RATE:{task_type}")) as session:
            snapshot = session.read([next_turn, own_turn], [_NEXT, _TURNS])
            now_us = snapshot.now_us
            free_us = max(now_us, int(snapshot[next_turn].get("us", b"0")))
            kept_us = int(snapshot[own_turn].get(who, b"0"))
            if kept_us > now_us:
                return _ms(kept_us - now_us)
            changes: list[Change] = []
            if kept_us:
                changes.append(DeleteFields(_TURNS, (who,)))
            else:
                changes.append(SetFields(_NEXT, {"us": free_us + step_us}))
                if free_us > now_us:
                    changes.append(SetFields(_TURNS, {who: free_us}))
            kept_ms = _KEPT_MS + _ms(free_us - now_us)
            changes += [Expire(_NEXT, kept_ms), Expire(_TURNS, kept_ms)]
            if session.commit(Transaction(changes)) is not None:
                return 0 if kept_us else _ms(free_us - now_us)
    return round(uniform(*_BUSY_MS))  # noqa: S311 - so that those who lost don't all come back at once


def _ms(us: int) -> int:
    return -(-us // 1000)
