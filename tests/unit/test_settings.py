"""Settings: what follows from a namespace."""

import re
from dataclasses import fields, replace
from typing import Any

import pytest

from stabilize_celery.errors import ConfigurationError
from stabilize_celery.settings import Settings


def test_a_namespace_has_queues_of_its_own() -> None:
    """Two on one broker must not take each other's messages; also where the namespace is given later."""
    made = Settings.from_env({"STABILIZE_NAMESPACE": "shop"})
    later = replace(Settings(), namespace="shop")

    assert (made.control_queue, made.work_queue) == ("shop.control", "shop.work")
    assert (later.control_queue, later.work_queue) == ("shop.control", "shop.work")
    assert (Settings().control_queue, Settings().work_queue) == ("stabilize.control", "stabilize.work")


def test_queues_that_were_chosen_stay() -> None:
    chosen = Settings.from_env({"STABILIZE_NAMESPACE": "shop", "STABILIZE_WORK_QUEUE": "gpu"})

    assert (chosen.control_queue, chosen.work_queue) == ("shop.control", "gpu")


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("STABILIZE_RETENTION_MS", "-5", "retention_ms -5 (STABILIZE_RETENTION_MS): must be 1 or more"),
        ("STABILIZE_RETENTION_MS", "soon", "must be a whole number, not 'soon'"),
        ("STABILIZE_TASK_QUEUES", "render=gpu,ship", "'ship' is not name=value"),
        ("STABILIZE_METRICS_PORT", "94710", "STABILIZE_METRICS_PORT): use 0 to 65535"),
        ("STABILIZE_PARTITIONS", "1025", "STABILIZE_PARTITIONS): use 1 to 1024"),
        ("STABILIZE_LEASE_MS", "99", "STABILIZE_LEASE_MS): must be 100 or more"),
        ("STABILIZE_NAMESPACE", "a b", "namespace 'a b' (STABILIZE_NAMESPACE): use letters"),
        ("STABILIZE_WORK_QUEUE", "", "STABILIZE_WORK_QUEUE): must not be empty"),
        ("STABILIZE_TASK_QUEUES", "render=", "STABILIZE_TASK_QUEUES): give a mapping"),
        ("STABILIZE_MODE", "fast", "use one of per_message"),
    ],
)
def test_what_can_not_be_meant_is_refused(variable: str, value: str, told: str) -> None:
    """With the variable's name."""
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        Settings.from_env({variable: value})


def test_queues_of_task_types() -> None:
    """A comma too much does no harm."""
    assert Settings.from_env({"STABILIZE_TASK_QUEUES": "a=x,b=y,"}).task_queues == {"a": "x", "b": "y"}


HAVE_A_ZERO = {"take_ms", "wait_ms", "fused_slice_ms", "payload_bytes", "metrics_port"}
NUMBERS = [item.name for item in fields(Settings) if item.type is int]


@pytest.mark.parametrize("name", NUMBERS)
def test_zero_is_taken_only_where_it_has_a_meaning(name: str) -> None:
    """Elsewhere a keeper would publish nothing, a commit would never be tried, and nobody would be told."""
    if name in HAVE_A_ZERO:
        assert getattr(Settings(**{name: 0}), name) == 0
    else:
        with pytest.raises(ConfigurationError, match=rf"^{name} 0 \(STABILIZE_{name.upper()}\): "):
            Settings(**{name: 0})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"lease_ms": "9000"}, "lease_ms '9000' (STABILIZE_LEASE_MS): must be a whole number, not str"),
        ({"lease_ms": 9.5}, "must be a whole number, not float"),
        ({"lease_ms": True}, "must be a whole number, not bool"),
        ({"payload_dir": 5}, "payload_dir (STABILIZE_PAYLOAD_DIR): must be text, not int"),
        ({"namespace": None}, "must be text, not NoneType"),
        ({"mode": ["fused"]}, "must be text, not list"),
        ({"task_queues": ["render"]}, "give a mapping of task type to queue"),
        ({"task_queues": {"render": 5}}, "give a mapping of task type to queue"),
    ],
)
def test_a_value_of_another_type_is_refused(given: dict[str, Any], told: str) -> None:
    """Where it is given, and not where something is reckoned with it."""
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        Settings(**given)


def test_a_secret_is_not_in_what_is_told() -> None:
    """Keys of another type, or a URL with its password."""
    for given in ({"encryption_keys": b"a:hunter2"}, {"redis_url": b"redis://:hunter2@h"}):
        with pytest.raises(ConfigurationError) as caught:
            Settings(**given)  # type: ignore[arg-type]
        assert "hunter2" not in str(caught.value)
