"""Messages as a broker brings them: what a delivery, or the text of one, is a message of."""

import base64
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from stabilize_celery.models.messages import MESSAGE_TYPES, Message
from stabilize_celery.store.errors import StoreError
from stabilize_celery.store.keys import check_workflow_id
from stabilize_celery.transport.publish import SUBMIT, task_name

__all__ = ["ForeignMessageError", "is_of_others", "ledger_message", "message_of", "split_task_id"]

_KINDS = {task_name(kind): message for kind, message in MESSAGE_TYPES.items()}
_SPECIAL = ("eta", "expires", "group", "chord", "compression")
"""Headers of messages that Celery treats in a way of its own."""


class ForeignMessageError(ValueError):
    """A delivery that is no message of a ledger: somebody else sent it, and nothing is owed for it."""


def message_of(kind: type[Message], task_id: str, kwargs: Mapping[str, Any]) -> Message:
    """Return the message that a delivery carries; fields that this version does not know are left out.

    Raises:
        ForeignMessageError: it lacks ids, or its Celery task id is not the one of its ledger entry.

    """
    # Ids that are empty are not sent (see `runtime.ports.outgoing`).
    try:
        message = msgspec.convert({**_empty(kind), **kwargs}, kind)
    except msgspec.ValidationError as error:
        raise ForeignMessageError(
            f"{task_name(kind.__name__)} {task_id}: not a message that this version knows: {error}"
        ) from None
    if split_task_id(task_id) != (message.workflow_id, message.name):
        raise ForeignMessageError(
            f"{task_name(kind.__name__)} {task_id}: its Celery task id must be {message.workflow_id}/{message.name}"
        )
    try:
        check_workflow_id(message.workflow_id)
        msgspec.msgpack.encode(message)
    except (StoreError, ValueError, OverflowError) as error:
        raise ForeignMessageError(f"{task_name(kind.__name__)} {task_id!r}: {error}") from None
    return message


@cache
def _empty(kind: type[Message]) -> dict[str, str]:
    return {item.name: "" for item in msgspec.structs.fields(kind) if item.required}


def split_task_id(task_id: str) -> tuple[str, str]:
    """Return workflow id and ledger name of a Celery task id `<workflow id>/<name>`; the name may contain slashes.

    Raises:
        ForeignMessageError: it is no such id.

    """
    workflow_id, slash, name = task_id.partition("/")
    if not (workflow_id and slash and name):
        raise ForeignMessageError(
            f"{task_id!r} is not a ledger message: its Celery task id must be <workflow id>/<name>. Messages of "
            "workflows are sent by this package only; to start a workflow send stabilize.SubmitWorkflow."
        )
    return workflow_id, name


def ledger_message(taken: bytes) -> Message | None:
    """Return the ledger message in the text of a broker message; None: it is anything else, or not a plain one.

    Raises:
        ForeignMessageError: it says that it is one, and is none.

    """
    try:
        told = msgspec.json.decode(taken)
        headers, properties = told["headers"], told["properties"]
        kind = _KINDS.get(headers["task"])
        if kind is None or not _is_plain(told, headers, properties):
            return None
        _, kwargs, _ = msgspec.json.decode(base64.b64decode(told["body"]))
        task_id = headers["id"]
    except (msgspec.DecodeError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(kwargs, dict) or not isinstance(task_id, str):
        return None
    return message_of(kind, task_id, kwargs)


def is_of_others(taken: bytes) -> bool:
    """Whether nobody would send the text of a broker message again: it is no ledger's, of any version, and no probe."""
    try:
        name = str(msgspec.json.decode(taken)["headers"]["task"])
    except (msgspec.DecodeError, ValueError, KeyError, TypeError, RecursionError):
        return True
    return name == task_name(SUBMIT) or not name.startswith(task_name(""))


def _is_plain(told: Mapping[str, Any], headers: Mapping[str, Any], properties: Mapping[str, Any]) -> bool:
    is_json = told["content-type"] == "application/json" and properties["body_encoding"] == "base64"
    return is_json and not any(headers.get(name) for name in _SPECIAL)
