"""`python -m stabilize_celery.testing.conformance FILE...`: run scenario files, tell what differs."""

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from stabilize_celery.settings import FUSED, MODES, PER_MESSAGE
from stabilize_celery.testing.conformance.celery_backend import CeleryBackend, CeleryBackendError
from stabilize_celery.testing.conformance.report import as_json, summary, told
from stabilize_celery.testing.conformance.scenario import Scenario, ScenarioFileError, load_scenarios
from stabilize_celery.testing.conformance.simulator_backend import run_simulated
from stabilize_celery.testing.conformance.verdicts import Verdict, judge

__all__ = ["main"]

_USAGE, _AWAY = 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 all passed, 1 not all did, 2 bad usage or file, 3 no fleet."""
    given = _parser().parse_args(arguments)
    mode = given.mode or (FUSED if given.fused else PER_MESSAGE)
    if given.seeds is not None and given.seeds < 1:
        return _refused("--seeds must be at least 1")
    try:
        files = [load_scenarios(path) for path in given.files]
        chosen = _chosen(files, given.only)
        return _run(given, chosen, mode)
    except ScenarioFileError as error:
        return _refused(str(error))
    except CeleryBackendError as error:
        sys.stderr.write(f"{error}\n")
        return _AWAY


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stabilize_celery.testing.conformance", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="scenario files")
    parser.add_argument("--backend", choices=("simulator", "celery"), default="simulator")
    parser.add_argument("--seeds", type=int, help="runs per scenario (default: 10 simulated, 1 with Celery)")
    parser.add_argument("--seed", type=int, help="run this seed alone")
    parser.add_argument("--fused", action="store_true", help="as --mode fused")
    parser.add_argument("--mode", choices=MODES, help="how messages follow each other (default: per_message)")
    parser.add_argument("--delivered", action="store_true", help="Celery hands over each message: processes take none")
    parser.add_argument("--only", action="append", metavar="ID", help="run this scenario alone; may be given again")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _refused(why: str) -> int:
    sys.stderr.write(f"{why}\n")
    return _USAGE


def _chosen(files: Sequence[Sequence[Scenario]], only: Sequence[str] | None) -> list[tuple[int, Scenario]]:
    every = [(number, scenario) for number, file in enumerate(files) for scenario in file]
    if not only:
        return every
    unknown = set(only) - {scenario.id for _, scenario in every}
    if unknown:
        raise ScenarioFileError(f"no file has the scenario {min(unknown)!r}")
    return [(number, scenario) for number, scenario in every if scenario.id in only]


def _run(given: argparse.Namespace, chosen: list[tuple[int, Scenario]], mode: str) -> int:
    verdicts: list[Verdict] = []
    for verdict in _verdicts(given, chosen, mode):
        verdicts.append(verdict)
        if not given.json and not verdict.has_passed:
            sys.stdout.write(f"{told(verdict)}\n\n")
            sys.stdout.flush()
    if given.json:
        sys.stdout.write(f"{as_json(verdicts, given.backend)}\n")
    else:
        sys.stdout.write(f"{summary(verdicts)}\n")
    return 0 if all(verdict.has_passed for verdict in verdicts) else 1


def _verdicts(given: argparse.Namespace, chosen: list[tuple[int, Scenario]], mode: str) -> Iterator[Verdict]:
    if given.backend == "celery":
        with CeleryBackend(given.files, mode, takes=not given.delivered) as backend:
            yield from backend.verdicts(chosen, given.seeds or 1)
        return
    seeds = [given.seed] if given.seed is not None else range(given.seeds or 10)
    simulate = partial(judge, seeds=seeds, run=partial(run_simulated, mode=mode))
    scenarios = [scenario for _, scenario in chosen]
    if len(scenarios) * len(seeds) < _WORTH_PROCESSES:
        yield from map(simulate, scenarios)
        return
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(simulate, scenarios)


_WORTH_PROCESSES = 500
"""From so many runs on, all processors take part."""

if __name__ == "__main__":
    # Ended in good order: what it has started must not outlive it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
