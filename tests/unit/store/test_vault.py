"""Payloads are unreadable without their key, bound to their place, survive a rotation, and large ones are files."""

from __future__ import annotations

import base64
import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.steps import Delete, Fields, Hash, SetFields, readable, workflow_slot
from stabilize_celery.errors import ConfigurationError, PayloadError, UnreachableError
from stabilize_celery.settings import Settings
from stabilize_celery.store.cipher import KeyRing
from stabilize_celery.store.contract import Put, Transaction, partition_slot
from stabilize_celery.store.files import FileBlobs
from stabilize_celery.store.memory import MemoryStore
from stabilize_celery.store.vault import Vault
from stabilize_celery.transport.process import vault_of

W = workflow_slot("01HWORKFLOW")
OLD, NEW = {"old": b"o" * 32}, {"new": b"n" * 32}
SECRET = pack({"card": "4111 1111"})


def store(vault: Vault, like: MemoryStore | None = None) -> MemoryStore:
    made = MemoryStore(lambda: 1_700_000_000_000_000, vault=vault)
    if like is not None:
        made._wire = like._wire
    return made


def write(at: MemoryStore, key: str = "r:t", **fields: Any) -> None:
    with at.session(W) as session:
        session.commit(Transaction([SetFields(key, fields)], (), [{"kind": "k", "data": SECRET}]))


def read(at: MemoryStore, key: str = "r:t") -> dict[str, bytes]:
    return dict(at.look(W, [Hash(key)]).hash(key))


def test_what_is_packed_is_sealed_and_what_listings_live_by_is_not() -> None:
    """Also events, and the reason, which may repeat what a task said."""
    sealed = store(Vault(KeyRing(OLD)))
    write(sealed, outputs=SECRET, status="RUNNING", started_ms=7, reason="card 4111 refused")
    raw = store(Vault(None, FileBlobs("/nowhere", "x")), sealed)
    raw._vault = Vault()
    raw._vault.opened = lambda _, fields, _fetched=None: fields  # type: ignore[method-assign]

    stored = read(raw)
    assert (stored["status"], stored["started_ms"]) == (b"RUNNING", b"7")
    assert not any(b"4111" in value for value in stored.values())
    assert not any(b"4111" in value for event in raw.events(W.name, "0", None, 9) for value in event.fields.values())
    assert read(sealed) == {"outputs": SECRET, "status": b"RUNNING", "started_ms": b"7", "reason": b"card 4111 refused"}
    assert sealed.events(W.name, "0", None, 9)[0].fields["data"] == SECRET
    some = Fields("r:t", ("outputs",))
    assert sealed.look(W, [some])[some] == {"outputs": SECRET}


def test_ledger_entries_stay_as_they_are() -> None:
    """They hold ids only, and keepers read them all the time."""
    sealed = store(Vault(KeyRing(OLD)))
    with sealed.session(W) as session:
        session.commit(Transaction([SetFields("m:b", {"a": b"ids"})], [Put("a", {"a": b"ids"}, 1)]))

    plain = store(Vault(), sealed)
    assert (read(plain, "m:a"), read(plain, "m:b")) == ({"a": b"ids"}, {"a": b"ids"})


@pytest.mark.parametrize("key", ["g:a:m:b", "r:m:x", "g:m:Run", "k:m:m:b"])
def test_a_name_that_looks_like_an_entrys_hides_nothing(key: str) -> None:
    """Stages are called what their authors like: what is theirs is sealed all the same."""
    sealed = store(Vault(KeyRing(OLD)))
    write(sealed, key, outputs=SECRET)
    raw = store(Vault(), sealed)
    raw._vault.opened = lambda _, fields, _fetched=None: fields  # type: ignore[method-assign]

    assert b"4111" not in read(raw, key)["outputs"]
    assert read(sealed, key) == {"outputs": SECRET}


def test_a_partitions_entries_stay_as_they_are() -> None:
    """Its key begins with the workflow's id."""
    sealed = store(Vault(KeyRing(OLD)))
    partition = partition_slot(3)
    with sealed.session(partition) as session:
        session.commit(Transaction([SetFields("01HWORKFLOW:m:b", {"a": SECRET})]))

    plain = store(Vault(), sealed)
    assert plain.look(partition, [Hash("01HWORKFLOW:m:b")]).hash("01HWORKFLOW:m:b") == {"a": SECRET}


def test_a_rotated_ring_reads_the_old_and_writes_the_new() -> None:
    first = store(Vault(KeyRing(OLD)))
    write(first, "r:1", outputs=SECRET)
    both = store(Vault(KeyRing({**NEW, **OLD})), first)
    write(both, "r:2", outputs=SECRET)

    assert read(both, "r:1") == read(both, "r:2") == {"outputs": SECRET}
    only_new = store(Vault(KeyRing(NEW)), first)
    assert read(only_new, "r:2") == {"outputs": SECRET}
    with pytest.raises(PayloadError, match="the key 'old', which STABILIZE_ENCRYPTION_KEYS lacks"):
        read(only_new, "r:1")


def test_what_was_plain_before_is_read_on() -> None:
    """Encryption can be turned on for a namespace that is in use."""
    plain = store(Vault())
    write(plain, outputs=SECRET)

    assert read(store(Vault(KeyRing(NEW)), plain)) == {"outputs": SECRET}


def test_without_a_key_the_error_says_what_to_set_and_may_be_tried_elsewhere() -> None:
    sealed = store(Vault(KeyRing(OLD)))
    write(sealed, outputs=SECRET)

    with pytest.raises(PayloadError, match=r"r:t\.outputs is encrypted: set STABILIZE_ENCRYPTION_KEYS") as refused:
        read(store(Vault(), sealed))
    assert isinstance(refused.value, UnreachableError)


def test_a_value_that_cant_be_opened_fails_who_takes_it_and_nobody_else() -> None:
    """Who only wants to know how a run stands need not have the key to what it brought."""
    sealed = store(Vault(KeyRing(OLD)))
    write(sealed, outputs=SECRET, status="RUNNING")
    other = store(Vault(KeyRing(NEW)), sealed)

    found = other.look(W, [Hash("r:t")]).hash("r:t")

    assert found["status"] == b"RUNNING"
    assert set(found) == {"outputs", "status"}
    assert "outputs" in found
    assert readable(found) == {"status": b"RUNNING"}
    for take in (lambda: found["outputs"], lambda: found.get("outputs"), lambda: dict(found), lambda: {**found}):
        with pytest.raises(PayloadError, match="'old'"):
            take()


@pytest.mark.parametrize("change", ["moved", "another field", "cut", "flipped"])
def test_a_value_that_was_tampered_with_is_refused(change: str) -> None:
    ring = KeyRing(OLD)
    sealed = ring.seal(SECRET, "ns:{p1}:W:r:t.outputs")
    place = {"moved": "ns:{p1}:V:r:t.outputs", "another field": "ns:{p1}:W:r:t.context"}.get(
        change, "ns:{p1}:W:r:t.outputs"
    )
    given = {"cut": sealed[:20], "flipped": sealed[:-1] + bytes([sealed[-1] ^ 1])}.get(change, sealed)

    with pytest.raises(PayloadError, match="can't be decrypted"):
        ring.open(given, place)


def test_two_seals_of_one_value_differ() -> None:
    ring = KeyRing(OLD)

    assert ring.seal(SECRET, "p") != ring.seal(SECRET, "p")


@pytest.mark.parametrize(
    "text", ["", "a", "a:", ":AAAA", "a:???", "a:" + base64.b64encode(b"x" * 31).decode(), "a:YWJj,", "a b:YWJj"]
)
def test_keys_that_cant_be_read_are_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ConfigurationError, match="STABILIZE_ENCRYPTION_KEYS") as refused:
        KeyRing.parse(text)

    assert "eHh4" not in str(refused.value)


def test_two_keys_of_one_name_are_refused() -> None:
    key = base64.b64encode(b"x" * 32).decode()

    with pytest.raises(ConfigurationError, match="two keys have the name 'a'"):
        KeyRing.parse(f"a:{key},a:{key}")


def test_settings_make_the_vault_and_dont_show_the_key(tmp_path: Path) -> None:
    key = base64.b64encode(b"x" * 32).decode()
    settings = Settings(encryption_keys=f"a:{key}", payload_dir=str(tmp_path), payload_bytes=10)
    made = store(vault_of(settings))
    write(made, outputs=SECRET)

    assert key not in repr(settings)
    assert read(made) == {"outputs": SECRET}
    assert any(tmp_path.rglob("*"))


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def filed(tmp_path: Path) -> MemoryStore:
    return store(Vault(None, FileBlobs(str(tmp_path), "ns"), 100))


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_large_values_are_files_and_small_ones_are_not(filed: MemoryStore, tmp_path: Path) -> None:
    large = b"x" * 100
    write(filed, outputs=large, context=b"y" * 99)

    assert read(filed) == {"outputs": large, "context": b"y" * 99}
    [path] = files(tmp_path)
    assert (path.parent.name, path.read_bytes()) == (W.name, large)


def test_they_go_with_their_workflow(filed: MemoryStore, tmp_path: Path) -> None:
    write(filed, outputs=b"x" * 100)
    with filed.session(W) as session:
        session.commit(Transaction([Delete(("d",))]))

    assert files(tmp_path) == []


def test_no_size_means_no_files(tmp_path: Path) -> None:
    """0 is never, not always."""
    never = store(Vault(None, FileBlobs(str(tmp_path), "ns"), 0))
    write(never, outputs=b"x" * 100)

    assert (files(tmp_path), read(never)) == ([], {"outputs": b"x" * 100})


@pytest.mark.parametrize("name", [".", ".."])
def test_no_workflow_has_the_directory_of_all_others(tmp_path: Path, name: str) -> None:
    """An id that names it keeps nothing in files, and removes nothing when it goes."""
    blobs = FileBlobs(str(tmp_path), "ns")
    kept = blobs.put("w", b"x")

    with pytest.raises(PayloadError, match="names a directory above"):
        blobs.put(name, b"y")
    blobs.forget(name)

    assert blobs.get(kept) == b"x"


def test_a_disk_that_is_full_is_not_made_fuller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written whole is removed."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("stabilize_celery.store.files.os", SimpleNamespace(fdopen=os.fdopen, fsync=full))
    with pytest.raises(PayloadError, match="No space left on device"):
        FileBlobs(str(tmp_path), "ns").put("w", b"x")

    assert files(tmp_path) == []


@pytest.mark.parametrize("harm", ["gone", "changed"])
def test_a_file_that_is_not_what_was_written_is_told(filed: MemoryStore, tmp_path: Path, harm: str) -> None:
    write(filed, outputs=b"x" * 100)
    [path] = files(tmp_path)
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(b"z" * 100)

    with pytest.raises(PayloadError, match="Is the directory mounted" if harm == "gone" else "not what was written"):
        read(filed)


def test_a_directory_that_cant_be_written_is_told_and_nothing_is_stored(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    broken = store(Vault(None, FileBlobs(str(tmp_path / "file"), "ns"), 10))

    with pytest.raises(PayloadError, match="can't be written"):
        write(broken, outputs=b"x" * 100)
    assert read(broken) == {}


def test_who_has_no_directory_is_told_what_to_set(filed: MemoryStore) -> None:
    write(filed, outputs=b"x" * 100)

    with pytest.raises(PayloadError, match="set STABILIZE_PAYLOAD_DIR"):
        read(store(Vault(), filed))
