"""What every store must do (stabilize_celery/store/contract.py); each store supplies the two fixtures."""

import threading
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest

from stabilize_celery.engine.steps import (
    Add,
    Append,
    Change,
    Count,
    Delete,
    DeleteFields,
    Expire,
    Fields,
    Hash,
    Increment,
    Items,
    Look,
    Members,
    Position,
    Rank,
    Ranked,
    Remove,
    SetFields,
    Slot,
    Unrank,
    lock_slot,
    workflow_slot,
)
from stabilize_celery.errors import WorkflowNotFoundError
from stabilize_celery.store.contract import (
    Bury,
    Drop,
    Due,
    LedgerChange,
    Put,
    Store,
    Transaction,
    Undue,
    partition_slot,
)
from stabilize_celery.store.errors import StoreError

W = workflow_slot("01HZY8QK6N")
ODD_NAMES = ["a b", "{x}", "a:b", "a/b/c", "50%", "größe ✓", "two\nlines", "*", "n" * 200, "'", "\x00"]


def write(store: Store, *changes: Change, slot: Slot = W, ledger: Iterable[LedgerChange] = ()) -> list[int | None]:
    """Commit without a watch; it can't conflict."""
    with store.session(slot) as session:
        results = session.commit(Transaction(changes, tuple(ledger)))
    assert results is not None
    return results


class SessionContract:
    """WATCH, reads and EXEC."""

    @pytest.fixture
    def store(self) -> Store:
        raise AssertionError("each store supplies this")

    @pytest.fixture
    def let_pass(self) -> Callable[[int], None]:
        raise AssertionError("each store supplies a way to let so many ms pass")

    def test_reads_back_what_was_written(self, store: Store) -> None:
        """Each kind of query answers with what the changes made."""
        write(
            store,
            SetFields("h", {"text": "ü", "number": -7, "raw": b"\xff\x00"}),
            Add("s", ("a", "b")),
            Append("l", "first"),
            Append("l", "second"),
            Rank("z", "late", 2.5),
            Rank("z", "early", 1),
        )

        queries = (
            Hash("h"), Fields("h", ("text", "none")), Members("s"), Count("s"), Items("l"),
            Position("l", "second"), Position("l", "none"), Ranked("z"), Ranked("z", 1),
        )  # fmt: skip
        seen = store.look(W, queries)

        assert [seen[query] for query in queries] == [
            {"text": "ü".encode(), "number": b"-7", "raw": b"\xff\x00"}, {"text": "ü".encode()}, {"a", "b"}, 2,
            ["first", "second"], 1, None, [("early", 1.0), ("late", 2.5)], [("early", 1.0)],
        ]  # fmt: skip

    def test_payloads_may_be_left_out_where_they_are_large(self, store: Store) -> None:
        """All else is there; a payload is as it was written, or absent."""
        payloads = {"outputs": b"o" * 200, "context": b"c" * 200, "x:stage": b"x" * 200}
        others = {"tasks": b"t" * 200, "status": b"RUNNING"}
        write(store, SetFields("h", {**payloads, **others}))
        queries = (Hash("h"), Fields("h", ("outputs", "tasks")))

        whole, fields = (store.look(W, queries, without_payloads=True)[query] for query in queries)

        assert (whole | payloads, fields | payloads) == ({**payloads, **others}, {**payloads, "tasks": others["tasks"]})
        assert store.look(W, queries)[queries[0]] == {**payloads, **others}

    def test_several_slots_are_written_at_once(self, store: Store) -> None:
        """Each has its own changes and results; what one EXEC can't span is another group."""
        slots = [workflow_slot(f"wf{number}") for number in range(40)]
        for group in store.groups(slots):
            with store.group(group) as session:
                found = session.read((Hash("h"),), ("h",))
                results = session.commit(
                    [
                        Transaction([SetFields("h", {"is": slot.name}), Append("l", "x")], [Put("n", {"t": 1}, 5)])
                        for slot in group
                    ]
                )
            assert found is not None
            assert [seen.hash("h") for seen in found] == [{}] * len(group)
            assert results == [[None, 1]] * len(group)

        assert sorted(slot.name for group in store.groups(slots) for slot in group) == sorted(
            slot.name for slot in slots
        )
        assert [store.look(slot, (Hash("h"),)).hash("h") for slot in slots] == [{"is": s.name.encode()} for s in slots]
        assert store.groups([]) == []

    def test_where_one_of_several_slots_has_moved_nothing_is_written(self, store: Store) -> None:
        """All or none, as in one slot."""
        slots = next(iter(store.groups([workflow_slot(f"wf{number}") for number in range(40)])))
        with store.group(slots) as session:
            session.read((), ("h",))
            write(store, SetFields("h", {"is": "other"}), slot=slots[-1])

            assert session.commit([Transaction([SetFields("h", {"is": "mine"})]) for _ in slots]) is None
        assert store.look(slots[0], (Hash("h"),)).hash("h") == {}
        assert store.look(slots[-1], (Hash("h"),)).hash("h") == {"is": b"other"}

    def test_absent_things_are_empty(self, store: Store) -> None:
        """What is not there reads as empty, and asking for nothing is no error."""
        queries = (
            Hash("x"), Fields("x", ("f",)), Fields("x", ()), Members("x"), Count("x"), Items("x"), Position("x", "i"),
            Ranked("x"), Look(("n",)), Look(()),
        )  # fmt: skip

        seen = store.look(W, queries)

        assert [seen[query] for query in queries] == [{}, {}, {}, set(), 0, [], None, [], {}, {}]

    def test_one_result_per_change(self, store: Store) -> None:
        """Increments answer the new value, appends the new length, everything else None, in order."""
        changes = (
            SetFields("h", {"a": 1}),
            Increment("h", "a", 5),
            Append("l", "x"),
            SetFields("h", {}),
            Append("l", "y"),
        )

        assert write(store, *changes) == [None, 6, 1, None, 2]

    def test_removals(self, store: Store) -> None:
        """Each removal takes out what it names; a key without content is gone."""
        write(
            store,
            SetFields("h", {"a": 1, "b": 2}),
            Add("s", ("a", "b")),
            Rank("z", "m", 1),
            SetFields("gone", {"a": 1}),
        )

        write(store, DeleteFields("h", ("a",)), Remove("s", ("a", "b")), Unrank("z", "m"), Delete(("gone", "never")))

        seen = store.look(W, (Hash("h"), Members("s"), Ranked("z"), Hash("gone")))
        assert (seen.hash("h"), seen[Members("s")], seen[Ranked("z")], seen.hash("gone")) == (
            {"b": b"2"},
            set(),
            [],
            {},
        )

    def test_removals_of_nothing(self, store: Store) -> None:
        """Removing no field, member or key is no error and no command."""
        assert write(store, DeleteFields("h", ()), Remove("s", ()), Add("s", ()), Delete(())) == [None] * 4

    def test_rank_if_absent_keeps_the_first_score(self, store: Store) -> None:
        """Who queues again keeps the place."""
        write(store, Rank("z", "m", 1), Rank("z", "m", 2, if_absent=True), Rank("z", "n", 3, if_absent=True))

        assert store.look(W, (Ranked("z"),))[Ranked("z")] == [("m", 1.0), ("n", 3.0)]

    def test_changes_are_written_in_order(self, store: Store) -> None:
        """A later change sees what an earlier one did; the ledger comes after the changes."""
        write(store, SetFields("m:n", {"a": 1}), Delete(("m:n",)), ledger=[Put("n", {"t": "Start"}, 5)])

        assert store.look(W, (Hash("m:n"),)).hash("m:n") == {"t": b"Start"}

    def test_expired_keys_are_gone(self, store: Store, let_pass: Callable[[int], None]) -> None:
        """A key lives for its time to live; one that is made lasting again stays."""
        write(store, *(SetFields(key, {"a": 1}) for key in ("short", "kept")), Expire("short", 40))
        # In one commit: on a slow machine the key would be gone before a second one.
        write(store, Expire("kept", 200), Expire("kept", 0))

        let_pass(300)

        seen = store.look(W, (Hash("short"), Hash("kept")))
        assert (seen.hash("short"), seen.hash("kept")) == ({}, {"a": b"1"})

    @pytest.mark.parametrize("watched", [("k",), ("other", "k")])
    @pytest.mark.parametrize(
        ("before", "meanwhile"),
        [
            pytest.param([], SetFields("k", {"a": 1}), id="hash created"),
            pytest.param([SetFields("k", {"a": 1})], SetFields("k", {"a": 2}), id="hash changed"),
            pytest.param([SetFields("k", {"a": 1})], SetFields("k", {"a": 1}), id="hash written with the same value"),
            pytest.param([SetFields("k", {"a": 1})], DeleteFields("k", ("a",)), id="field deleted"),
            pytest.param([SetFields("k", {"a": 1})], Increment("k", "a", 0), id="increment by nothing"),
            pytest.param([SetFields("k", {"a": 1})], Delete(("k",)), id="deleted"),
            pytest.param([SetFields("k", {"a": 1})], Expire("k", 100_000), id="time to live"),
            pytest.param([Append("k", "a")], Append("k", "a"), id="list"),
            pytest.param([Add("k", ("a",))], Add("k", ("b",)), id="set"),
            pytest.param([Add("k", ("a", "b"))], Remove("k", ("b",)), id="set, removed"),
            pytest.param([Rank("k", "a", 1)], Rank("k", "a", 2), id="sorted set"),
            pytest.param([Rank("k", "a", 1)], Unrank("k", "a"), id="sorted set, removed"),
        ],
    )
    def test_a_touched_key_stops_the_commit(
        self, store: Store, before: list[Change], meanwhile: Change, watched: tuple[str, ...]
    ) -> None:
        """A write to a watched key between read and commit: nothing is written."""
        write(store, *before)
        with store.session(W) as session:
            session.read((), watched)
            write(store, meanwhile)

            assert session.commit(Transaction([SetFields("mine", {"a": 1})])) is None

        assert store.look(W, (Hash("mine"),)).hash("mine") == {}

    @pytest.mark.parametrize(
        ("before", "meanwhile"),
        [
            pytest.param([], Delete(("k",)), id="delete of nothing"),
            pytest.param([SetFields("k", {"a": 1})], DeleteFields("k", ("b",)), id="absent field"),
            pytest.param([Add("k", ("a",))], Remove("k", ("b",)), id="absent member"),
            pytest.param([Rank("k", "a", 1)], Unrank("k", "b"), id="absent member of a sorted set"),
            pytest.param([Rank("k", "a", 1)], Rank("k", "a", 1), id="same score"),
            pytest.param([Rank("k", "a", 1)], Rank("k", "a", 2, if_absent=True), id="there already"),
            pytest.param([], Expire("k", 5_000), id="time to live of nothing"),
            pytest.param([], SetFields("other", {"a": 1}), id="another key"),
        ],
    )
    def test_an_untouched_key_does_not(self, store: Store, before: list[Change], meanwhile: Change) -> None:
        """What changes nothing touches nothing, as in Redis."""
        write(store, *before)
        with store.session(W) as session:
            session.read((), ("k",))
            write(store, meanwhile)

            assert session.commit(Transaction([SetFields("mine", {"a": 1})])) == [None]

    def test_watches_add_up(self, store: Store) -> None:
        """A key watched by an earlier read still counts after a later one."""
        with store.session(W) as session:
            session.read((), ("k",))
            write(store, SetFields("k", {"a": 1}))
            session.read((Hash("k"),), ("other",))

            assert session.commit(Transaction()) is None

    def test_a_commit_ends_all_watches(self, store: Store) -> None:
        """After a commit, whether it was applied or not, nothing is watched."""
        with store.session(W) as session:
            session.read((), ("k",))
            write(store, SetFields("k", {"a": 1}))
            assert session.commit(Transaction()) is None
            write(store, SetFields("k", {"a": 2}))

            assert session.commit(Transaction([Increment("k", "a", 1)])) == [3]

    def test_the_end_of_a_session_ends_all_watches(self, store: Store) -> None:
        """The next session on the same connection is not bothered by what the last one watched."""
        with store.session(W) as session:
            session.read((), ("k",))
        write(store, SetFields("k", {"a": 1}))

        with store.session(W) as session:
            session.read((), ("other",))
            assert session.commit(Transaction()) == []

    def test_own_writes_do_not_disturb(self, store: Store) -> None:
        """A commit may write the keys that it watched."""
        with store.session(W) as session:
            session.read((), ("k",))

            assert session.commit(Transaction([Increment("k", "a", 1)])) == [1]

    def test_commit_and_read(self, store: Store) -> None:
        """The reads see the commit, and what they watch counts for the next commit."""
        with store.session(W) as session:
            session.read((), ("k",))
            done = session.commit_and_read(Transaction([Increment("k", "a", 1)]), (Hash("k"),), ("k",))
            assert done is not None
            assert (done[0], done[1].hash("k")) == ([1], {"a": b"1"})
            write(store, SetFields("k", {"a": 1}))

            assert session.commit(Transaction()) is None

    def test_commit_and_read_in_conflict(self, store: Store) -> None:
        """In conflict it answers nothing and watches nothing."""
        with store.session(W) as session:
            session.read((), ("k",))
            write(store, SetFields("k", {"a": 1}))
            assert session.commit_and_read(Transaction([SetFields("mine", {"a": 1})]), (Hash("k"),), ("k",)) is None
            write(store, SetFields("k", {"a": 2}))

            assert session.commit(Transaction()) == []
        assert store.look(W, (Hash("mine"),)).hash("mine") == {}

    def test_time_is_the_servers_and_grows(self, store: Store) -> None:
        """Snapshots carry the time of reading, in us."""
        first, second = store.look(W, ()), store.look(W, ())

        assert first.now_us <= second.now_us
        assert abs(store.time_ms() - first.now_ms) < 60_000

    @pytest.mark.parametrize(
        "bad",
        [
            pytest.param(SetFields("h", {"a": cast("Any", 1.5)}), id="float"),
            pytest.param(SetFields("h", {"a": cast("Any", None)}), id="none"),
            pytest.param(SetFields("h", {"a": True}), id="bool"),
            pytest.param(SetFields("h", {"a": 2**63}), id="too large"),
            pytest.param(SetFields("h", {"a": "\ud800"}), id="not Unicode"),
            pytest.param(SetFields("h", {"": 1}), id="empty field"),
            pytest.param(SetFields("h", {cast("Any", 3): 1}), id="field that is no text"),
            pytest.param(SetFields("", {"a": 1}), id="empty key"),
            pytest.param(SetFields("\ud800", {"a": 1}), id="key that is not Unicode"),
            pytest.param(Increment("h", "a", -(2**63) - 1), id="too small"),
            pytest.param(Add("s", ("",)), id="empty member"),
            pytest.param(Append("l", cast("Any", b"x")), id="item that is no text"),
            pytest.param(Rank("z", "m", float("nan")), id="no number"),
            pytest.param(Rank("z", "m", 2.0**60), id="score that a double rounds"),
            pytest.param(Expire("h", -1), id="negative time to live"),
            pytest.param(Put("", {"a": 1}, 5), id="empty ledger name"),
            pytest.param(Put("n", {}, 5), id="entry without fields"),
            pytest.param(Due("n", cast("Any", "soon")), id="due at a text"),
        ],
    )
    def test_a_bad_change_writes_nothing(self, store: Store, bad: Change | LedgerChange) -> None:
        """Everything is checked before MULTI: neighbours of a bad change are not written either."""
        changes: list[Change] = [SetFields("good", {"a": 1})]
        ledger: list[LedgerChange] = []
        if isinstance(bad, LedgerChange):
            ledger.append(bad)
        else:
            changes.append(bad)
        transaction = Transaction(changes, ledger)
        with store.session(W) as session, pytest.raises(StoreError):
            session.commit(transaction)

        assert store.look(W, (Hash("good"),)).hash("good") == {}

    def test_a_bad_event_writes_nothing(self, store: Store) -> None:
        """An event has fields, and belongs to a workflow."""
        for slot, event in ((W, {}), (lock_slot("L"), {"kind": "k"})):
            with store.session(slot) as session, pytest.raises(StoreError):
                session.commit(Transaction([SetFields("good", {"a": 1})], events=[event]))
            assert store.look(slot, (Hash("good"),)).hash("good") == {}

    def test_a_key_of_another_type_is_an_error(self, store: Store) -> None:
        """Reading or writing a list as a hash says so; the session goes on."""
        write(store, Append("l", "x"))
        with store.session(W) as session:
            with pytest.raises(StoreError):
                session.read((Hash("l"), Items("l")), ("l",))
            with pytest.raises(StoreError):
                session.commit(Transaction([SetFields("l", {"a": 1})]))
            assert session.read((Items("l"),))[Items("l")] == ["x"]

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_odd_names(self, store: Store, name: str) -> None:
        """Any text can be a key, a field, a member, a ledger name and a lock; they don't run into each other."""
        write(
            store,
            SetFields(name, {name: name}),
            Add("s", (name,)),
            Append("l", name),
            Rank("z", name, 1),
            ledger=[Put(name, {name: name}, 5)],
        )
        write(store, SetFields("h", {name: 1}), slot=lock_slot(name))

        asked = (Hash(name), Members("s"), Position("l", name), Ranked("z"), Look((name,)), Hash(f"m:{name}"))
        seen = store.look(W, asked)
        fields = {name: name.encode()}
        assert [seen[query] for query in asked] == [fields, {name}, 0, [(name, 1.0)], {name: 5}, fields]
        assert [lock.name for lock in store.locks()] == [name]
        entry = store.first_due([store.partition_of(W.name)], 10)[1][store.partition_of(W.name)][0]
        assert (entry.workflow_id, entry.name) == (W.name, name)

    @pytest.mark.parametrize("workflow_id", ["", "a/b", "a:b", "{a}", "a b", "ix", "x" * 201, "a\n", "\ud800"])
    def test_what_is_no_workflow_id_is_refused(self, store: Store, workflow_id: str) -> None:
        """Ids that would run into other keys never reach the server."""
        with pytest.raises(WorkflowNotFoundError, match="not a workflow id"):
            store.look(workflow_slot(workflow_id), (Hash("w"),))

    def test_large_values(self, store: Store) -> None:
        """Megabytes and thousands of fields pass unharmed."""
        large = bytes(range(256)) * 16_384
        many = {f"f{number}": number for number in range(5_000)}

        write(store, SetFields("large", {"a": large}), SetFields("many", many))

        seen = store.look(W, (Hash("large"), Hash("many")))
        assert seen.hash("large") == {"a": large}
        assert seen.hash("many") == {name: b"%d" % value for name, value in many.items()}

    def test_no_update_is_lost(self, store: Store) -> None:
        """Threads that read, add one and commit under WATCH count every one of their commits."""
        workers, rounds = 4, 25

        def count() -> None:
            for _ in range(rounds):
                while not _add_one(store):
                    pass

        threads = [threading.Thread(target=count) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert store.look(W, (Hash("k"),)).hash("k") == {"n": b"%d" % (workers * rounds)}

    def test_a_partition_has_the_keys_of_its_workflows(self, store: Store) -> None:
        """The partition's slot names the same keys with the workflow's id before them."""
        partition = partition_slot(store.partition_of(W.name))
        write(store, SetFields("k", {"a": 1}), ledger=[Put("n", {"t": 1}, 5)])

        with store.session(partition) as session:
            seen = session.read((Hash(f"{W.name}:m:n"), Look((f"{W.name}/n",))), (f"{W.name}:k",))
            assert (seen.hash(f"{W.name}:m:n"), seen[Look((f"{W.name}/n",))]) == ({"t": b"1"}, {f"{W.name}/n": 5})
            write(store, SetFields("k", {"a": 2}))
            assert session.commit(Transaction()) is None
            session.commit(Transaction(ledger=[Due(f"{W.name}/n", 9), Put(f"{W.name}/o", {"t": 2}, 8)]))

        seen = store.look(W, (Look(("n", "o")), Hash("m:o")))
        assert (seen[Look(("n", "o"))], seen.hash("m:o")) == ({"n": 9, "o": 8}, {"t": b"2"})

    def test_slots_do_not_mix(self, store: Store) -> None:
        """The same logical key in two workflows, or in a lock, is two keys."""
        write(store, SetFields("h", {"a": 1}))

        others = [workflow_slot("01HZY8QK6"), lock_slot(W.name)]
        assert [store.look(slot, (Hash("h"),)).hash("h") for slot in others] == [{}, {}]

    @pytest.mark.parametrize(
        "slot", [Slot("partition", "99"), Slot("partition", "x"), Slot("moon", "1"), Slot("lock", "")]
    )
    def test_unknown_slots_are_refused(self, store: Store, slot: Slot) -> None:
        """A slot that can't be is an error, not a place to lose data in."""
        with pytest.raises(StoreError):
            store.look(slot, ())

    @pytest.mark.parametrize("change", [Drop("n"), Undue("n"), Bury("n", 5)])
    def test_a_lock_has_no_ledger(self, store: Store, change: LedgerChange) -> None:
        """Only workflows owe something."""
        with store.session(lock_slot("L")) as session, pytest.raises(StoreError):
            session.commit(Transaction(ledger=[change]))


class FaithfulWatchContract:
    """Where WATCH is subtle; fakeredis 2.40 touches a set without need, and does not notice an expiry."""

    def test_expiry_touches(self, store: Store, let_pass: Callable[[int], None]) -> None:
        """A watched key that expires has moved."""
        write(store, SetFields("k", {"a": 1}), Expire("k", 400))
        with store.session(W) as session:
            session.read((), ("k",))
            let_pass(500)

            assert session.commit(Transaction()) is None

    def test_adding_a_member_that_is_there_touches_nothing(self, store: Store) -> None:
        """SADD of what is there is no write."""
        write(store, Add("k", ("a",)))
        with store.session(W) as session:
            session.read((), ("k",))
            write(store, Add("k", ("a",)))

            assert session.commit(Transaction()) == []


def _add_one(store: Store) -> bool:
    with store.session(W) as session:
        seen = session.read((Hash("k"),), ("k",)).hash("k")
        return session.commit(Transaction([SetFields("k", {"n": int(seen.get("n", b"0")) + 1})])) is not None
