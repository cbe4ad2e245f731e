"""Large values are blobs beside the hashes that name them: one per place, written and removed with what names it."""

from __future__ import annotations

from typing import Any

import pytest

from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.steps import Change, Delete, DeleteFields, Fields, Hash, SetFields, workflow_slot
from stabilize_celery.errors import PayloadError
from stabilize_celery.store import wire
from stabilize_celery.store.blobs import BlobCache
from stabilize_celery.store.cipher import KeyRing
from stabilize_celery.store.contract import Transaction
from stabilize_celery.store.memory import MemoryStore
from stabilize_celery.store.vault import Vault

W = workflow_slot("01HWORKFLOW")
RUN = Hash("r:t")
LARGE, OTHER = pack({"text": "a" * 200}), pack({"text": "b" * 200})
SMALL = pack({"n": 1})


def store(like: MemoryStore | None = None, **vault: Any) -> MemoryStore:
    """A store, with a cache of its own: as another process has it."""
    made = MemoryStore(lambda: 1_700_000_000_000_000, vault=Vault(**{"blob_bytes": 100, **vault}))
    if like is not None:
        made._wire = like._wire
    return made


def write(at: MemoryStore, *changes: Change) -> None:
    """As a handler does: read, then commit."""
    with at.session(W) as session:
        session.read([RUN], [RUN.key])
        assert session.commit(Transaction(list(changes))) is not None


def stored(at: MemoryStore, key: str) -> dict[str, bytes]:
    """What the server has."""
    name = at._address(W).key(key)
    ((flat,),) = at._wire.gather([wire.Batch(name, [("HGETALL", name)])])
    return {field.decode(): value for field, value in zip(flat[::2], flat[1::2], strict=True)}


def blobs(at: MemoryStore) -> list[bytes]:
    return sorted(stored(at, "b").values())


def read(at: MemoryStore) -> dict[str, bytes]:
    return dict(at.look(W, [RUN]).hash(RUN.key))


def test_a_large_value_is_beside_the_record_and_a_small_one_in_it() -> None:
    """Who reads the record gets a name of fixed length; whoever asks through a store gets the value."""
    ours = store()
    write(ours, SetFields(RUN.key, {"outputs": LARGE, "context": SMALL, "status": "RUNNING"}))

    raw = stored(ours, RUN.key)
    assert (raw["context"], raw["status"], len(raw["outputs"])) == (SMALL, b"RUNNING", 42)
    assert blobs(ours) == [LARGE]
    expected = {"outputs": LARGE, "context": SMALL, "status": b"RUNNING"}
    assert read(ours) == read(store(ours)) == read(store(ours, blob_bytes=0)) == expected
    some = Fields(RUN.key, ("outputs",))
    assert store(ours).look(W, [some])[some] == {"outputs": LARGE}


def test_without_large_values_nothing_is_written_otherwise() -> None:
    """Not a byte more."""
    vault, transaction = Vault(blob_bytes=100), Transaction([SetFields(RUN.key, {"outputs": SMALL})])
    sealed, shelf = vault.sealed(store()._address(W), transaction, vault.fetching().shelf)

    assert sealed is transaction
    assert shelf.is_empty


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (SetFields(RUN.key, {"outputs": OTHER}), [OTHER]),
        (SetFields(RUN.key, {"outputs": LARGE}), [LARGE]),
        (SetFields(RUN.key, {"outputs": SMALL}), []),
        (SetFields(RUN.key, {"status": "RUNNING"}), [LARGE]),
        (DeleteFields(RUN.key, ("outputs",)), []),
        (DeleteFields(RUN.key, ("status",)), [LARGE]),
        (Delete((RUN.key,)), []),
        (Delete(("r:t2",)), [LARGE]),
    ],
)
def test_a_blob_goes_with_what_named_it(change: Change, left: list[bytes]) -> None:
    """In the same commit, whichever process does it."""
    ours = store()
    write(ours, SetFields(RUN.key, {"outputs": LARGE}))
    write(store(ours), change)

    assert blobs(ours) == left


def test_of_what_one_commit_sets_twice_the_last_stays() -> None:
    """A draft of several decisions may do so."""
    ours = store()
    write(ours, SetFields(RUN.key, {"outputs": LARGE}), SetFields(RUN.key, {"outputs": OTHER}))
    assert (blobs(ours), read(ours)) == ([OTHER], {"outputs": OTHER})

    write(ours, SetFields(RUN.key, {"outputs": LARGE}), SetFields(RUN.key, {"outputs": SMALL}))
    assert (blobs(ours), read(ours)) == ([], {"outputs": SMALL})


def test_one_unit_of_work_may_commit_several_times() -> None:
    """Each knows what the one before has written."""
    ours = store()
    with ours.session(W) as session:
        session.read([RUN], [RUN.key])
        session.commit_and_read(Transaction([SetFields(RUN.key, {"outputs": LARGE})]), [RUN], [RUN.key])
        results = session.commit(Transaction([SetFields(RUN.key, {"outputs": OTHER})]))

    assert (results, blobs(ours)) == ([None], [OTHER])


def test_equal_values_at_two_places_do_not_share_a_blob() -> None:
    """Else the one that is overwritten first would take it from the other."""
    ours = store()
    write(ours, SetFields(RUN.key, {"outputs": LARGE, "context": LARGE}))
    write(ours, SetFields(RUN.key, {"outputs": SMALL}))

    assert read(store(ours)) == {"outputs": SMALL, "context": LARGE}


def test_a_blob_is_fetched_once_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round trip more for the first read, none for those after it."""
    ours = store()
    write(ours, SetFields(RUN.key, {"outputs": LARGE}))
    other = store(ours)
    other.partitions()
    trips: list[int] = []
    gather = other._gather
    monkeypatch.setattr(other, "_gather", lambda batches: trips.append(1) or gather(batches))

    assert [read(other)["outputs"] for _ in range(3)] == [LARGE] * 3
    assert len(trips) == 4


def test_what_was_in_the_cache_stays_in_the_answer_when_the_rest_drives_it_out() -> None:
    """Large values that are more than the cache holds are read as well the second time."""
    ours = store()
    write(ours, SetFields(RUN.key, {"outputs": LARGE, "context": OTHER}))
    other = store(ours)
    other._vault._cache = BlobCache(len(LARGE) + 1)

    looks = [other.look(W, [Fields(RUN.key, ("outputs",)), RUN])[RUN] for _ in range(3)]

    assert looks == [{"outputs": LARGE, "context": OTHER}] * 3


def test_payloads_that_are_left_out_are_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither those in Redis nor those in files; other fields of any size are."""
    ours = store()
    write(ours, SetFields(RUN.key, {"outputs": LARGE, "context": SMALL, "tasks": OTHER}))
    other = store(ours)
    fetched: list[Any] = []
    bring = other._bring
    monkeypatch.setattr(
        other, "_bring", lambda at, readings: fetched.append(readings[0].fetching) or bring(at, readings)
    )

    assert other.look(W, [RUN], without_payloads=True)[RUN] == {"context": SMALL, "tasks": OTHER}
    ((command,),) = fetched
    assert len(command) == 3  # HMGET, its key, one name


def test_what_is_overwritten_between_two_looks_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blob that the record named is gone when it is asked for."""
    ours = store()
    write(ours, SetFields(RUN.key, {"outputs": LARGE}))
    other = store(ours)
    gather = other._gather
    overwrites = [SetFields(RUN.key, {"outputs": OTHER})]

    def interrupted(batches: Any) -> Any:
        found = gather(batches)
        while overwrites:
            write(ours, overwrites.pop())
        return found

    monkeypatch.setattr(other, "_gather", interrupted)

    assert read(other) == {"outputs": OTHER}


def test_what_was_removed_by_hand_is_told_with_its_place() -> None:
    """And the message is left to be tried again."""
    ours = store()
    write(ours, SetFields(RUN.key, {"outputs": LARGE}))
    write(ours, Delete(("b",)))

    with pytest.raises(PayloadError, match=r"r:t\.outputs is a large value that its workflow's key 'b' lacks"):
        read(store(ours))
    with store(ours).session(W) as session, pytest.raises(PayloadError, match=r"r:t\.outputs"):
        session.read([RUN], [RUN.key])


def test_blobs_are_encrypted_like_all_else() -> None:
    """Large or not."""
    ours = store(cipher=KeyRing({"a": b"k" * 32}))
    write(ours, SetFields(RUN.key, {"outputs": LARGE}))

    (kept,) = blobs(ours)
    assert b"aaaa" not in kept
    assert read(store(ours, cipher=KeyRing({"a": b"k" * 32}))) == {"outputs": LARGE}


def test_a_cache_holds_so_many_bytes_and_keeps_what_was_asked_for_last() -> None:
    """What is larger than all of it is not kept at all."""
    cache = BlobCache(10)
    cache.keep("a", b"1234")
    cache.keep("b", b"1234")
    cache.get("a")
    cache.keep("c", b"1234")
    cache.keep("d", b"12345678901")

    assert [cache.get(name) is not None for name in "abcd"] == [True, False, True, False]
