"""The tasks of the demo's stages: functions that take a stage and return a result, as any user writes them.

A body may run more than once (a worker can die after it and before its result is kept), so each task writes its file
whole or not at all, under a name that does not depend on the attempt.
"""

import os
import platform
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec

from stabilize_celery.demo.audit import Audit, audit_package
from stabilize_celery.demo.figures import Numbers, Ranking, Report, Totals, add_up, numbers_of, rank
from stabilize_celery.demo.listing import Package, fingerprint, package_path, require_packages, shortened
from stabilize_celery.demo.report import to_html, to_json
from stabilize_celery.errors import PermanentError, TransientError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution

__all__ = ["TASKS", "TaskFunction", "TaskRegistrar", "register"]

SECOND_LOOK_S = 0.5

TaskFunction = Callable[[StageExecution], TaskResult]


class TaskRegistrar(Protocol):
    """What `register` needs of a `Stabilize`."""

    def task(self, name: str) -> Callable[[TaskFunction], Any]:
        """Return a decorator that registers a function under `name`."""


def register(stabilize: TaskRegistrar) -> None:
    """Make the demo's tasks known to a worker."""
    for name, function in TASKS.items():
        stabilize.task(name)(function)


def list_tree(stage: StageExecution) -> TaskResult:
    """List the packages, largest first, and make sure that nobody is writing to them.

    One look can't tell whether somebody is still writing. So the tree is believed only when two looks, some time
    apart, agree; until they do the task fails with an error worth a retry and keeps what it saw in the context. The
    first attempt has nothing to compare with: each run of the demo shows one retry, two where the tree changes.
    """
    packages = _listed(Path(stage.context["source"]))
    seen, now = stage.context.get("tree_seen"), fingerprint(packages)
    if seen != now:
        what = (
            "one look can't tell whether it is being written to" if seen is None else "it changed since the last look"
        )
        message = f"tree of {len(packages):,} packages: {what}; looking again in {SECOND_LOOK_S} s"
        raise TransientError(message, retry_after=SECOND_LOOK_S, context_update={"tree_seen": now})
    # Largest first: a big package that starts last would be waited for alone.
    largest_first = sorted(packages, key=lambda package: (-package.size, package.name))
    files, size = sum(package.files for package in packages), sum(package.size for package in packages)
    names = [package.name for package in largest_first]
    return TaskResult.success(outputs={"packages": names, "files_listed": files, "bytes_listed": size})


def audit_one(stage: StageExecution) -> TaskResult:
    """Audit the package of this instance: the details go to a file, the figures to the stages downstream."""
    name = stage.context["instance_item"]
    try:
        audit = audit_package(name, package_path(Path(stage.context["source"]), name))
    except LookupError as error:
        raise PermanentError(str(error.args[0])) from error
    _write(_details(stage, name), msgspec.json.encode(audit))
    return TaskResult.success(outputs={"figures": _plain(numbers_of(audit))})


def rank_all(stage: StageExecution) -> TaskResult:
    """Add up what every instance brought and rank the packages."""
    packages = _packages(stage.context)
    found = {"totals": add_up(packages.values()), "ranking": rank(packages)}
    return TaskResult.success(outputs=_plain(found))


def write_report(stage: StageExecution) -> TaskResult:
    """Write both reports; the stage's mutex keeps a second audit from mixing its figures into the pair."""
    packages = _packages(stage.context)
    largest_first = sorted(packages, key=lambda name: (-packages[name].lines, name))
    report = Report(
        source=stage.context["source"],
        workflow_id=stage.execution.id,
        made_at=datetime.now(UTC).isoformat(" ", "seconds"),
        python=platform.python_version(),
        totals=msgspec.convert(stage.context["totals"], Totals),
        ranking=msgspec.convert(stage.context["ranking"], Ranking),
        packages=tuple(msgspec.json.decode(_details(stage, name).read_bytes(), type=Audit) for name in largest_first),
    )
    page, data = (Path(stage.context["output"], name) for name in ("report.html", "report.json"))
    _write(data, to_json(report))
    _write(page, to_html(report).encode())
    return TaskResult.success(outputs={"report_html": str(page), "report_json": str(data)})


TASKS: Mapping[str, TaskFunction] = {
    "audit.list": list_tree,
    "audit.package": audit_one,
    "audit.rank": rank_all,
    "audit.report": write_report,
}


def _plain(value: object) -> Any:
    """Return the value as JSON has it: lists, no tuples."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _listed(root: Path) -> list[Package]:
    try:
        return require_packages(root)
    except (NotADirectoryError, ValueError) as error:
        raise PermanentError(str(error)) from error


def _packages(context: Mapping[str, Any]) -> dict[str, Numbers]:
    # Under each name the instances' outputs are a list, in order of the list that they were made from.
    figures = msgspec.convert(context["figures"], list[Numbers])
    return dict(zip(context["packages"], figures, strict=True))


def _details(stage: StageExecution, package: str) -> Path:
    # By workflow: two audits into one folder must not read each other's details.
    return Path(stage.context["output"]) / "details" / stage.execution.id / f"{shortened(package, 60)}.json"


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two attempts of one task may be alive at once: each has a file of its own until the rename.
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    draft.write_bytes(content)
    draft.replace(path)
