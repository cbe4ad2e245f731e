"""The wire between harness and peers, and what is counted on the way to Redis."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from redis.connection import Connection

from benchmarks.compare import Comparison
from benchmarks.peers import PEERS, chosen
from benchmarks.peers.process import PeerProcess, TooLongError
from benchmarks.peers.redis_only import commands_in
from benchmarks.plan import QUICK
from benchmarks.stamps import Stamps, begun, ended


def test_commands_are_counted_as_redis_will_answer_them() -> None:
    """Also where a value has line ends, or looks like a command."""
    connection = Connection()
    commands = [("MULTI",), ("SET", "a", b"1\r\n*2\r\n$3\r\n"), ("EXEC",)]
    sent = b"".join(b"".join(connection.pack_command(*command)) for command in commands)

    assert commands_in(sent) == 3
    assert commands_in(b"") == 0


def test_gaps_lie_between_the_end_of_a_body_and_the_begin_of_the_next(tmp_path: Path, monkeypatch) -> None:
    """Bodies are ordered by when they began; others have names that begin differently."""
    monkeypatch.setenv("BENCH_STAMPS", "")
    stamps = Stamps(tmp_path)
    clock = iter([4.5, 6.0, 1.0, 1.25, 2.0, 3.0])
    monkeypatch.setattr("benchmarks.stamps.time", SimpleNamespace(time=lambda: next(clock)))
    for body in ("s1", "s0", "other"):
        begun(body)
        ended(body)

    assert stamps.spans_ms("s") == [(1000, 1250), (4500, 6000)]
    assert stamps.gaps_ms("s") == [3250]
    stamps.clear()
    assert stamps.read() == {}


def entry(name: str):
    return next(one for one in PEERS if one.name == name)


@pytest.mark.real
def test_a_peer_answers_and_goes() -> None:
    """One process, asked twice; what it cannot do it says."""
    with PeerProcess(entry("in_process_per_message")) as peer:
        assert peer.ask({"kind": "chain", "sizes": [3]}, 60)["seconds"] > 0
        assert peer.ask({"kind": "mutex", "sizes": [3]}, 60) == {"cannot": "it has no such thing"}
        pid = peer.pid

    assert pid
    assert not psutil.pid_exists(pid)


@pytest.mark.real
def test_a_peer_that_takes_too_long_is_stopped_and_starts_anew() -> None:
    """The next question finds a new process."""
    with PeerProcess(entry("in_process_per_message")) as peer:
        peer.ask({"kind": "chain", "sizes": [3]}, 60)
        with pytest.raises(TooLongError, match="not within"):
            peer.ask({"kind": "chain", "sizes": [1_500]}, 0.01)
        assert peer.pid == 0

        assert peer.ask({"kind": "chain", "sizes": [3]}, 60)["seconds"] > 0


@pytest.mark.real
def test_a_replay_sends_what_the_runtime_sent() -> None:
    """It counts round trips and commands; a replay that ends elsewhere than its recording is an error."""
    with PeerProcess(entry("redis_only_per_message")) as peer:
        two = peer.ask({"kind": "chain", "sizes": [2]}, 60)
        twelve = peer.ask({"kind": "chain", "sizes": [12]}, 60)

    assert two["commands"] > two["round_trips"] > 0
    assert twelve["commands"] > two["commands"]


def test_what_would_take_longer_than_the_run_allows_is_not_begun() -> None:
    """The reason names the time it was expected to take; no process was started for it."""
    with Comparison(QUICK, chosen(["upstream_file"]), lambda _: None) as run:
        run._cost_s["upstream_file"] = 1.0
        [shape] = [one for one in QUICK.shapes if one.name == "fan_1000"]
        run._once(entry("upstream_file"), shape, 0)

        assert run.cells["fan_1000"]["upstream_file"].skipped.startswith("about 1,001 s")
        assert run.processes["upstream_file"].pid == 0
