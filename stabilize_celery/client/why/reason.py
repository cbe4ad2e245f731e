"""One reason, as told to people."""

from dataclasses import dataclass

from stabilize_celery.client.why.cycle import Deadlock
from stabilize_celery.client.words import in_line

__all__ = ["Reason"]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a stage does not continue, or failed. `ref_id` is empty where it is about the whole workflow.

    Attributes:
        kind: In one word, for programs: mutex, deadlock, signal, retry, running, lost, queued, unattended …
        text: What it waits for, or what went wrong.
        detail: More about it: who holds it, since when, what is before it.
        advice: What to do, often a command.
        traceback: Of the exception that it failed with.
        deadlock: Who holds and wants what, where the kind is `deadlock`.

    """

    ref_id: str
    kind: str
    text: str
    detail: str = ""
    advice: str = ""
    traceback: str = ""
    deadlock: Deadlock | None = None

    def __str__(self) -> str:
        told = f"{in_line(self.ref_id) or 'workflow'}: {self.text}"
        return f"{told}. {self.detail}" if self.detail else told
