"""Several decisions in one EXEC: each sees what those before it decided, and what is written is what they meant."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.plan import StagePlan
from stabilize_celery.engine.steps import (
    Append,
    DeleteFields,
    Fields,
    Hash,
    Increment,
    Items,
    Position,
    SetFields,
    workflow_slot,
)
from stabilize_celery.runtime.definitions import Definitions
from stabilize_celery.runtime.draft import Draft, UnfitError
from stabilize_celery.store.contract import Drop, Due, Put, Session, Transaction
from stabilize_celery.store.memory import MemoryStore

SLOT = workflow_slot("wf")
ENTRY: dict[str, str | int | bytes] = {"t": "CompleteStage", "a": b"", "nb": 0}


@pytest.fixture
def session() -> Iterator[Session]:
    with MemoryStore(lambda: 1_000_000, partitions=1).session(SLOT) as session:
        session.commit(Transaction([SetFields("h", {"a": "1", "n": 5})]))
        yield session


@pytest.fixture
def draft(session: Session) -> Draft:
    ticks = count()
    return Draft("wf", session, lambda: next(ticks), Definitions())


@pytest.mark.parametrize("reads_before", [True, False])
def test_what_is_read_is_as_if_the_draft_were_written(draft: Draft, reads_before: bool) -> None:
    """Whether the hash was known when it was changed, or is read only after that."""
    if reads_before:
        draft.read((Hash("h"),), ("h",))
    draft.add(Transaction([SetFields("h", {"b": "2"}), DeleteFields("h", ("a",)), Increment("h", "n", 3)]))

    found = draft.read((Hash("h"), Fields("h", ("n", "a"))), ("h",))

    assert found.hash("h") == {"b": b"2", "n": b"8"}
    assert found[Fields("h", ("n", "a"))] == {"n": b"8"}


def test_what_was_read_under_watch_guards_the_whole_draft() -> None:
    """A key that only the first decision read may not change before the last one is written."""
    store = MemoryStore(partitions=1)
    with store.session(SLOT) as mine, store.session(SLOT) as theirs:
        draft = Draft("wf", mine, lambda: 1, Definitions())
        draft.read((Hash("h"),), ("h",))
        draft.add(Transaction([SetFields("other", {"x": "1"})]))
        theirs.commit(Transaction([SetFields("h", {"a": "2"})]))

        assert mine.commit(draft.written()) is None


def test_a_message_that_is_handled_at_once_is_never_written(draft: Draft) -> None:
    """Only that it is gone is: in case it was owed before."""
    draft.add(Transaction(ledger=[Put("Done:t", ENTRY, 10)]))
    assert draft.read((Hash(places.ledger("Done:t")),)).hash(places.ledger("Done:t"))["t"] == b"CompleteStage"

    draft.add(Transaction(ledger=[Drop("Done:t")]))

    assert draft.written().ledger == [Drop("Done:t")]
    assert draft.read((Hash(places.ledger("Done:t")),)).hash(places.ledger("Done:t")) == {}


def test_a_claim_becomes_part_of_the_entry_that_it_claims(draft: Draft) -> None:
    """Written after the entry was drafted, it wins over what the entry said, and moves its time."""
    draft.add(Transaction(ledger=[Put("Run:t..0", {**ENTRY, "att": 2}, 10)]))
    draft.add(
        Transaction([SetFields(places.ledger("Run:t..0"), {"own": "w", "att": 3})], [Due("Run:t..0", 9_000)]),
    )

    written = draft.written()

    assert written.ledger == [Put("Run:t..0", {**ENTRY, "att": 3, "own": "w"}, 9_000)]
    assert draft.read((Hash(places.ledger("Run:t..0")),)).hash(places.ledger("Run:t..0"))["att"] == b"3"


def test_a_merge_message_is_read_though_it_is_drafted(draft: Draft, session: Session) -> None:
    """Others may owe it too, with more in it."""
    session.commit(Transaction(ledger=[Put("Settle", {**ENTRY, "tries": 4}, 5, keep_earlier=True)]))
    draft.add(Transaction(ledger=[Put("Settle", ENTRY, 10, keep_earlier=True)]))

    assert draft.read((Hash(places.ledger("Settle")),)).hash(places.ledger("Settle"))["tries"] == b"4"


def test_what_only_the_server_can_tell_is_not_guessed(draft: Draft) -> None:
    """A list that the draft adds to can't be read before it is written."""
    draft.add(Transaction([Append("l", "x")]))

    with pytest.raises(UnfitError):
        draft.read((Items("l"),))


def test_the_place_of_an_item_is_told_by_the_commit(draft: Draft, session: Session) -> None:
    """The result of the change that appends it is its number, from 1."""
    session.commit(Transaction([Append("l", "before")]))
    draft.add(Transaction([SetFields("h", {"b": "2"}), Append("l", "x")]))
    asked = Position("l", "x")

    assert draft.read((asked,))[asked] is None
    results = session.commit(draft.written())

    place = draft.appended(asked)
    assert results is not None
    assert place is not None
    assert results[place] == 2


def test_time_goes_on_between_reads(draft: Draft) -> None:
    """The server's time of the last read, and what has passed since."""
    first = draft.read((Hash("h"),)).now_us

    assert draft.read((Hash("h"),)).now_us > first


def test_a_stage_of_a_definition_is_read_once() -> None:
    """By the digest of its workflow's definition: another one may come to have the same id."""
    plan = StagePlan(ref="a", stage_id="1", type="t", name="a")
    query = Fields(places.DEFINITION, ("s:a", "x:a"))
    definitions = Definitions()
    fields = {"s:a": pack(plan), "x:a": pack({})}
    definitions.learn("wf", b"digest", query, fields)

    assert definitions.answer("wf", b"digest", query) == fields
    assert definitions.answer("wf", b"other", query) is None
    assert definitions.answer("wf", b"digest", Fields(places.component("a"), ("in", "live"))) == {}
