"""What goes wrong on the command line, as one sentence and an exit code."""

import re

from stabilize_celery.errors import (
    PayloadError,
    QueueError,
    StabilizeError,
    UnreachableError,
    WorkflowFailedError,
    WritesRefusedError,
)

__all__ = [
    "DONE",
    "EXIT_CODES",
    "FAILED",
    "MISTAKE",
    "NOBODY_READS",
    "TRY_AGAIN",
    "Mistake",
    "NoServerError",
    "code_of",
    "failure_object",
    "sentence_of",
    "told_by_system",
    "without_endless",
]

_ENDLESS = re.compile(r"\S{500,}")

DONE = 0
FAILED = 1
"""The workflow failed or has not ended in time, or a check found something."""
MISTAKE = 2
"""Bad usage or bad input, an unknown id too; what was asked for is not possible."""
TRY_AGAIN = 3
"""No server answers, or others changed the same thing at each try: the same command may succeed later."""
NOBODY_READS = 141
"""What was printed to ended before we did: the code of a program that SIGPIPE ends."""
EXIT_CODES = (
    "Exit codes: 0 done; 1 the workflow failed or has not ended in time, or a check found something; "
    "2 wrong usage or input, or no effect; 3 no server, or too busy: try again."
)


class Mistake(StabilizeError):  # noqa: N818 - a mistake of the user's, not an error of the program
    """Bad input: the text says what, where, and what to do."""


class NoServerError(StabilizeError):
    """Nobody said where the server is, and there is none of our own."""


def code_of(error: StabilizeError | TimeoutError) -> int:
    """Return the exit code for an error."""
    if isinstance(error, TimeoutError | WorkflowFailedError):
        return FAILED
    return TRY_AGAIN if error.retryable or isinstance(error, QueueError | NoServerError) else MISTAKE


def failure_object(error: StabilizeError | TimeoutError | str, code: int) -> dict[str, object]:
    """Return what is printed for an error as JSON; a text is bad usage."""
    kind = "UsageError" if isinstance(error, str) else type(error).__name__
    told = error if isinstance(error, str) else sentence_of(error)
    return {"error": {"kind": kind, "message": told, "exit_code": code}}


def without_endless(text: str) -> str:
    """Cut what somebody gave and no terminal wants back whole: a payload, an id; paths and URLs are shorter."""
    return _ENDLESS.sub(lambda found: f"{found[0][:100]}…{found[0][-1]}", text)


def told_by_system(error: OSError) -> str:
    """Return why the system refused something, and what: `Permission denied: '/etc/x'`."""
    if error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.strerror}: {str(error.filename)!r}"


def sentence_of(error: StabilizeError | TimeoutError) -> str:
    """Return what is printed for an error."""
    text = without_endless(str(error))
    first = text.partition(" ")[0].rstrip(",;")
    # A file, an id or an option stays as it is written; so does what a colon names.
    told = text[:1].upper() + text[1:] if first.replace("'", "").isalpha() and not text.startswith("'") else text
    if isinstance(error, UnreachableError) and not isinstance(error, PayloadError | WritesRefusedError):
        told += " Set STABILIZE_REDIS_URL or --redis-url; without a URL an embedded server is used."
    return told
