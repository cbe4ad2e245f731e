"""Random sessions that disturb each other: the memory store does what Redis (fakeredis) does."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import fakeredis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from stabilize_celery.engine.steps import Add as AddMembers
from stabilize_celery.engine.steps import (
    Append,
    Change,
    Count,
    Delete,
    DeleteFields,
    Hash,
    Increment,
    Items,
    Look,
    Members,
    Query,
    Rank,
    Ranked,
    Remove,
    SetFields,
    Unrank,
    workflow_slot,
)
from stabilize_celery.store.contract import Bury, Drop, Due, LedgerChange, Put, Session, Store, Transaction, Undue
from stabilize_celery.store.memory import MemoryStore
from stabilize_celery.store.pools import Pools
from stabilize_celery.store.redis_store import RedisStore

W = workflow_slot("W")
NAMES = ("a", "b")
EVERYTHING: tuple[Query, ...] = (
    *(Hash(f"h{name}") for name in NAMES),
    *(Members(f"s{name}") for name in NAMES),
    *(Count(f"s{name}") for name in NAMES),
    *(Items(f"l{name}") for name in NAMES),
    *(Ranked(f"z{name}") for name in NAMES),
    *(Hash(f"m:{name}") for name in NAMES),
    Look(NAMES),
    Look(NAMES, "dead"),
)

name = st.sampled_from(NAMES)
small = st.integers(-2, 2)
any_key = st.builds(str.__add__, st.sampled_from("hlz"), name)
fields = st.dictionaries(name, st.one_of(small, st.sampled_from(["1", b"2"])), min_size=1)
members = st.lists(name, min_size=1, max_size=2, unique=True).map(tuple)


def of(kind: str) -> st.SearchStrategy[str]:
    return name.map(kind.__add__)


changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(SetFields, of("h"), fields),
    st.builds(DeleteFields, of("h"), members),
    st.builds(Increment, of("h"), name, small),
    st.builds(Delete, st.lists(any_key, min_size=1, max_size=2).map(tuple)),
    st.builds(AddMembers, of("s"), members),
    st.builds(Remove, of("s"), members),
    st.builds(Append, of("l"), name),
    st.builds(Rank, of("z"), name, small, st.booleans()),
    st.builds(Unrank, of("z"), name),
)
ledger: st.SearchStrategy[LedgerChange] = st.one_of(
    st.builds(Put, name, fields, small, st.booleans()),
    st.builds(Drop, name),
    st.builds(Due, name, small, st.booleans()),
    st.builds(Undue, name),
    st.builds(Bury, name, small),
)
transactions = st.builds(
    Transaction, st.lists(changes, max_size=3), st.lists(ledger, max_size=2), st.lists(fields, max_size=1)
)


class StoresAgree(RuleBasedStateMachine):
    """Two sessions on each store do the same things, step by step."""

    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.stores: tuple[Store, ...] = (MemoryStore(), self.redis())
        self.open = ExitStack()

    def redis(self) -> Store:
        """Return an empty store on Redis, or on what stands for it."""
        server = fakeredis.FakeServer()
        return RedisStore(
            "redis://fake",
            make_pools=lambda _: Pools(lambda: fakeredis.FakeRedis(server=server, protocol=2).connection_pool),
        )

    @initialize(target=sessions)
    def first(self) -> tuple[Session, ...]:
        return self.session_of_each()

    @rule(target=sessions)
    def begin(self) -> tuple[Session, ...]:
        return self.session_of_each()

    def session_of_each(self) -> tuple[Session, ...]:
        return tuple(self.open.enter_context(store.session(W)) for store in self.stores)

    @rule(pair=sessions, watch=st.lists(any_key, max_size=2))
    def read(self, pair: tuple[Session, ...], watch: list[str]) -> None:
        memory, fake = (answers(session.read(EVERYTHING, watch)) for session in pair)
        assert memory == fake

    @rule(pair=sessions, transaction=transactions)
    def commit(self, pair: tuple[Session, ...], transaction: Transaction) -> None:
        memory, fake = (session.commit(transaction) for session in pair)
        assert memory == fake

    @rule(pair=sessions, transaction=transactions, watch=st.lists(any_key, max_size=2))
    def commit_and_read(self, pair: tuple[Session, ...], transaction: Transaction, watch: list[str]) -> None:
        memory, fake = (session.commit_and_read(transaction, EVERYTHING, watch) for session in pair)
        assert (memory is None) == (fake is None)
        if memory is not None and fake is not None:
            assert (memory[0], answers(memory[1])) == (fake[0], answers(fake[1]))

    @invariant()
    def same_state(self) -> None:
        memory, fake = (answers(store.look(W, EVERYTHING)) for store in self.stores)
        assert memory == fake
        due = [store.first_due(range(16), 9)[1] for store in self.stores]
        assert due[0] == due[1]
        events = [[event.fields for event in store.events("W", "0", None, 99)] for store in self.stores]
        assert events[0] == events[1]

    def teardown(self) -> None:
        self.open.close()
        for store in self.stores:
            store.close()


def answers(snapshot: Any) -> Mapping[Query, Any]:
    return {query: snapshot[query] for query in EVERYTHING}


TestStoresAgree = StoresAgree.TestCase
TestStoresAgree.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
