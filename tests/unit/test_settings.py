"""Settings: what follows from a namespace."""

import re
from dataclasses import replace

import pytest

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
        ("STABILIZE_RETENTION_MS", "-5", "STABILIZE_RETENTION_MS): must not be negative"),
        ("STABILIZE_RETENTION_MS", "soon", "must be a whole number, not 'soon'"),
        ("STABILIZE_TASK_QUEUES", "render=gpu,ship", "'ship' is not name=value"),
        ("STABILIZE_METRICS_PORT", "94710", "STABILIZE_METRICS_PORT): ports go up to 65535"),
        ("STABILIZE_MODE", "fast", "use one of per_message"),
    ],
)
def test_what_can_not_be_meant_is_refused(variable: str, value: str, told: str) -> None:
    """With the variable's name."""
    with pytest.raises(ValueError, match=re.escape(told)):
        Settings.from_env({variable: value})


def test_queues_of_task_types() -> None:
    """A comma too much does no harm."""
    assert Settings.from_env({"STABILIZE_TASK_QUEUES": "a=x,b=y,"}).task_queues == {"a": "x", "b": "y"}
