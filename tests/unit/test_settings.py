"""Settings: what follows from a namespace."""

from dataclasses import replace

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
