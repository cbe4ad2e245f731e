"""What operators see of a Redis Cluster that lacks a node."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.crc import key_slot

from stabilize_celery.cli.program import run
from stabilize_celery.client import Client
from stabilize_celery.store import keys
from tests.clusters import cluster_of
from tests.servers import RedisServer

pytestmark = pytest.mark.real

_LIVES_ON = ("--cluster-node-timeout", "30000", "--cluster-require-full-coverage", "no")
_SLOTS = 16_384


def test_doctor_names_the_node_and_checks_the_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The namespace itself lies on one of those."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    with cluster_of(2, *_LIVES_ON, append_only=True) as nodes, RedisServer() as broker:
        state = f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in nodes)}"
        with Client(state, broker.url) as client:
            assert client.store.partitions() == 16
        home = key_slot(keys.partitions("stabilize").encode()) * 2 // _SLOTS
        nodes[1 - home].kill()

        code = run(["doctor", "--redis-url", state, "--broker-url", broker.url])

    said = capsys.readouterr().out
    assert code == 1
    assert "✘ 8 of 16 partitions can't be reached: " in said
    assert f"127.0.0.1:{nodes[1 - home].port}" in said
    assert "✔ nothing is overdue by more than 5 s" in said
    assert "✔ the broker at" in said
    assert "✘ not checked as long as that lasts: the settings of Redis, whether writes are taken, the workers, " in said
