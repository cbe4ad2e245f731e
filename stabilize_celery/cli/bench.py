"""`bench`: what a stage costs on this machine, in each mode; on a server and workers of its own."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any, TypeAlias

import typer
from rich.table import Table

from stabilize_celery.cli.commands import command
from stabilize_celery.cli.embedded import EmbeddedServer
from stabilize_celery.cli.failures import Mistake
from stabilize_celery.cli.session import Session
from stabilize_celery.cli.workers import LocalWorkers
from stabilize_celery.client import Client
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.settings import MODES, Settings
from stabilize_celery.transport.worker_command import worker_argv

__all__ = ["Measured", "add_bench", "peers_command", "summary"]

_POOL = 2
_TIMEOUT_S = 300.0
_OPTIONS = ("--pool=prefork", f"--concurrency={_POOL}", "--loglevel=WARNING")

Measured: TypeAlias = dict[str, dict[str, list[float]]]
"""Shape, mode, seconds by repetition."""


@dataclass(frozen=True, slots=True)
class _Shape:
    name: str
    workflows: int
    length: int = 1
    width: int = 0

    @property
    def stages(self) -> int:
        return self.workflows * (self.width + 1 if self.width else self.length)

    def make(self) -> list[Workflow]:
        one = _fan if self.width else _chain
        return [one(self.width or self.length) for _ in range(self.workflows)]


_SHAPES = (
    _Shape("chain of 50", 1, length=50),
    _Shape("200 workflows of 3 stages", 200, length=3),
    _Shape("fan-out of 1,000 + join", 1, width=1_000),
)


def add_bench(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "bench")(bench)


def bench(
    session: Session,
    repetitions: Annotated[int, typer.Option(min=1, help="Per shape and mode, interleaved.")] = 3,
    scale: Annotated[float, typer.Option(min=0.001, max=1.0, help="Share of the full number of stages.")] = 1.0,
    peers: Annotated[bool, typer.Option("--peers", help="Also measure Celery's canvas and other engines.")] = False,
) -> int:
    """Measure what a stage costs here, in each mode; on a Redis and workers of its own, which leave nothing."""
    if session.shared.redis_url or session.shared.broker_url:
        raise Mistake("bench starts a server of its own, so that it leaves nothing in yours: leave the URL out")
    if peers:
        return subprocess.run(peers_command(), check=False).returncode  # noqa: S603 - our own interpreter
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="stabilize-bench-")))
        server = stack.enter_context(EmbeddedServer(folder, session.say))
        session.say(f"Starting a worker of {_POOL} processes for each of: {', '.join(MODES)}.")
        clients = {
            mode: stack.enter_context(_fleet(session, server.url, number, folder, mode))
            for number, mode in enumerate(MODES)
        }
        measured = _measure(session, clients, _shapes(scale), repetitions)
    _show(session, summary(measured), {shape.name: shape.stages for shape in _shapes(scale)})
    return 0


def peers_command() -> list[str]:
    """Return the command that measures the peers.

    Raises:
        Mistake: the benchmarks are not here; the text says where they are.

    """
    if not Path("benchmarks/compare.py").is_file():
        raise Mistake(
            "the peers are measured from a checkout of the repository, where benchmarks/ is: `make bench` there "
            "installs them (benchmarks/requirements.txt) into an environment of their own and starts all of it"
        )
    return [sys.executable, "-m", "benchmarks", "compare", "--quick"]


def _shapes(scale: float) -> list[_Shape]:
    return [
        _Shape(
            shape.name if scale == 1 else f"{shape.name}, x {scale:g}",
            math.ceil(shape.workflows * scale),
            math.ceil(shape.length * scale) if shape.workflows == 1 else shape.length,
            math.ceil(shape.width * scale),
        )
        for shape in _SHAPES
    ]


@contextmanager
def _fleet(session: Session, url: str, number: int, folder: Path, mode: str) -> Iterator[Client]:
    """Run a worker in one mode, with a database of its own for state and messages."""
    base = url.rsplit("/", 1)[0]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STABILIZE_", "CELERY_"))}
    told = {
        "STABILIZE_REDIS_URL": f"{base}/{number}",
        "STABILIZE_BROKER_URL": f"{base}/{number}",
        "STABILIZE_MODE": mode,
    }
    settings = Settings.from_env(told)
    argv = worker_argv("workers.app", settings, extra=[*_OPTIONS, "-n", f"bench{number}@%h"])
    workers = LocalWorkers([argv], {**kept, **told}, folder / f"logs{number}", session.say)
    with Client(settings=settings) as client, workers:
        workers.wait_until_ready(client.store)
        yield client


def _measure(session: Session, clients: Mapping[str, Client], shapes: Sequence[_Shape], repetitions: int) -> Measured:
    for client in clients.values():
        _run(client, [_chain(5), _fan(5)])
    measured: Measured = {}
    tell = session.following(len(shapes) * repetitions * len(clients), "measuring")
    for shape in shapes:
        seconds = measured.setdefault(shape.name, {mode: [] for mode in clients})
        for repetition in range(repetitions):
            for mode, client in clients.items():
                tell(f"{shape.name}, {mode}, {repetition + 1} of {repetitions}")
                seconds[mode].append(_run(client, shape.make()))
    return measured


def _run(client: Client, workflows: list[Workflow]) -> float:
    began = time.perf_counter()
    for handle in client.start_many(workflows):
        status = handle.wait(timeout_s=_TIMEOUT_S).status.name
        if status != "SUCCEEDED":
            raise Mistake(f"workflow {handle.id} ended {status}: there is nothing to measure")
    return time.perf_counter() - began


def summary(measured: Measured) -> list[dict[str, Any]]:
    """Return a row per shape and mode: seconds, and paired ratios to the first mode, as minimum, median, maximum."""
    rows: list[dict[str, Any]] = []
    for shape, by_mode in measured.items():
        first = next(iter(by_mode.values()))
        for mode, seconds in by_mode.items():
            ratios = [ours / theirs for ours, theirs in zip(seconds, first, strict=True)]
            rows.append({"shape": shape, "mode": mode, "seconds": _spread(seconds), "ratio": _spread(ratios)})
    return rows


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"minimum": min(values), "median": median(values), "maximum": max(values)}


def _show(session: Session, rows: Sequence[Mapping[str, Any]], stages: Mapping[str, int]) -> None:
    if session.as_json:
        session.print_json({"measured": rows})
        return
    table = Table("shape", "mode", "seconds", "ms per stage", f"ratio to {MODES[0]}", box=None)
    for row in rows:
        per_stage = 1000 * row["seconds"]["median"] / stages[row["shape"]]
        seconds = f"{row['seconds']['median']:.3g}"
        table.add_row(row["shape"], row["mode"], seconds, f"{per_stage:.2f}", _told(row["ratio"]))
    session.out.print(table)
    session.say("Ratios say more than times: they are of runs side by side. Beside other engines: `make bench`.")


def _told(spread: Mapping[str, float]) -> str:
    return f"{spread['median']:.2f} ({spread['minimum']:.2f}-{spread['maximum']:.2f})"


def _chain(length: int) -> Workflow:
    stages = [_stage(f"s{at}", {f"s{at - 1}"} if at else set()) for at in range(length)]
    return Workflow.create("bench", "chain", stages)


def _fan(width: int) -> Workflow:
    middle = [f"m{at}" for at in range(width)]
    stages = [*(_stage(ref_id, set()) for ref_id in middle), _stage("last", set(middle))]
    return Workflow.create("bench", "fan", stages)


def _stage(ref_id: str, after: set[str]) -> StageExecution:
    tasks = [TaskExecution.create("noop", "noop")]
    return StageExecution(ref_id=ref_id, requisite_stage_ref_ids=after, tasks=tasks)
