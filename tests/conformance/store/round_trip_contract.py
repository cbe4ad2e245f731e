"""What a store may cost: round trips, on one server."""

import pytest

from stabilize_celery.engine.steps import Append, Hash, Members, lock_slot, workflow_slot
from stabilize_celery.store.command_store import CommandStore
from stabilize_celery.store.contract import Filter, Put, Transaction
from tests.conformance.store.registry_contract import begin

W = workflow_slot("01HZY8QK6N")


class RoundTripContract:
    """Round trips are what a commit costs over a network."""

    @pytest.fixture
    def store(self) -> CommandStore:
        raise AssertionError("each store supplies this")

    def test_each_step_is_one_round_trip(self, store: CommandStore) -> None:
        """WATCH, reads and TIME; EXEC; EXEC with reads; a look at several slots; ending a session costs none."""
        store.partitions()
        before = store.round_trips
        with store.session(W) as session:
            session.read((Hash("k"), Members("s")), ("k", "s"))
            session.commit_and_read(
                Transaction([Append("l", "x")], [Put("n", {"t": 1}, 5)], [{"kind": "k"}]), (Hash("k"),)
            )
            session.commit(Transaction([Append("l", "x")]))
            session.read((), ("k",))
        with store.session(W) as session:
            session.read((), ("k",))
        store.look_many([(W, (Hash("k"),)), (lock_slot("L"), (Hash("h"),)), (workflow_slot("other"), (Hash("k"),))])

        assert store.round_trips - before == 6

    def test_leases_cost_one_round_trip(self, store: CommandStore) -> None:
        """Taking and renewing alike."""
        before = store.round_trips
        store.take_leases("a", [0, 1, 2], 1000)
        store.take_leases("a", [0, 1, 2], 1000)

        assert store.round_trips - before == 2

    def test_a_page_costs_two_round_trips(self, store: CommandStore) -> None:
        """One for the indexes of all partitions, one for the lines."""
        for number in range(30):
            begin(store, number, 1_000 + number)
        before = store.round_trips

        page = store.listing(Filter(), 10, None)
        store.listing(Filter(), 10, page.cursor)

        assert store.round_trips - before == 4

    def test_first_due_is_one_round_trip(self, store: CommandStore) -> None:
        """For all partitions and the time."""
        partitions = range(store.partitions())
        before = store.round_trips
        store.first_due(partitions, 10)

        assert store.round_trips - before == 1

    def test_several_slots_cost_as_much_as_one(self, store: CommandStore) -> None:
        """On one server: WATCH and reads, EXEC."""
        slots = [workflow_slot(f"wf{number}") for number in range(16)]
        store.partitions()
        before = store.round_trips
        (group,) = store.groups(slots)
        with store.group(group) as session:
            session.read((Hash("h"),), ("h",))
            session.commit([Transaction([Append("l", "x")]) for _ in group])

        assert store.round_trips - before == 2
