"""What the doctor makes of a server's settings."""

import pytest

from stabilize_celery.cli.doctor import check_server

HEALTHY = {
    "redis_version": "7.0.15",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory_policy": "noeviction",
    "ping_ms": "0.2",
    "url": "redis://x",
}


def test_a_healthy_server_has_no_findings():
    assert all(check.ok for check in check_server(HEALTHY))


@pytest.mark.parametrize(
    ("changed", "found", "advice"),
    [
        ({"redis_version": "6.0.16"}, "version", "6.2"),
        ({"appendonly": "no"}, "appendonly", "appendonly yes"),
        ({"appendfsync": "no"}, "appendfsync", "everysec"),
        ({"maxmemory_policy": "allkeys-lru"}, "maxmemory_policy", "noeviction"),
    ],
)
def test_a_finding_says_what_to_change(changed, found, advice):
    (finding,) = (check for check in check_server({**HEALTHY, **changed}) if not check.ok)

    assert finding.name == found
    assert advice in finding.advice


def test_what_a_managed_server_does_not_tell_is_no_finding():
    unknown = dict.fromkeys(("redis_version", "appendonly", "appendfsync", "maxmemory_policy"), "unknown")
    assert all(check.ok for check in check_server({**HEALTHY, **unknown}))
