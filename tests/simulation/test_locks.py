"""Mutexes and semaphores across workflows, under faults and cancels (PROTOCOL 8)."""

from collections.abc import Iterator
from random import Random

import pytest

from stabilize_celery.engine import outside
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.tasks.call import current_call
from stabilize_celery.testing import Faults, Simulation
from tests.simulation.stories import CALM, ROUGH, Story, stage, workflow
from tests.simulation.tuning import seeds

STORMY = Faults(duplicate=0.2, lose=0.1, preempt=0.4, die=0.05)


class Contest:
    """Three workflows want one key; while a body runs the rest of the fleet goes on, and some are cancelled."""

    def __init__(self, seed: int, limit: int, faults: Faults, *, cancels: float = 0.1) -> None:
        self.random = Random(seed)
        self.cancels = cancels
        self.inside: dict[str, list[str]] = {}
        self.most = 0
        self.tokens: list[int] = []
        self.simulation = Simulation(seed, {"critical": self.critical}, faults=faults)
        self.simulation.settings.__class__  # noqa: B018
        self.ids = [self.simulation.start(self._definition(limit)) for _ in range(3)]
