"""Messages: every type has a handler, a stable name, and a form on the wire and in the ledger that decodes for ever."""

import json
from base64 import b64decode
from pathlib import Path

import msgspec
import pytest

from stabilize_celery.engine.codec import pack, unpack
from stabilize_celery.engine.ledger import arguments_of, message_of
from stabilize_celery.engine.registry import HANDLERS
from stabilize_celery.engine.state import ENTRY, Entry
from stabilize_celery.models.messages import LEDGER_VERSION, MESSAGE_TYPES, Message
from stabilize_celery.runtime.ports import outgoing
from tests.unit.engine.driving import as_stored
from tests.unit.engine.samples import SAMPLES, W

GOLDEN = Path(__file__).parent / "golden"
NAMED = [pytest.param(name, message, id=name) for name, message in SAMPLES.items()]


def golden(message: Message) -> Path:
    """The file of a message; several samples of one type are told apart by their fields."""
    parts = [type(message).__name__]
    if getattr(message, "instance", None) is not None:
        parts.append("instance")
    if hasattr(message, "scope"):
        parts.append(message.scope)
    return GOLDEN / f"{'.'.join(parts)}.v{LEDGER_VERSION}.json"


def test_every_message_type_has_a_handler_and_a_sample() -> None:
    """A message without a handler would be acked and forgotten."""
    assert set(HANDLERS) == set(MESSAGE_TYPES.values())
    assert {type(message) for message in SAMPLES.values()} == set(MESSAGE_TYPES.values())


@pytest.mark.parametrize(("name", "message"), NAMED)
def test_names_are_stable(name: str, message: Message) -> None:
    """A name that changes with a version would owe everything twice during a rolling deployment."""
    assert message.name == name


def test_no_two_messages_share_a_name() -> None:
    """What is owed under one name is one thing."""
    assert len({message.name for message in SAMPLES.values()}) == len(SAMPLES)


@pytest.mark.parametrize(("name", "message"), NAMED)
def test_a_message_comes_back_from_the_broker(name: str, message: Message) -> None:
    """kwargs are JSON, and all that is needed to build the message again."""
    sent = outgoing(message, "q")
    received = json.loads(json.dumps(dict(sent.kwargs)))

    assert sent.task_id == f"{W}/{name}"
    assert msgspec.convert(received, MESSAGE_TYPES[sent.kind]) == message


@pytest.mark.parametrize(("name", "message"), NAMED)
def test_a_message_comes_back_from_the_ledger(name: str, message: Message) -> None:
    """The entry holds everything but the workflow's id, which is its key."""
    entry = Entry(t=type(message).__name__, a=arguments_of(message))

    assert message_of(entry, W) == message


@pytest.mark.parametrize(("name", "message"), NAMED)
def test_what_was_written_by_this_version_is_read_for_ever(name: str, message: Message) -> None:
    """Golden entries: a change that breaks one needs LEDGER_VERSION + 1, and a golden file of its own."""
    stored = json.loads(golden(message).read_text())
    fields = {field: b64decode(value) for field, value in stored["entry"].items()}
    entry = ENTRY.decode(fields)

    assert stored["name"] == name
    assert message_of(entry, W) == message
    assert msgspec.convert(stored["kwargs"], MESSAGE_TYPES[stored["type"]]) == message


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_every_golden_file_still_has_its_message(path: Path) -> None:
    """A file whose sample is gone would no longer be tested."""
    assert path in {golden(message) for message in SAMPLES.values()}


def test_fields_of_a_newer_version_are_left_alone() -> None:
    """An entry may hold more than this version knows."""
    message = SAMPLES["Start:t"]
    fields = as_stored(ENTRY.encode(t="StartStage", a=pack({**unpack(arguments_of(message)), "newer": 1})))

    assert message_of(ENTRY.decode({**fields, "newest": b"?"}), W) == message


def test_an_unknown_type_is_no_message() -> None:
    """Nor is an entry that is not there."""
    assert message_of(Entry(t="Unheard", a=pack({})), W) is None
    assert message_of(Entry(), W) is None
