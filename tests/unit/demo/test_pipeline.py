"""The demo's graph, and its tasks: run by hand in the graph's order, and by the engine."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from stabilize_celery.demo.pipeline import audit_pipeline
from stabilize_celery.demo.tasks import TASKS, TaskFunction, register
from stabilize_celery.errors import PermanentError, TransientError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.testing import run_workflow


@pytest.fixture
def audit(tree: Path, tmp_path: Path) -> Workflow:
    return audit_pipeline(tree, tmp_path / "output")


def run_stage(workflow: Workflow, ref_id: str, **more: Any) -> TaskResult:
    """Run a stage's task on the context that an engine gives it: workflow's, upstream outputs, its own, `more`."""
    stage = workflow.stage_by_ref_id(ref_id)
    assert stage
    own = stage.context
    stage.context = {**workflow.context, **own, **more}
    try:
        return TASKS[stage.tasks[0].implementing_class](stage)
    finally:
        stage.context = own


def run_list(workflow: Workflow) -> dict[str, Any]:
    """Run `list` until it believes what it sees; return its outputs."""
    with pytest.raises(TransientError) as look:
        run_stage(workflow, "list")
    return run_stage(workflow, "list", **look.value.context_update).outputs


def run_all(workflow: Workflow) -> dict[str, Any]:
    """Run everything behind `list` and return what the report stage saw and brought."""
    outputs = run_list(workflow)
    figures = [run_stage(workflow, "audit", instance_item=name).outputs["figures"] for name in outputs["packages"]]
    outputs |= {"figures": figures}
    for ref_id in ("rank", "report"):
        outputs |= run_stage(workflow, ref_id, **outputs).outputs
    return outputs


def test_the_graph_does_not_depend_on_the_tree(audit: Workflow, tmp_path: Path) -> None:
    """Four stages, whatever there is to audit: the instances come from what the first one finds."""
    after = {stage.ref_id: stage.requisite_stage_ref_ids for stage in audit.stages}
    many = audit.stages[1].mi_config

    assert after == {"list": set(), "audit": {"list"}, "rank": {"audit"}, "report": {"rank"}}
    assert many is not None
    assert many.collection_from_context == "packages"
    assert audit.stages[-1].mutex_key == f"report:{audit.context['output']}"
    assert [stage.tasks[0].implementing_class for stage in audit.stages] == list(TASKS)
    assert len(audit_pipeline(tmp_path / "nowhere", tmp_path).stages) == 4


def test_the_largest_package_comes_first(audit: Workflow) -> None:
    """A big one that starts last would be waited for alone."""
    names = run_list(audit)["packages"]

    assert names[0] == "shapes"
    assert sorted(names) == ["bad", "café", "shapes", "solo"]


def test_the_list_is_believed_when_two_looks_agree(audit: Workflow, tree: Path) -> None:
    """The first look fails with an error worth a retry, and so does one after a change."""
    with pytest.raises(TransientError, match="one look") as first:
        run_stage(audit, "list")
    (tree / "late.py").write_text("x = 123456\n")
    with pytest.raises(TransientError, match="changed since") as second:
        run_stage(audit, "list", **first.value.context_update)

    found = run_stage(audit, "list", **second.value.context_update)

    assert found.outputs["files_listed"] == 8
    assert "late" in found.outputs["packages"]
    assert first.value.retry_after
    assert first.value.retry_after > 0


def test_a_tree_without_packages_is_no_reason_to_try_again(tmp_path: Path) -> None:
    """The first stage says what is wrong with the folder, and what to give instead."""
    with pytest.raises(PermanentError, match="nowhere is not a folder; give"):
        run_stage(audit_pipeline(tmp_path / "nowhere", tmp_path), "list")
    with pytest.raises(PermanentError, match="has no Python files; give"):
        run_stage(audit_pipeline(tmp_path, tmp_path), "list")


def test_a_package_that_went_is_no_reason_to_try_again(audit: Workflow, tree: Path) -> None:
    """The error names the package."""
    (tree / "solo.py").unlink()

    with pytest.raises(PermanentError, match="'solo' is not in"):
        run_stage(audit, "audit", instance_item="solo")


def test_the_report_shows_what_the_instances_brought(audit: Workflow, tmp_path: Path) -> None:
    """Figures travel through outputs, details through files; both reports are written."""
    outputs = run_all(audit)

    assert outputs["totals"]["files"] == 7
    assert outputs["ranking"]["largest"][0] == "shapes"
    written = msgspec.json.decode((tmp_path / "output" / "report.json").read_bytes())
    assert written["totals"] == outputs["totals"]
    assert outputs["report_html"] == str(tmp_path / "output" / "report.html")
    assert "broken.py" in Path(outputs["report_html"]).read_text()


def test_a_second_run_of_a_body_changes_nothing(audit: Workflow, tmp_path: Path) -> None:
    """Bodies run at least once; drafts never stay behind."""
    first, second = run_all(audit), run_all(audit)

    assert first == second
    assert not list((tmp_path / "output").rglob("*.part"))


def test_outputs_are_small_and_plain(audit: Workflow) -> None:
    """Only JSON values, a few hundred bytes an instance."""
    brought = run_stage(audit, "audit", instance_item="shapes").outputs

    assert len(msgspec.json.encode(brought)) < 400


def test_a_package_of_a_very_long_name_is_audited(tmp_path: Path) -> None:
    """Names of 250 characters are fine for a file system, and for a report."""
    (tmp_path / f"{'x' * 250}.py").write_text("x = 1\n")

    assert run_all(audit_pipeline(tmp_path, tmp_path / "output"))["totals"]["files"] == 1


def test_an_engine_runs_it_as_by_hand(audit: Workflow, tree: Path, tmp_path: Path) -> None:
    """One instance per package, one retry, and the same totals; without a server, in virtual time."""
    by_hand = run_all(audit_pipeline(tree, tmp_path / "other"))

    done = run_workflow(audit, tasks=dict(TASKS))

    assert done.status is WorkflowStatus.SUCCEEDED
    outputs = {stage.ref_id: stage.outputs for stage in done.stages}
    assert outputs["audit"]["figures"] == by_hand["figures"]
    assert outputs["rank"]["totals"] == by_hand["totals"]
    assert (tmp_path / "output" / "report.html").exists()


def test_register_makes_every_task_known() -> None:
    """By the names that the graph uses."""
    known: dict[str, TaskFunction] = {}

    class Registrar:
        def task(self, name: str) -> Any:
            return lambda function: known.setdefault(name, function)

    register(Registrar())

    assert known == dict(TASKS)
    assert all(callable(function) for function in known.values())
