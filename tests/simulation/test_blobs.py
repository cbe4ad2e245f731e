"""With nearly every payload a blob: any definition in a storm ends as without, and no blob is lost or left over."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stabilize_celery.store import wire
from stabilize_celery.store.memory import MemoryStore
from stabilize_celery.store.vault import MARK, Vault
from tests.simulation.random_graphs import TAME, WILD, definitions
from tests.simulation.stories import CALM, ROUGH
from tests.simulation.test_random_graphs import STORMY, Play, looking

NAMED = MARK + b"\x03"


def with_blobs(play: Play) -> Play:
    """Let its fleet keep all but the smallest payloads as blobs, from the definition on."""
    play.simulation.store._vault = Vault(blob_bytes=8)
    return play


def hash_of(store: MemoryStore, key: str) -> dict[bytes, bytes]:
    ((flat,),) = store._wire.gather([wire.Batch(key, [("HGETALL", key)])])
    return dict(zip(flat[::2], flat[1::2], strict=True)) if isinstance(flat, list) else {}


def books(store: MemoryStore) -> tuple[set[bytes], set[bytes]]:
    """The blobs that fields name, and those that there are."""
    named: set[bytes] = set()
    kept: set[bytes] = set()
    for key in (key.decode() for key in store._wire.scan("*")):
        if key.endswith(":b"):
            kept |= hash_of(store, key).keys()
        else:
            named |= {value[2:] for value in hash_of(store, key).values() if value[:2] == NAMED}
    return named, kept


@looking(20)
@given(definitions(WILD), st.integers(0, 2**32))
def test_in_a_storm_no_blob_is_lost_and_none_is_left(definition: dict[str, Any], seed: int) -> None:
    """Deaths between any two steps, lost and doubled messages; when the retention is over all of it is gone."""
    play = with_blobs(Play(definition, seed, STORMY)).run()
    named, kept = books(play.simulation.store)

    assert named <= kept
    if play.statuses[""] == "SUCCEEDED":
        # What is cut short takes records away unread; their blobs go with the workflow.
        assert named == kept
    play.laws.require_no_trace(play.id)


@looking(8)
@given(definitions(TAME), st.integers(0, 2**32))
def test_with_blobs_everything_ends_as_without(definition: dict[str, Any], seed: int) -> None:
    """Where payloads are changes nothing of what is decided."""
    plain = Play(definition, 0, CALM).run().statuses

    assert with_blobs(Play(definition, seed, ROUGH)).run().statuses == plain
