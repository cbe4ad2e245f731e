"""Bodies of broker messages, made from one that Celery made itself: a tenth of the time of `send_task`.

For each message type and queue, one message is sent through Celery and kombu into memory. What differs between two
messages of a type is cut out of it: the Celery task id, the keyword arguments, how they are shown, the delivery tag.
"""

import base64
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec
from celery import Celery
from celery.signals import after_task_publish, before_task_publish
from kombu.connection import Connection

from stabilize_celery.runtime.lanes import queue_and_step
from stabilize_celery.runtime.ports import Outgoing

__all__ = ["Payloads", "readable"]

_ID, _SHOWN, _BODY, _TAG = "stabilize.id", "stabilize.shown", "stabilize.body", "stabilize.tag"
Send = Callable[[Any, Sequence[Outgoing]], None]


class Payloads:
    """Makes the bodies of one app's messages. Safe to share between threads.

    Args:
        send: Sends messages with a producer of Celery's, the way all of them could be sent.

    """

    def __init__(self, app: Celery, send: Send) -> None:
        self._app = app
        self._send = send
        self._templates: dict[tuple[int, str, str], _Template] = {}

    def is_fit(self) -> bool:
        """Whether nobody wants to see messages being sent, and they are of the form that is known here."""
        return not (before_task_publish.receivers or after_task_publish.receivers) and self._is_plain

    @cached_property
    def _is_plain(self) -> bool:
        """Whether the app's settings, as they are when the first message is sent, make messages of that form."""
        conf = self._app.conf
        is_special = conf.task_send_sent_event or conf.task_compression
        return not is_special and conf.task_serializer == "json" and conf.task_protocol == _PROTOCOL

    def of(self, message: Outgoing) -> str:
        """Return what kombu would put on a Redis list, which is the message's lane."""
        key = (os.getpid(), message.kind, message.queue)
        template = self._templates.get(key)
        if template is None:
            template = self._templates.setdefault(key, self._made(message))
        return template.filled(message)

    def _made(self, message: Outgoing) -> "_Template":
        sample = Outgoing(message.kind, _ID, {}, message.queue)
        memory: Any = Connection  # kombu is untyped here
        with memory("memory://") as connection, connection.channel() as channel:
            self._send(self._app.amqp.Producer(channel), [sample])
            raw = channel.basic_get(queue_and_step(message.queue)[0], no_ack=True).serializable()
        return _Template(raw)


_PROTOCOL = 2
_encode = msgspec.json.Encoder().encode
_FIRST = ("ref_id", "task_type")


class _Template:
    def __init__(self, raw: dict[str, Any]) -> None:
        *_, self._options = json.loads(base64.b64decode(raw["body"]))
        for where in ("headers", "properties"):
            raw[where]["kwargsrepr"] = _SHOWN
        raw["body"] = _BODY
        raw["properties"]["delivery_tag"] = _TAG
        text = json.dumps(raw)
        self._pieces: list[tuple[str, str]] = []
        """Text, and the blank behind it."""
        while found := [(at, blank) for blank in (_ID, _SHOWN, _BODY, _TAG) if (at := text.find(blank)) >= 0]:
            at, blank = min(found)
            self._pieces.append((text[:at], blank))
            text = text[at + len(blank) :]
        self._end = text

    def filled(self, message: Outgoing) -> str:
        """Return the text of a message."""
        values = {
            _ID: _escaped(message.task_id),
            _SHOWN: _escaped(readable(message.kwargs)),
            _BODY: base64.b64encode(_encode(((), message.kwargs, self._options))).decode(),
            _TAG: os.urandom(16).hex(),
        }
        parts: list[str] = []
        for piece, blank in self._pieces:
            parts += (piece, values[blank])
        return "".join((*parts, self._end))


def _escaped(text: str) -> str:
    """Return text as it stands between the quotes of JSON."""
    return _encode(text)[1:-1].decode()


def readable(kwargs: Mapping[str, Any]) -> str:
    """Return keyword arguments as Flower and the log show them: whole, since they are ids only.

    The stage comes first: Flower cuts its column.
    """
    return repr({name: kwargs[name] for name in _FIRST if name in kwargs} | dict(kwargs))
