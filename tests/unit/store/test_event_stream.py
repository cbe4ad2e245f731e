"""Events of one commit share an entry of the stream: each has an id to read on from, and entries are read once."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stabilize_celery.store.event_stream import entries_of, events_of, reading_from, stands_behind


def stored(count: int, identity: str = "1700000000000-3") -> list[str]:
    """Ids of the events of one entry."""
    (entry,) = entries_of([{"kind": "k", "at": number} for number in range(count)])
    as_read = {name: value if isinstance(value, bytes) else str(value).encode() for name, value in entry.items()}
    return [event.id for event in events_of(identity, as_read)]


@pytest.mark.parametrize("count", [1, 2, 256])
def test_behind_the_last_event_of_an_entry_its_stream_is_read_on(count: int) -> None:
    """So who waits there waits; behind any other the entry is read again."""
    *others, last = stored(count)

    assert reading_from(last) == "1700000000000-3"
    assert {reading_from(one) for one in others} <= {"1700000000000-2"}


@pytest.mark.parametrize("count", [999, 1_000, 1_001, 3_000])
def test_of_however_many_events_of_one_commit_each_has_an_id_of_its_own(count: int) -> None:
    """They are told by several entries; an id beyond those of its entry would be one of the next."""
    entries = list(entries_of([{"kind": "k", "at": number} for number in range(count)]))
    as_read = [{name: value for name, value in entry.items() if isinstance(value, bytes)} for entry in entries]
    found = [event for number, entry in enumerate(as_read) for event in events_of(f"5-{number}", entry)]

    assert [event.fields["at"] for event in found] == [b"%d" % number for number in range(count)]
    assert all(stands_behind(later, earlier.id) for earlier, later in itertools.pairwise(found))


def test_the_first_entry_of_a_millisecond_is_read_again_from_the_one_before() -> None:
    assert reading_from(stored(2, "1700000000000-0")[0]) == f"1699999999999-{2**64 - 1}"


@pytest.mark.parametrize(
    ("after", "reads"), [("0", "0-0"), ("0-0", "0-0"), ("1700000000000", f"1699999999999-{2**64 - 1}"), ("x-1", "x-1")]
)
def test_other_places_to_begin_at(after: str, reads: str) -> None:
    """The beginning, a time; what is no id is the server's to refuse."""
    assert reading_from(after) == reads


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3), st.integers(1, 5)), min_size=1))
def test_ids_are_in_the_order_of_the_stream(entries: list[tuple[int, int, int]]) -> None:
    """However many events its entries tell."""
    places = sorted({(ms, number): count for ms, number, count in entries}.items())
    ids = [one for (ms, number), count in places for one in stored(count, f"{ms}-{number}")]

    ordered = sorted(ids, key=lambda one: tuple(map(int, one.split("-"))))
    assert ids == ordered
    assert len(set(ids)) == len(ids)


def test_values_come_back_as_any_field_of_a_stream_does() -> None:
    """As bytes, alone or with others."""
    event = {"kind": "k", "at": 12, "data": b"\xff\x00"}
    read = {"kind": b"k", "at": b"12", "data": b"\xff\x00"}
    (entry,) = entries_of([event, event])
    as_read = {name: value for name, value in entry.items() if isinstance(value, bytes)}

    found = list(events_of("5-0", as_read))

    assert [one.fields for one in found] == [read, read]
    assert stands_behind(found[1], found[0].id)
    assert not stands_behind(found[0], found[0].id)
