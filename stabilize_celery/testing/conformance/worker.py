"""The scripts of the scenario files that the environment names, for a worker of `workers.app`."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from stabilize_celery.testing.conformance.actions import OPTIONS, PREFIX, Scripts
from stabilize_celery.testing.conformance.asking import add_instance
from stabilize_celery.testing.conformance.fleet import FILES, JOURNAL
from stabilize_celery.testing.conformance.journal import SharedJournal
from stabilize_celery.testing.conformance.play import BUSY
from stabilize_celery.testing.conformance.scenario import load_scenarios
from workers.app import stabilize

__all__: list[str] = []

_TRIES = 100
_PAUSE_S = 0.02


def _add_instance(workflow_id: str, event_id: str, ref_id: str, run: int, context: Mapping[str, object]) -> None:
    for _ in range(_TRIES):
        answer = stabilize.runtime.ask(workflow_id, add_instance(workflow_id, event_id, ref_id, run, context))
        if BUSY not in answer.told:
            return
        time.sleep(_PAUSE_S)


_files = [load_scenarios(Path(path)) for path in json.loads(os.environ[FILES])]
_scripts = Scripts(_files, SharedJournal(Path(os.environ[JOURNAL])), _add_instance)
stabilize.registry.add_resolver(PREFIX, _scripts, OPTIONS)
