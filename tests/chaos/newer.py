"""The app of crowd.py as a later version of this package would run it: a newer ledger, and one more kind of message."""

from __future__ import annotations

from stabilize_celery.models import messages

# Before anything else is imported that reads them.
messages.LEDGER_VERSION = 2


class SpeakUp(messages.Message, frozen=True, kw_only=True):
    """Say something in the workflow's history."""

    @property
    def name(self) -> str:
        return "SpeakUp"


messages.MESSAGE_TYPES["SpeakUp"] = SpeakUp

from crowd import app  # noqa: E402

from stabilize_celery.engine.handler import Rules, guard, opening  # noqa: E402
from stabilize_celery.engine.registry import HANDLERS  # noqa: E402
from stabilize_celery.engine.steps import Decision, Event, Handling  # noqa: E402

__all__ = ["app"]


def speak_up(message: SpeakUp, _rules: Rules, _attempt: int) -> Handling:
    snapshot = yield opening(message)
    return guard(message, snapshot) or Decision(events=[Event("workflow.spoke")])


HANDLERS[SpeakUp] = speak_up
