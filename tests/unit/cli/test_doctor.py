"""What the doctor makes of a server's settings."""

import base64
from collections.abc import Iterator
from typing import NoReturn

import pytest
import redis
from celery import Celery

from stabilize_celery.cli.doctor import check_agreement, check_server
from stabilize_celery.client import Client
from stabilize_celery.errors import UnreachableError
from stabilize_celery.models.schedule import Schedule
from stabilize_celery.settings import Settings
from stabilize_celery.store.redis_store import RedisStore
from stabilize_celery.transport.broker_place import names_of_its_own
from stabilize_celery.transport.process import vault_of
from tests.servers import RedisServer
from tests.unit.cli.conftest import Program
from tests.unit.client.world import stage, workflow

URL = "redis://localhost"
KEY, OTHER = (f"a:{base64.b64encode(letter * 32).decode()}" for letter in (b"k", b"o"))

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


def test_a_server_that_takes_no_writes_is_a_problem(program: Program) -> None:
    """It answers every question all the same: too few replicas, memory or disk full."""
    with RedisServer(append_only=True) as server:
        place = ("--redis-url", server.url)
        healthy = program("doctor", *place)
        with redis.Redis.from_url(server.url) as client:
            client.config_set("min-replicas-to-write", 1)
        ill = program("doctor", *place)

    assert "✔ writes are taken" in healthy.out
    assert ill.code == 1
    assert "✘ no workflow moves: too few replicas of this Redis answer" in ill.text
    assert "while writes are refused, none can announce itself" in ill.text


def test_a_broker_that_takes_no_messages_is_a_problem(served: Program) -> None:
    """It answers, and workers hear of nothing new: it is full, or a replica by now."""
    with RedisServer() as server:
        with redis.Redis.from_url(server.url) as client:
            client.config_set("maxmemory", "1")
        said = served("doctor", "--broker-url", server.url)

    assert said.code == 1
    assert f"✘ the broker at {server.url.rsplit('/', 1)[0]}" in said.text
    assert "takes no messages caused by: command not allowed when used memory" in said.text


def test_what_cannot_be_checked_is_named(served: Program, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node of a cluster went away meanwhile: what needs it is left out, all else is checked."""

    def unreachable(*_: object) -> NoReturn:
        raise UnreachableError("the state server (Redis)", "redis://node-7", "refused.")

    monkeypatch.setattr(RedisStore, "health", unreachable)
    monkeypatch.setattr(RedisStore, "fleet", unreachable)
    done = served("doctor", "--redis-url", redis_url)

    assert done.code == 1
    assert "✘ not checked as long as that lasts: the settings of Redis, the workers, repairs" in done.out
    assert "✔ writes are taken" in done.out
    assert "✔ nothing is overdue" in done.out
    assert "inconsistenc" not in done.out


def test_without_any_server_nothing_is_checked(program: Program) -> None:
    """As with every command: exit code 3, and how to start one."""
    done = program("doctor", "--redis-url", "redis://127.0.0.1:1/0")

    assert done.code == 3
    assert "✔" not in done.out


# -- do producers and workers agree? -----------------------------------------------------------------------------------


def told(keys: str, options: str, *, worker_keys: str = KEY, prefix: str = "shop:") -> list[str]:
    """What the doctor says with these settings of a worker with those."""
    app = Celery(broker=URL, set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": prefix, "visibility_timeout": 60} if prefix else {}
    line = {
        "keys": vault_of(Settings(encryption_keys=worker_keys)).proof(),
        "broker": str(names_of_its_own(app)).replace("'", '"').encode(),
    }
    settings = Settings(redis_url=URL, encryption_keys=keys, broker_options=options)
    return [f"{check.told} {check.advice}" for check in check_agreement({"w@host": line}, settings)]


def test_who_has_the_same_keys_and_queues_agrees():
    """Also while keys are rotated, and with options that give no list another name."""
    both = f"{KEY},b:{base64.b64encode(b'b' * 32).decode()}"

    assert told(KEY, '{"global_keyprefix": "shop:", "visibility_timeout": 7}') == []
    assert told(both, '{"global_keyprefix": "shop:"}') == []
    assert told("", "", worker_keys="", prefix="") == []
    assert list(check_agreement({"an older one": {}}, Settings(redis_url=URL, encryption_keys=KEY))) == []


@pytest.mark.parametrize(
    ("keys", "worker_keys", "why"),
    [(OTHER, KEY, "another key of this name"), ("", KEY, "no keys"), (KEY, "", "no keys")],
)
def test_a_worker_with_other_keys_is_named(keys: str, worker_keys: str, why: str):
    """A producer with a wrong key under the right name starts what no worker can read."""
    (found,) = told(keys, '{"global_keyprefix": "shop:"}', worker_keys=worker_keys)

    assert found.startswith("w@host has other encryption keys")
    assert why in found


def test_a_worker_that_reads_other_lists_is_named_with_what_to_set():
    (found,) = told(KEY, "")

    assert """STABILIZE_BROKER_OPTIONS='{"global_keyprefix": "shop:"}'""" in found


def test_what_a_producer_with_a_wrong_key_started_is_found(served: Program, redis_url: str, monkeypatch):
    """It waits, since no worker can read it, and nothing of it is overdue."""
    with Client(settings=Settings(redis_url=redis_url, encryption_keys=OTHER)) as wrong:
        closed = wrong.start(workflow(stage("a")))
    with Client(settings=Settings(redis_url=redis_url, encryption_keys=KEY)) as right:
        right.start(workflow(stage("a")))
    monkeypatch.setenv("STABILIZE_ENCRYPTION_KEYS", KEY)

    said = served("doctor")

    assert said.code == 1
    assert f"1 running workflow can't be read here, such as {closed.id}" in said.text
    assert "STABILIZE_ENCRYPTION_KEYS" in said.text


def test_a_doctor_with_a_wrong_key_says_all_the_rest(served: Program, redis_url: str, monkeypatch):
    """What it can't read keeps it from nothing, and no address of a server is advised where that answers."""
    with Client(settings=Settings(redis_url=redis_url, encryption_keys=OTHER)) as wrong:
        wrong.start(workflow(stage("a"))).cancel("enough")
    monkeypatch.setenv("STABILIZE_ENCRYPTION_KEYS", KEY)

    said = served("doctor")

    assert "every workflow has a pending step or a reason to wait" in said.text
    assert "broker" in said.text
    assert "STABILIZE_REDIS_URL" not in said.text


def test_a_schedule_under_a_lost_key_is_told_with_what_to_do(served: Program, redis_url: str, monkeypatch):
    """It starts nothing any more, and no workflow tells of that."""
    nightly = Schedule(name="nightly", definition=workflow(stage("a")), cron="0 3 * * *")
    with Client(settings=Settings(redis_url=redis_url, encryption_keys=OTHER)) as other:
        other.schedules.add(nightly)
    monkeypatch.setenv("STABILIZE_ENCRYPTION_KEYS", KEY)

    said = served("doctor")

    assert said.code == 1
    assert "1 schedule can't be read here, such as 'nightly'" in said.text
    assert "stabilize-celery schedule add" in said.text
    with Client(settings=Settings(redis_url=redis_url, encryption_keys=KEY)) as ours:
        ours.schedules.add(nightly)
    assert "1 schedule, all of which can be read here" in served("doctor").text


# -- users of Redis who may do less ------------------------------------------------------------------------------------


@pytest.fixture
def narrow(redis_url: str) -> Iterator[str]:
    """The URL of a user who may do all but look for keys."""
    with redis.Redis.from_url(redis_url) as admin:
        admin.execute_command("ACL", "SETUSER", "narrow", "on", ">narrow", "~*", "&*", "+@all", "-scan")
        yield redis_url.replace("://", "://narrow:narrow@")
        admin.acl_deluser("narrow")


def test_a_user_who_may_not_look_for_keys_is_told_so(program: Program, narrow: str) -> None:
    """As with every other command that is refused: the server is there, and trying again would not help."""
    said = program("locks", "--redis-url", narrow)

    assert said.code == 2
    assert "Redis refused (NOPERM)" in said.text
    assert "deploy/users.conf" in said.text
    assert "Can't reach" not in said.text


def test_what_a_user_may_not_check_is_one_failed_check(program: Program, narrow: str) -> None:
    """All the rest is looked at."""
    said = program("doctor", "--redis-url", narrow)

    assert said.code == 1
    assert "✘ not all workflows could be inspected: Redis refused (NOPERM)" in said.text
    assert "✔ writes are taken" in said.text
    assert "✔ no dead letters" in said.text
