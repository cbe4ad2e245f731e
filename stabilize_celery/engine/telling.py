"""What an event says of the run that it is about."""

__all__ = ["whose"]


def whose(thread: str) -> dict[str, str | int]:
    """Return the fields of an event that tell its run, and the instance where it is one's (`<run>.<index>`)."""
    run, dot, index = thread.partition(".")
    return {"thread": run, "instance": int(index)} if dot else {"thread": run}
