"""The demo's graph: list, then one branch per package, then rank (a join), then report (under a mutex)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stabilize_celery.demo.listing import Package, list_packages, shortened, shown
from stabilize_celery.models.limits import MAX_REF_ID_LENGTH
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow

__all__ = ["audit_pipeline"]


def audit_pipeline(source: Path, output: Path) -> Workflow:
    """Return the workflow that audits the tree `source` and writes its report into the folder `output`.

    Every worker must see both folders under the same paths. The branches are made from a listing taken now.

    Raises:
        NotADirectoryError: `source` is no folder.
        ValueError: there is no Python file in it, or a path is no valid text.

    """
    source, output = source.resolve(), output.resolve()
    packages = list_packages(source)
    if not packages:
        message = f"{shown(source)} has no Python files; give the folder whose packages are to be audited"
        raise ValueError(message)
    return Workflow.create(
        application="demo",
        name="audit",
        stages=_stages(packages, output),
        context={"source": _text(source), "output": _text(output)},
    )


def _stages(packages: Sequence[Package], output: Path) -> list[StageExecution]:
    # Largest first: a big package that starts last would be waited for alone.
    branches = [_branch(package) for package in sorted(packages, key=lambda package: (-package.size, package.name))]
    names = sorted(package.name for package in packages)
    ranked = _stage("rank", "audit.rank", after={branch.ref_id for branch in branches})
    report = _stage("report", "audit.report", after={"rank"})
    report.mutex_key = f"report:{output}"
    return [_stage("list", "audit.list", context={"packages": names}), *branches, ranked, report]


def _branch(package: Package) -> StageExecution:
    ref_id = shortened(f"audit-{package.name}", MAX_REF_ID_LENGTH)
    return _stage(ref_id, "audit.package", after={"list"}, context={"package": package.name})


def _stage(
    ref_id: str, does: str, *, after: set[str] | None = None, context: dict[str, Any] | None = None
) -> StageExecution:
    stage = StageExecution.create(type=does, name=ref_id, ref_id=ref_id, context=context, requisite_stage_ref_ids=after)
    stage.tasks = [TaskExecution.create(ref_id, does)]
    return stage


def _text(path: Path) -> str:
    if shown(path) != str(path):
        message = f"{shown(path)} is no valid UTF-8; rename the folder or give another one"
        raise ValueError(message)
    return str(path)
