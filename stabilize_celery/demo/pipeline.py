"""The demo's graph: list, then audit with one instance per package found (WCP-14), then rank, then report (a mutex)."""

from pathlib import Path

from stabilize_celery.demo.listing import shown
from stabilize_celery.models.patterns import instances
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow

__all__ = ["audit_pipeline"]


def audit_pipeline(source: Path, output: Path) -> Workflow:
    """Return the workflow that audits the tree `source` and writes its report into the folder `output`.

    Every worker must see both folders under the same paths. The first stage lists the packages, so a folder without any
    fails there; `demo.listing.require_packages` tells before.

    Raises:
        ValueError: a path is no valid text.

    """
    source, output = source.resolve(), output.resolve()
    listed = _stage("list", "audit.list")
    audited = instances(_stage("audit", "audit.package", after="list"), over="packages")
    ranked = _stage("rank", "audit.rank", after="audit")
    report = _stage("report", "audit.report", after="rank")
    report.mutex_key = f"report:{output}"
    return Workflow.create(
        application="demo",
        name="audit",
        stages=[listed, audited, ranked, report],
        context={"source": _text(source), "output": _text(output)},
    )


def _stage(ref_id: str, does: str, *, after: str = "") -> StageExecution:
    requisites = {after} if after else set()
    stage = StageExecution.create(type=does, name=ref_id, ref_id=ref_id, requisite_stage_ref_ids=requisites)
    stage.tasks = [TaskExecution.create(ref_id, does)]
    return stage


def _text(path: Path) -> str:
    if shown(path) != str(path):
        message = f"{shown(path)} is not valid UTF-8; rename the folder or give another one"
        raise ValueError(message)
    return str(path)
