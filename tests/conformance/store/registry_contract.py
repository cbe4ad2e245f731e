"""What every store must do beside transactions: ledger, keeper, fleet, listings, events, locks."""

import re
import threading
from collections.abc import Callable

import pytest

from stabilize_celery.engine.steps import Hash, Index, Look, Rank, Ranked, SetFields, lock_slot, workflow_slot
from stabilize_celery.store.contract import (
    Bury,
    Drop,
    Due,
    DueEntry,
    Filter,
    LedgerChange,
    Listed,
    LockState,
    Put,
    Store,
    Transaction,
    Undue,
    partition_slot,
)
from stabilize_celery.store.errors import StoreError

W = workflow_slot("01HZY8QK6N")


def keep(store: Store, *ledger: LedgerChange) -> None:
    """Commit ledger changes."""
    with store.session(W) as session:
        assert session.commit(Transaction(ledger=ledger)) == []


def due_of(store: Store) -> list[tuple[str, int]]:
    """Return what is due in the partition, in order."""
    partition = store.partition_of(W.name)
    return [(entry.name, entry.due_ms) for entry in store.first_due([partition], 100)[1][partition]]


def begin(store: Store, number: int, started_ms: int, **more: str) -> str:
    """Write a workflow with its index; return its id."""
    workflow_id = f"wf-{number:04d}"
    names = {"application": "shop", "name": "order", "status": "RUNNING"} | more
    with store.session(workflow_slot(workflow_id)) as session:
        index = Index(names["application"], names["name"], started_ms, names["status"])
        assert session.commit(Transaction([SetFields("w", {**names, "started_ms": started_ms}), index])) is not None
    return workflow_id


def pages(store: Store, wanted: Filter, limit: int) -> list[str]:
    """Return the ids of all pages of a listing."""
    found, cursor = [], None
    while True:
        page = store.listing(wanted, limit, cursor)
        assert len(page.items) <= limit
        found += [line.id for line in page.items]
        cursor = page.cursor
        if cursor is None:
            return found


class LedgerContract:
    """Owed messages, the keeper's side, the fleet."""

    @pytest.fixture
    def store(self) -> Store:
        raise AssertionError("each store supplies this")

    @pytest.fixture
    def let_pass(self) -> Callable[[int], None]:
        raise AssertionError("each store supplies a way to let so many ms pass")

    def test_put_and_drop(self, store: Store) -> None:
        """An entry and its place in `due` come and go together."""
        keep(store, Put("late", {"t": "B"}, 9), Put("soon", {"t": "A"}, 3))
        assert due_of(store) == [("soon", 3), ("late", 9)]

        keep(store, Drop("soon"), Drop("never"))

        assert due_of(store) == [("late", 9)]
        assert store.look(W, (Hash("m:soon"),)).hash("m:soon") == {}

    def test_put_moves_unless_it_keeps_the_earlier(self, store: Store) -> None:
        """A merge message that is owed again is never later for it; others take the new time."""
        keep(store, Put("n", {"a": 1}, 5))
        keep(store, Put("n", {"b": 2}, 9, keep_earlier=True))
        assert due_of(store) == [("n", 5)]
        keep(store, Put("n", {"b": 3}, 2, keep_earlier=True), Put("new", {"b": 3}, 7, keep_earlier=True))
        assert due_of(store) == [("n", 2), ("new", 7)]
        keep(store, Put("n", {"b": 4}, 9))

        assert due_of(store) == [("new", 7), ("n", 9)]
        assert store.look(W, (Hash("m:n"),)).hash("m:n") == {"a": b"1", "b": b"4"}

    def test_due_and_undue(self, store: Store) -> None:
        """The time of an entry moves without the entry; a heartbeat does not bring back what is not due."""
        keep(store, Put("n", {"a": 1}, 5))
        keep(store, Undue("n"))
        keep(store, Due("n", 6, only_if_due=True))
        assert due_of(store) == []
        keep(store, Due("n", 7))
        keep(store, Due("n", 8, only_if_due=True))

        assert due_of(store) == [("n", 8)]
        assert store.look(W, (Look(("n", "o")),))[Look(("n", "o"))] == {"n": 8}

    def test_bury_and_replay(self, store: Store) -> None:
        """A dead letter is not due and keeps its entry; made due again it is no dead letter any more."""
        keep(store, Put("n", {"a": 1}, 5), Put("gone", {"a": 1}, 5))
        keep(store, Bury("n", 77), Bury("gone", 78))
        assert due_of(store) == []
        assert store.dead_letters() == [DueEntry(W.name, "n", 77), DueEntry(W.name, "gone", 78)]
        assert store.look(W, (Look(("n",), "dead"), Hash("m:n")))[Look(("n",), "dead")] == {"n": 77}

        keep(store, Due("n", 6), Drop("gone"))

        assert (due_of(store), store.dead_letters()) == ([("n", 6)], [])

    def test_a_heartbeat_revives_no_dead_letter(self, store: Store) -> None:
        """It comes from a worker that does not know yet: the letter would be neither due nor among the dead."""
        keep(store, Put("n", {"a": 1}, 5))
        keep(store, Bury("n", 77))

        keep(store, Due("n", 6, only_if_due=True))

        assert (due_of(store), store.dead_letters()) == ([], [DueEntry(W.name, "n", 77)])

    def test_what_is_known_to_be_well_is_not_looked_for_among_the_dead(self, store: Store) -> None:
        """Whoever says so has read it; of names that share a command each counts by itself."""
        for change in (
            Put("n", {"a": 1}, 6, is_well=True),
            Due("n", 6, is_well=True),
            Drop("n", is_well=True),
        ):
            keep(store, Put("n", {"a": 1}, 5), Put("other", {"a": 1}, 5))
            keep(store, Bury("n", 77), Bury("other", 78))
            keep(store, change, Drop("other"))

            assert [letter.name for letter in store.dead_letters()] == ["n"]

    def test_counts_of_workflows_and_dead_letters(self, store: Store) -> None:
        """Over all partitions; a status that nothing is in does not appear."""
        assert store.counts() == ({}, 0)
        for number in range(30):
            with store.session(workflow_slot(f"w{number}")) as session:
                session.commit(Transaction([Index("shop", "order", 1, "RUNNING" if number < 20 else "SUCCEEDED")]))
        keep(store, Put("n", {"a": 1}, 5), Bury("n", 77))

        assert store.counts() == ({"RUNNING": 20, "SUCCEEDED": 10}, 1)

    @pytest.mark.parametrize("stray", ["nobody", "/Start:t", "a b/Start:t", "{p}/x", f"{W.name}/", "x:y/z"])
    def test_what_is_no_ledger_name_does_not_stay_due(self, store: Store, stray: str) -> None:
        """Somebody else wrote it: it is taken out, so that it can't fill the places of what is due."""
        keep(store, Put("n", {"a": 1}, 5))
        partition = store.partition_of(W.name)
        with store.session(partition_slot(partition)) as session:
            assert session.commit(Transaction([Rank("due", stray, 1)])) is not None

        assert due_of(store) == [("n", 5)]
        with store.session(partition_slot(partition)) as session:
            due = Ranked("due")
            assert [member for member, _ in session.read((due,))[due]] == [f"{W.name}/n"]

    def test_every_entry_is_found_whether_it_is_due_or_not(self, store: Store) -> None:
        """Repair sees what `due` has lost; other keys of a workflow, also such as look alike, are no entries."""
        keep(store, Put("Start:t", {"a": 1}, 5), Put("Eval:m:x", {"a": 1}, 5), Put("lost", {"a": 1}, 5))
        keep(store, Undue("lost"))
        other = workflow_slot("other")
        with store.session(other) as session:
            changes = [SetFields("w", {"a": 1}), SetFields("r:m:x", {"a": 1}), SetFields("mw:m", {"a": 1})]
            assert session.commit(Transaction(changes, [Put("TO:task:t..0", {"a": 1}, 5)])) is not None

        assert set(store.owed()) == {
            (W.name, "Start:t"),
            (W.name, "Eval:m:x"),
            (W.name, "lost"),
            ("other", "TO:task:t..0"),
        }

    def test_workflows_by_rank(self, store: Store) -> None:
        """Those that run by their start, those that have ended by their end, from any rank on, per partition."""
        ids = [begin(store, number, started_ms=100 - number) for number in range(12)]
        for end_ms, workflow_id in enumerate(ids[8:], 500):
            with store.session(workflow_slot(workflow_id)) as session:
                assert session.commit(Transaction([Index("shop", "order", 1, "SUCCEEDED", end_ms)])) is not None
        first = dict.fromkeys(range(store.partitions()), 0)
        per_partition = {
            number: [name for name in reversed(ids[:8]) if store.partition_of(name) == number] for number in first
        }

        assert store.indexed("running", first, 100) == per_partition
        assert store.indexed("running", dict.fromkeys(first, 1), 1) == {
            number: names[1:2] for number, names in per_partition.items()
        }
        ended = store.indexed("ended", first, 100)
        assert {name for names in ended.values() for name in names} == set(ids[8:])
        assert store.indexed("ended", {}, 10) == {}

    def test_first_due_is_limited_per_partition(self, store: Store) -> None:
        """Each partition gives its first entries, and the time is the server's."""
        keep(store, *(Put(f"n{number}", {"a": 1}, number) for number in range(5)))
        partition = store.partition_of(W.name)

        now_ms, entries = store.first_due(range(store.partitions()), 2)

        assert [entry.name for entry in entries.pop(partition)] == ["n0", "n1"]
        assert set(entries) == set(range(store.partitions())) - {partition}
        assert not any(entries.values())
        assert 0 <= store.time_ms() - now_ms < 60_000

    def test_leases(self, store: Store, let_pass: Callable[[int], None]) -> None:
        """A lease has one holder until it runs out or is given back; the holder renews it."""
        assert store.take_leases("a", [0, 1], 800)[0] == [0, 1]
        assert store.take_leases("b", [0, 1, 2], 800)[0] == [2]
        store.give_leases_back("a", [1, 2])
        assert store.take_leases("c", [2], 800)[0] == [], "it was not a's to give back"
        assert store.take_leases("b", [1], 800)[0] == [1]
        for _ in range(2):
            let_pass(450)
            assert store.take_leases("b", [0], 800)[0] == []
            assert store.take_leases("a", [0], 800)[0] == [0]

        let_pass(900)
        assert store.take_leases("b", [0, 1, 2], 60_000)[0] == [0, 1, 2]
        assert store.take_leases("a", [0], 60_000)[0] == []

    def test_fleet(self, store: Store) -> None:
        """A worker's line is what it wrote last, with the time; it goes when the worker retires."""
        store.announce("w1", {"tasks": "a,b", "pid": 7})
        store.announce("w2", {"tasks": b"\xff"})
        store.announce("w1", {"tasks": "c"})

        fleet = store.fleet()
        assert {name: line["tasks"] for name, line in fleet.items()} == {"w1": b"c", "w2": b"\xff"}
        assert abs(int(fleet["w1"]["seen"]) - store.time_ms()) < 60_000
        store.retire("w1")
        assert set(store.fleet()) == {"w2"}

    def test_probes_only_grow(self, store: Store) -> None:
        """A probe that comes back late does not hide a newer one."""
        store.probe_came_back("work", 5)
        store.probe_came_back("work", 9)
        store.probe_came_back("work", 7)
        store.probe_came_back("{odd} queue", 1)

        assert store.probes() == {"work": 9, "{odd} queue": 1}

    def test_partitions_are_written_once(self, store: Store) -> None:
        """All workflows have their partition, spread over the namespace's number of them."""
        count = store.partitions()

        assert {store.partition_of(f"wf-{number}") for number in range(200)} == set(range(count))

    def test_health(self, store: Store) -> None:
        """What doctor looks at is there, as text."""
        health = store.health()

        expected = {"redis_version", "appendonly", "appendfsync", "maxmemory_policy", "ping_ms", "url"}
        assert set(health) == expected
        assert re.fullmatch(r"\d+\.\d\d", health["ping_ms"])


class ReadingContract:
    """Listings, events, locks."""

    @pytest.fixture
    def store(self) -> Store:
        raise AssertionError("each store supplies this")

    def test_listing_is_newest_first_over_all_partitions(self, store: Store) -> None:
        """By start time, then by id, whatever partition they are in."""
        for number in range(40):
            begin(store, number, 1_000 + number // 4)

        ids = [f"wf-{number:04d}" for number in reversed(range(40))]
        assert [line.id for line in store.listing(Filter(), 50, None).items] == ids
        for limit in (1, 7, 40, 41):
            assert pages(store, Filter(), limit) == ids

    def test_a_page_shows_no_older_workflow_before_the_newer_ones_of_another_partition(self, store: Store) -> None:
        """All that is new is in one partition, more of it than a look at the partition shows."""
        in_partition: dict[int, list[int]] = {}
        for number in range(2_000):
            in_partition.setdefault(store.partition_of(f"wf-{number:04d}"), []).append(number)
        crowded, sparse = (in_partition[partition] for partition in sorted(in_partition)[:2])
        newest_first = [*crowded[:70], *sparse[:20]]
        ids = [begin(store, number, 9_000 - at) for at, number in enumerate(newest_first)]

        for limit in (40, 100):
            assert pages(store, Filter(), limit) == ids

    def test_many_that_started_in_one_ms(self, store: Store) -> None:
        """A page ends amid equals and goes on behind them, however many there are in one partition."""
        for number in range(150):
            begin(store, number, 1_000)

        assert pages(store, Filter(), 4) == [f"wf-{number:04d}" for number in reversed(range(150))]

    def test_a_line(self, store: Store) -> None:
        """A line says what the workflow's own hash says."""
        running = begin(store, 1, 1_000, application="größe", name="a:b {c}")
        with store.session(workflow_slot(running)) as session:
            before = store.listing(Filter(), 5, None).items
            ended = [SetFields("w", {"status": "TERMINAL", "ended_ms": 1_500})]
            session.commit(Transaction([*ended, Index("größe", "a:b {c}", 1_000, "TERMINAL", 1_500)]))

        assert before == [Listed("wf-0001", "größe", "a:b {c}", "RUNNING", 1_000, None)]
        assert store.listing(Filter(), 5, None).items == [
            Listed("wf-0001", "größe", "a:b {c}", "TERMINAL", 1_000, 1_500)
        ]

    @pytest.mark.parametrize(
        ("wanted", "numbers"),
        [
            (Filter(), [3, 2, 1, 0]),
            (Filter(application="shop"), [2, 1, 0]),
            (Filter(name="order"), [3, 1, 0]),
            (Filter(status="RUNNING"), [2, 0]),
            (Filter(application="shop", status="PAUSED"), [1]),
            (Filter(application="bank", name="order", status="PAUSED"), [3]),
            (Filter(application="bank", name="refund"), []),
            (Filter(application=""), []),
            (Filter(status="NONE"), []),
            (Filter(name=""), []),
        ],
    )
    def test_filters(self, store: Store, wanted: Filter, numbers: list[int]) -> None:
        """Filters narrow down together, page by page."""
        begin(store, 0, 1_000)
        begin(store, 1, 1_001, status="PAUSED")
        begin(store, 2, 1_002, name="refund")
        begin(store, 3, 1_003, application="bank", status="PAUSED")

        expected = [f"wf-{number:04d}" for number in numbers]
        assert pages(store, wanted, 10) == expected
        assert pages(store, wanted, 1) == expected

    def test_a_status_is_left_when_another_is_taken(self, store: Store) -> None:
        """A workflow is listed under its newest status only; out of the index it is not listed at all."""
        workflow_id = begin(store, 1, 1_000, status="BUFFERED")
        begin(store, 1, 1_000, status="RUNNING")
        assert (pages(store, Filter(status="BUFFERED"), 5), pages(store, Filter(status="RUNNING"), 5)) == (
            [],
            [workflow_id],
        )
        with store.session(workflow_slot(workflow_id)) as session:
            assert session.commit(Transaction([Index("shop", "order", 1_000, None)])) == [None]

        for wanted in (Filter(), Filter(application="shop"), Filter(name="order"), Filter(status="RUNNING")):
            assert pages(store, wanted, 5) == []

    def test_who_has_looked_names_the_status_that_is_left(self, store: Store) -> None:
        """The same as if nobody had: one status, and among those that run, or those that have ended."""
        partition = store.partition_of(W.name)
        steps = [("", "RUNNING", 0), ("RUNNING", "PAUSED", 0), ("PAUSED", "SUCCEEDED", 9), ("SUCCEEDED", "RUNNING", 0)]
        for was, status, ended_ms in steps:
            with store.session(W) as session:
                fields = {"application": "shop", "name": "order", "status": status}
                index = Index("shop", "order", 1_000, status, ended_ms, was)
                session.commit(Transaction([SetFields("w", fields), index]))
            states = ("RUNNING", "PAUSED", "SUCCEEDED")
            assert [name for name in states if pages(store, Filter(status=name), 5)] == [status]
            kinds = ("running", "ended")
            found = [kind for kind in kinds if store.indexed(kind, {partition: 0}, 5)[partition]]  # type: ignore[arg-type]
            assert found == ["ended" if ended_ms else "running"]
        for wanted in (Filter(), Filter(application="shop"), Filter(name="order")):
            assert pages(store, wanted, 5) == [W.name]

    def test_what_retention_removed_is_left_out(self, store: Store) -> None:
        """An index entry without its workflow, or with what retention left of it, is no line."""
        for number, fields in enumerate(({"status": "GONE"}, {"other": "x"}, {"status": "RUNNING"})):
            with store.session(workflow_slot(f"wf-{number}")) as session:
                session.commit(Transaction([SetFields("w", fields), Index("a", "n", 1_000, "RUNNING")]))

        assert pages(store, Filter(), 1) == ["wf-2"]

    def test_listing_while_others_come_and_go(self, store: Store) -> None:
        """Nothing that exists all the while is doubled or missed."""
        for number in range(0, 60, 2):
            begin(store, number, 1_000 + number)
        found, cursor = [], None
        for step in range(100):
            page = store.listing(Filter(), 3, cursor)
            found += [line.id for line in page.items]
            begin(store, 2 * step + 1, 1_000 + 2 * step + 1)
            begin(store, 5_000 + step, 9_000 + step)
            cursor = page.cursor
            if cursor is None:
                break

        lasting = [workflow_id for workflow_id in found if int(workflow_id[3:]) % 2 == 0 and workflow_id < "wf-5000"]
        assert lasting == [f"wf-{number:04d}" for number in reversed(range(0, 60, 2))]

    def test_a_filter_that_is_no_text_is_refused(self, store: Store) -> None:
        """What can't be stored can't be looked for."""
        with pytest.raises(StoreError):
            store.listing(Filter(name="\ud800"), 5, None)

    @pytest.mark.parametrize(("limit", "cursor"), [(0, None), (5, "nonsense"), (5, "12-"), (5, "x-y")])
    def test_bad_pages_are_refused(self, store: Store, limit: int, cursor: str | None) -> None:
        """A cursor that is not ours, or an empty page, is an error."""
        with pytest.raises(StoreError):
            store.listing(Filter(), limit, cursor)

    @pytest.mark.parametrize(
        "bad", [Index("a", "n", 5, "HAPPY"), Index("a", "n", 2**60, "RUNNING"), Index("\ud800", "n", 5, "RUNNING")]
    )
    def test_a_bad_index_is_refused(self, store: Store, bad: Index) -> None:
        """Only statuses that listings know, times that a score holds, and text."""
        with store.session(W) as session, pytest.raises(StoreError):
            session.commit(Transaction([bad]))
        with store.session(lock_slot("L")) as session, pytest.raises(StoreError):
            session.commit(Transaction([Index("a", "n", 5, "RUNNING")]))

    def test_events_come_in_order(self, store: Store) -> None:
        """Each event once, in the order of commits, from any id on."""
        for number in range(3):
            with store.session(W) as session:
                session.commit(Transaction(events=[{"n": 2 * number, "raw": b"\xff"}, {"n": 2 * number + 1}]))

        found = store.events(W.name, "0", None, 100)
        assert [int(event.fields["n"]) for event in found] == list(range(6))
        assert found[0].fields["raw"] == b"\xff"
        assert store.events(W.name, found[3].id, None, 100) == found[4:]
        assert store.events(W.name, "0", None, 2) == found[:2]
        assert store.events(W.name, found[-1].id, 0, 5) == []

    @pytest.mark.parametrize("together", [1, 2, 3, 256, 257, 600])
    def test_a_commits_events_are_read_on_from_any_of_them(self, store: Store, together: int) -> None:
        """However many one commit tells, and however few a reader takes at once; behind the last one it waits."""
        for commit in range(2):
            with store.session(W) as session:
                events = [{"n": together * commit + number, "kind": "k"} for number in range(together)]
                session.commit(Transaction(events=events))
        found = store.events(W.name, "0", None, 10_000)
        ids = [event.id for event in found]

        assert [int(event.fields["n"]) for event in found] == list(range(2 * together))
        assert ids == sorted(set(ids), key=lambda one: tuple(map(int, one.split("-"))))
        for at in {0, 1, together - 2, together - 1, together, 2 * together - 2} & set(range(2 * together - 1)):
            assert store.events(W.name, ids[at], None, 10_000) == found[at + 1 :]
            assert store.events(W.name, ids[at], 10_000, 1) == found[at + 1 : at + 2]
            partition = store.partition_of(W.name)
            assert store.first_events(partition, {W.name: ids[at]}, "me", 10_000, 1) == {W.name: found[at + 1 : at + 2]}
        assert store.events(W.name, ids[-1], 20, 5) == []

    def test_an_event_that_cannot_be_stored_is_named(self, store: Store) -> None:
        """Alone or among others; nothing of the commit is written."""
        for events in ([{"kind": "\ud800"}], [{"kind": "k"}, {"kind": "\ud800"}]):
            with store.session(W) as session, pytest.raises(StoreError, match=r"an event\.kind"):
                session.commit(Transaction([SetFields("k", {"a": 1})], events=events))
        assert store.look(W, [Hash("k")]).hash("k") == {}

    def test_waiting_for_an_event_in_vain(self, store: Store) -> None:
        """After the time it answers nothing."""
        assert store.events(W.name, "0", 30, 5) == []

    def test_an_event_wakes_who_waits(self, store: Store) -> None:
        """A reader that waits gets the next event as soon as it is committed."""
        found = []
        reader = threading.Thread(target=lambda: found.extend(store.events(W.name, "0", 30_000, 5)))
        reader.start()
        with store.session(W) as session:
            session.commit(Transaction([SetFields("k", {"a": 1})]))
        with store.session(W) as session:
            session.commit(Transaction(events=[{"kind": "k"}]))
        reader.join(10)

        assert [event.fields for event in found] == [{"kind": b"k"}]

    def test_one_listener_hears_many_workflows(self, store: Store) -> None:
        """New events of workflows of one partition, by workflow; what is not new, or not asked for, is left out."""
        names = [name for at in range(1000) if store.partition_of(name := f"w{at}") == 0][:3]
        for name in names:
            with store.session(workflow_slot(name)) as session:
                session.commit(Transaction(events=[{"n": 1}, {"n": 2}]))
        first = store.events(names[1], "0", None, 1)[0]

        found = store.first_events(0, {names[0]: "0", names[1]: first.id}, "me", 0, 10)

        assert {name: [int(event.fields["n"]) for event in events] for name, events in found.items()} == {
            names[0]: [1, 2],
            names[1]: [2],
        }
        assert store.first_events(0, {names[1]: found[names[1]][-1].id}, "me", 20, 10) == {}

    def test_the_bell_ends_a_listeners_wait(self, store: Store) -> None:
        """Also where it rang before the wait began; once; and only that listener's."""
        found: list[object] = []
        listen = lambda: found.append(store.first_events(store.partition_of(W.name), {W.name: "0"}, "me", 30_000, 10))  # noqa: E731
        store.ring(store.partition_of(W.name), "me")
        listen()
        assert found == [{}]

        listener = threading.Thread(target=listen)
        listener.start()
        store.ring(store.partition_of(W.name), "another")
        listener.join(0.05)
        assert listener.is_alive()
        store.ring(store.partition_of(W.name), "me")
        listener.join(10)
        assert found == [{}, {}]

    def test_a_bad_event_id_is_refused(self, store: Store) -> None:
        """An id that no stream gives is an error."""
        with store.session(W) as session:
            session.commit(Transaction(events=[{"kind": "k"}]))
        with pytest.raises(StoreError):
            store.events(W.name, "yesterday", None, 5)

    def test_locks(self, store: Store) -> None:
        """Every lock with its limit, holders with tokens, and waiters first first; idle ones are left out."""
        with store.session(lock_slot("GLOBAL:{k}")) as session:
            held = [SetFields("h", {"w1/t#1": 41, "w2/t#1": 42}), SetFields("meta", {"limit": 2, "last": 42})]
            queued = [Rank("q", "w4/t#1", 2_000_000), Rank("q", "w3/t#1", 1_000_500)]
            session.commit(Transaction([*held, *queued]))
        with store.session(lock_slot("only waited for")) as session:
            session.commit(Transaction([Rank("q", "w5/t#1", 3_000_000)]))
        with store.session(lock_slot("idle")) as session:
            session.commit(Transaction([SetFields("meta", {"limit": 2})]))

        assert store.locks() == [
            LockState("GLOBAL:{k}", 2, {"w1/t#1": 41, "w2/t#1": 42}, (("w3/t#1", 1_000), ("w4/t#1", 2_000))),
            LockState("only waited for", 1, {}, (("w5/t#1", 3_000),)),
        ]
