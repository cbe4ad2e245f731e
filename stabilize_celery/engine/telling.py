"""What is told of a run: who an event is about, and why an inner workflow failed."""

__all__ = ["shortened", "told_of_inner", "whose"]

_HEAD, _TAIL = 300, 600
"""How much of a long reason is kept (characters): how it begins, and more of what is at the bottom of it."""


def whose(thread: str) -> dict[str, str | int]:
    """Return the fields of an event that tell its run, and the instance where it is one's (`<run>.<index>`)."""
    run, dot, index = thread.partition(".")
    return {"thread": run, "instance": int(index)} if dot else {"thread": run}


def shortened(reason: str) -> str:
    """Return a reason that is passed on from inner to outer workflows, without its middle if it is long.

    Each caller puts its own words in front of it: what began it all stands at its end.
    """
    return reason if len(reason) <= _HEAD + _TAIL else f"{reason[:_HEAD]} … {reason[-_TAIL:]}"


def told_of_inner(workflow_id: str, status: str, reason: str) -> str:
    """Return why a stage failed that is a call."""
    return f"inner workflow {workflow_id} ended {status}{f': {reason}' if reason else ''}"
