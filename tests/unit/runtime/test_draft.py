"""Several decisions in one EXEC: each sees what those before it decided, and what is written is what they meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, permutations

import pytest

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.plan import StagePlan, TaskPlan
from stabilize_celery.engine.state import RUN, Room, TaskState
from stabilize_celery.engine.steps import (
    Add,
    Append,
    Delete,
    DeleteFields,
    Fields,
    Hash,
    Increment,
    Items,
    Members,
    Position,
    Remove,
    SetFields,
    workflow_slot,
)
from stabilize_celery.runtime.definitions import Definitions, KnowingSession
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


@pytest.mark.parametrize("query", [Hash("counters"), Fields("counters", ("in",))], ids=["whole", "fields"])
def test_what_is_not_watched_is_read_anew_where_a_watch_begins(query: Hash | Fields) -> None:
    """What happened between a first look and the WATCH would be missed by both."""
    store = MemoryStore(partitions=1)
    with store.session(SLOT) as mine, store.session(SLOT) as theirs:
        draft = Draft("wf", mine, lambda: 1, Definitions())
        draft.read((Hash("counters"), query, Items("arrivals")))
        draft.add(Transaction([Increment("counters", "in", 1)]))
        theirs.commit(Transaction([Increment("counters", "in", 1), Append("arrivals", "x")]))

        found = draft.read((query, Items("arrivals"), Hash("entry")), ("entry",))

        assert found[query] == {"in": b"2"}
        assert found[Items("arrivals")] == ["x"]


def test_what_was_read_of_a_key_before_its_watch_began_is_read_again_by_the_next_decision() -> None:
    """The decision that has read it does without what others did in between; the next one must not."""
    store = MemoryStore(partitions=1)
    with store.session(SLOT) as mine, store.session(SLOT) as theirs:
        draft = Draft("wf", mine, lambda: 1, Definitions())
        draft.read((Hash("h"), Items("l")))
        theirs.commit(Transaction([SetFields("h", {"held": "1"}), Append("l", "x")]))
        draft.read((), ("h", "l"))

        found = draft.read((Hash("h"), Items("l")), ("h", "l"))

        assert found[Hash("h")] == {"held": b"1"}
        assert found[Items("l")] == ["x"]


def test_a_message_that_is_handled_at_once_is_never_written(draft: Draft) -> None:
    """Its name is used once: there is nothing on the server to take away."""
    draft.add(Transaction(ledger=[Put("Done:t", ENTRY, 10)]))
    assert draft.read((Hash(places.ledger("Done:t")),)).hash(places.ledger("Done:t"))["t"] == b"CompleteStage"

    draft.add(Transaction(ledger=[Drop("Done:t")]))

    assert draft.written().ledger == []
    assert draft.read((Hash(places.ledger("Done:t")),)).hash(places.ledger("Done:t")) == {}
    with pytest.raises(UnfitError):
        draft.add(Transaction([SetFields(places.ledger("Done:t"), {"own": "w"})]))


@pytest.mark.parametrize(
    "put",
    [Put("Settle", ENTRY, 10, keep_earlier=True), Put("TO:wait:t..0", {**ENTRY, "nb": 500}, 500)],
    ids=["merge message", "timer"],
)
def test_what_others_may_have_owed_under_that_name_is_taken_away(draft: Draft, put: Put) -> None:
    """A merge message is owed by several; a timer by one decision after the other."""
    draft.add(Transaction(ledger=[put]))
    draft.add(Transaction(ledger=[Drop(put.name)]))

    assert draft.written().ledger == [Drop(put.name)]


def test_what_was_owed_when_the_draft_began_is_taken_away(draft: Draft, session: Session) -> None:
    """Though the draft owes it again in between: a run that was held, and is woken, and starts."""
    session.commit(Transaction(ledger=[Put("Start:t", ENTRY, 5)]))
    key = places.ledger("Start:t")
    assert draft.read((Hash(key),), (key,)).hash(key) != {}
    draft.add(Transaction(ledger=[Drop("Start:t")]))
    draft.add(Transaction(ledger=[Put("Start:t", ENTRY, 10)]))
    draft.add(Transaction(ledger=[Drop("Start:t")]))

    assert draft.written().ledger == [Drop("Start:t")]


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


RUN_OF = places.run("t")
CHANGES_OF_A_RUN = {
    "plain-fields": SetFields(RUN_OF, RUN.encode(status="RUNNING", started_ms=7, code_runs=True)),
    "what-tasks-give": SetFields(
        RUN_OF, RUN.encode(context={"a": (1, 2)}, planned={"tasks": [TaskPlan("1", "n", "t")]})
    ),
    "structs": SetFields(RUN_OF, RUN.encode(tasks=[TaskState(status="RUNNING")], rooms=[Room("t", "s")])),
    "nothing-in-place-of-something": SetFields(RUN_OF, RUN.encode(sub=None)),
    "fields-that-are-gone": DeleteFields(RUN_OF, ("signal", "payload", "status")),
    "fields-of-nobodys-making": SetFields(RUN_OF, {"status": "BUFFERED", "later_versions": "x"}),
    "the-hash-itself": Delete((RUN_OF,)),
}


@pytest.mark.parametrize("changes", list(permutations(CHANGES_OF_A_RUN, 2)), ids="-then-".join)
@pytest.mark.parametrize("is_new", [True, False])
def test_a_record_is_what_its_hash_will_say(
    draft: Draft, session: Session, changes: Sequence[str], is_new: bool
) -> None:
    """Whoever reads it gets it from the draft without decoding, and must not notice."""
    born = SetFields(RUN_OF, RUN.encode(ref="a", status="SUSPENDED", created_us=1, signal="go", payload={"n": 1}))
    if is_new:
        draft.read((), ())
        draft.add(Transaction([born]))
    else:
        session.commit(Transaction([born]))

    for change in (None, *changes):
        if change is not None:
            draft.add(Transaction([CHANGES_OF_A_RUN[change]]))
        seen = draft.read((Hash(RUN_OF),), (RUN_OF,))

        assert repr(seen.record(RUN_OF, RUN.decode)) == repr(RUN.decode(dict(seen.hash(RUN_OF))))


def test_a_counter_under_watch_tells_what_it_will_be(draft: Draft) -> None:
    """Nobody else can have changed it when the draft is written."""
    draft.read((Hash("h"),), ("h",))

    first = draft.add(Transaction([Increment("h", "n", -4), SetFields("other", {"x": "1"})]))
    second = draft.add(Transaction([Increment("h", "n", -1)]))

    assert draft.told(first) == [1, None]
    assert draft.told(second) == [0]


@pytest.mark.parametrize("change", [Increment("h", "n", 1), Append("l", "x")], ids=["counter", "list"])
def test_a_result_that_others_may_change_is_told_by_the_commit(draft: Draft, change: Increment | Append) -> None:
    """Read, but not under WATCH."""
    draft.read((Hash("h"), Items("l")))

    assert draft.told(draft.add(Transaction([change]))) is None


@pytest.mark.parametrize("reads_before", [True, False])
def test_a_set_is_read_as_it_will_be(draft: Draft, session: Session, reads_before: bool) -> None:
    """Whoever ends the last run of a workflow finds that nothing lives in it."""
    session.commit(Transaction([Add("lv", ("a", "b"))]))
    if reads_before:
        draft.read((Members("lv"),), ("lv",))
    draft.add(Transaction([Remove("lv", ("a", "b")), Add("lv", ("c",))]))

    assert draft.read((Members("lv"),), ("lv",))[Members("lv")] == {"c"}


def test_a_message_whose_name_stood_for_nothing_is_never_written(draft: Draft) -> None:
    """Others may owe it, too, but under WATCH nobody has."""
    key = places.ledger("Settle")
    draft.read((Hash(key),), (key,))

    draft.add(Transaction(ledger=[Put("Settle", ENTRY, 10, keep_earlier=True)]))
    draft.add(Transaction(ledger=[Drop("Settle")]))

    assert draft.written().ledger == []


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

    known = definitions.of("wf", b"digest")
    assert known == {query: fields, Fields(places.component("a"), ("in", "live")): {}}
    assert definitions.newest("wf") == (b"digest", known)
    assert definitions.of("wf", b"other") == {}


def test_what_is_large_or_planned_by_a_builder_is_read_each_time() -> None:
    """The one would fill the memory, the other may be planned anew."""
    definitions = Definitions()
    planned = StagePlan(ref="b", stage_id="1", type="t", name="b", owner="STAGE_BEFORE")
    parts = {
        Fields(places.DEFINITION, ("context",)): {"context": b"x" * 10_000},
        Fields(places.DEFINITION, ("s:b", "x:b")): {"s:b": pack(planned), "x:b": pack({})},
        Fields(places.DEFINITION, ("meta",)): {"meta": b"m"},
    }
    for query, answer in parts.items():
        definitions.learn("wf", b"digest", query, answer)

    assert definitions.of("wf", b"digest") == {}


def test_of_many_definitions_those_not_looked_at_for_longest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered is bounded, whether by many workflows or by large ones."""
    monkeypatch.setattr("stabilize_celery.runtime.definitions.MOST_PARTS", 3)
    definitions, query = Definitions(), Fields(places.DEFINITION, ("context",))
    for workflow_id in ("one", "two", "three"):
        definitions.learn(workflow_id, b"digest", query, {"context": b"c"})
    definitions.newest("one")

    definitions.learn("four", b"digest", query, {"context": b"c"})

    assert [bool(definitions.newest(name)[1]) for name in ("one", "two", "three", "four")] == [True, False, True, True]


_CONTEXT, _RECORD = Fields(places.DEFINITION, ("context",)), Hash(places.WORKFLOW)


def _define(store: MemoryStore, digest: str, context: bytes) -> None:
    with store.session(SLOT) as session:
        changes = [SetFields(places.WORKFLOW, {"digest": digest}), SetFields(places.DEFINITION, {"context": context})]
        session.commit(Transaction(changes))


def test_a_known_definition_is_not_asked_for_again() -> None:
    """A change of what is stored, which nothing of ours makes, goes unseen."""
    store, definitions = MemoryStore(partitions=1), Definitions()
    _define(store, "one", b"first")
    for _ in range(2):
        with store.session(SLOT) as session:
            found = KnowingSession(session, "wf", definitions).read((_RECORD, _CONTEXT), (places.WORKFLOW,))
            assert found[_CONTEXT] == {"context": b"first"}
        _define(store, "one", b"changed")


def test_another_definition_of_the_same_id_is_read() -> None:
    """Retention took the first workflow away, and its key began another one."""
    store, definitions = MemoryStore(partitions=1), Definitions()
    for digest, context in (("one", b"first"), ("two", b"second")):
        _define(store, digest, context)
        with store.session(SLOT) as session:
            knowing = KnowingSession(session, "wf", definitions)
            assert knowing.read((_RECORD, _CONTEXT), (places.WORKFLOW,))[_CONTEXT] == {"context": context}
            answer = knowing.commit_and_read(Transaction([SetFields("h", {"n": 1})]), (_RECORD, _CONTEXT))
            assert answer is not None
            assert answer[1][_CONTEXT] == {"context": context}
