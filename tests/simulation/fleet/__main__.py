"""`python -m tests.simulation.fleet --seeds 2000`: runs seeds on all cores; a failing one is told as a short story."""

import argparse
import gc
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict

from tests.simulation.fleet.cases import Case, draw_case, run_case, run_seed
from tests.simulation.fleet.minimise import minimised

__all__ = ["main"]

_MOST_TOLD = 3
_MOST_LINES = 150
_CHUNK = 10


def main(arguments: list[str]) -> int:
    """Run seeds; 1: some failed."""
    asked = _parse(arguments)
    logging.disable(logging.CRITICAL)
    # What was imported stays: no collection of garbage needs to look at it.
    gc.freeze()
    seeds = range(asked.first, asked.first + asked.seeds)
    if asked.story:
        for seed in seeds:
            outcome = run_case(draw_case(seed), tells=True)
            print("\n".join(outcome.lines), outcome.broken or "all laws hold", sep="\n\n")
        return 0
    began_s, steps, failed = time.monotonic(), 0, []
    for seed, broken, taken, _ in _outcomes(seeds, asked.jobs):
        steps += taken
        if broken:
            failed.append(seed)
            print(f"seed {seed}: {broken.strip()[:1000]}", flush=True)
            if asked.first_only:
                break
    took_s = time.monotonic() - began_s
    print(f"{len(seeds)} seeds, {steps} steps, {len(failed)} failed, {took_s:.0f} s")
    for seed in [] if asked.first_only else failed[:_MOST_TOLD]:
        _tell(seed, asked.minimise_s)
    return bool(failed)


def _outcomes(seeds: range, jobs: int) -> Iterator[tuple[int, str, int, int]]:
    if jobs == 1:
        # Nobody is left behind where this process is killed.
        yield from map(run_seed, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(run_seed, seeds, chunksize=min(_CHUNK, 1 + len(seeds) // 20))
        finally:
            pool.shutdown(cancel_futures=True)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.fleet", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2_000, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--story", action="store_true", help="tell everything that happens, and do not minimise")
    parser.add_argument("--first-only", action="store_true", help="end at the first seed that fails, without its story")
    parser.add_argument("--minimise-s", type=float, default=30.0, help="how long to look for a smaller failure (s)")
    return parser.parse_args(arguments)


def _tell(seed: int, for_s: float) -> None:
    case, outcome = minimised(draw_case(seed), for_s=for_s)
    print(f"\n=== seed {seed}, minimised: {outcome.broken}")
    print(_described(case))
    left_out = len(outcome.lines) - _MOST_LINES
    if left_out > 0:
        print(f"... {left_out} lines before")
    print("\n".join(outcome.lines[-_MOST_LINES:]))
    print(f"again: python -m tests.simulation.fleet --seeds 1 --from {seed}  (--story: the whole of it, not minimised)")


def _described(case: Case) -> str:
    troubles = {name: value for name, value in asdict(case.troubles).items() if value}
    workflows = [json.dumps(definition["stages"]) for definition in case.definitions]
    events = [f"{ms} ms: {what} of {ref} of w{number}" for ms, number, what, ref in case.events]
    return "\n".join(
        [
            f"mode: {case.mode}{', takes' if case.takes else ''}",
            "troubles: " + json.dumps(troubles),
            *(f"stages: {text}" for text in workflows),
            *events,
        ]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
