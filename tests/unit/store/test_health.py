"""What the doctor is told of several servers: of each setting, what is most likely to lose something."""

from types import SimpleNamespace

import pytest

from stabilize_celery.store.memory import MemoryStore
from stabilize_celery.store.wire import Reply


def server(version: str = "7.4.0", **settings: str) -> list[Reply]:
    """What a server answers; a setting that is not given it does not tell."""
    info = f"# Server\r\nredis_version:{version}\r\n".encode()
    asked = ("appendonly", "appendfsync", "maxmemory_policy")
    return [info, *([name.encode(), settings[name].encode()] if name in settings else [] for name in asked)]


def health_of(*servers: list[Reply], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    store = MemoryStore()
    monkeypatch.setattr(store._wire, "survey", lambda _: [*servers])
    return store.health()


@pytest.mark.parametrize("versions", [("10.0.1", "9.9.0"), ("9.9.0", "10.0.1"), ("9.10.0", "9.9.0")])
def test_the_oldest_version_counts(versions: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By its numbers: 10 is newer than 9, though not as a text."""
    health = health_of(*map(server, versions), monkeypatch=monkeypatch)

    assert health["redis_version"] == "9.9.0"


@pytest.mark.parametrize(
    ("name", "safest_first"),
    [
        ("appendonly", ["yes", "no"]),
        ("appendfsync", ["always", "everysec", "no"]),
        ("maxmemory_policy", ["noeviction", "volatile-lru"]),
    ],
)
def test_the_setting_counts_that_loses_most(
    name: str, safest_first: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the servers has it."""
    while len(safest_first) > 1:
        servers = [server(**{name: value}) for value in safest_first]
        for order in (servers, servers[::-1]):
            assert health_of(*order, monkeypatch=monkeypatch)[name] == safest_first[-1]
        safest_first = safest_first[:-1]


def test_what_no_server_tells_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that tells make up for one that does not."""
    health = health_of(server(appendonly="yes"), server(), monkeypatch=monkeypatch)

    assert (health["appendonly"], health["appendfsync"]) == ("unknown", "unknown")


def test_a_round_trip_is_timed_once_the_connection_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """In ms: making the connection would count for more than the server's distance."""
    store, moments = MemoryStore(), iter([2.0, 2.0125])
    trips: list[int] = []

    def clock_s() -> float:
        trips.append(store.round_trips)
        return next(moments)

    monkeypatch.setattr("stabilize_celery.store.command_store.time", SimpleNamespace(perf_counter=clock_s))

    assert store.health()["ping_ms"] == "12.50"
    assert trips[0] > 0
    assert trips[1] == trips[0] + 1
