"""The demo's graph, and its tasks run by hand in the graph's order."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from stabilize_celery.demo.listing import list_packages
from stabilize_celery.demo.pipeline import audit_pipeline
from stabilize_celery.demo.tasks import PACKAGE, TASKS, TaskFunction, register
from stabilize_celery.errors import PermanentError, TransientError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.workflow import Workflow


@pytest.fixture
def audit(tree: Path, tmp_path: Path) -> Workflow:
    return audit_pipeline(tree, tmp_path / "output")


def run_stage(workflow: Workflow, ref_id: str, **upstream: Any) -> TaskResult:
    """Run a stage's task on the context that an engine gives it: workflow's, upstream outputs, its own."""
    stage = workflow.stage_by_ref_id(ref_id)
    assert stage
    stage.context = {**workflow.context, **upstream, **stage.context}
    return TASKS[stage.tasks[0].implementing_class](stage)


def run_all(workflow: Workflow) -> dict[str, Any]:
    """Run everything behind `list` and return what the report stage saw and brought."""
    outputs: dict[str, Any] = {}
    for stage in workflow.stages[1:]:
        outputs |= run_stage(workflow, stage.ref_id, **outputs).outputs
    return outputs


def test_the_graph_is_a_fan_out_a_join_and_a_report(audit: Workflow) -> None:
    """One branch per package between list and rank; the report stands under a mutex."""
    after = {stage.ref_id: stage.requisite_stage_ref_ids for stage in audit.stages}
    branches = {"audit-bad", "audit-café", "audit-shapes", "audit-solo"}

    assert after == {"list": set(), **{branch: {"list"} for branch in branches}, "rank": branches, "report": {"rank"}}
    assert audit.stages[-1].mutex_key == f"report:{audit.context['output']}"
    assert {stage.tasks[0].implementing_class for stage in audit.stages} == set(TASKS)


def test_the_largest_package_comes_first(audit: Workflow) -> None:
    """A big branch that starts last would be waited for alone."""
    assert audit.stages[1].ref_id == "audit-shapes"


def test_the_list_is_believed_when_two_looks_agree(audit: Workflow, tree: Path) -> None:
    """The first look fails with an error worth a retry, and so does one after a change."""
    with pytest.raises(TransientError, match="one look") as first:
        run_stage(audit, "list")
    (tree / "solo.py").write_text("x = 123456\n")
    with pytest.raises(TransientError, match="changed since") as second:
        run_stage(audit, "list", **first.value.context_update)
    audit.stages[0].context.pop("tree_seen")

    found = run_stage(audit, "list", **second.value.context_update)

    assert found.outputs["files_listed"] == 7
    assert first.value.retry_after
    assert first.value.retry_after > 0


def test_a_package_that_came_after_the_graph_was_built_is_told(audit: Workflow, tree: Path) -> None:
    """No report that leaves out what is there."""
    (tree / "late.py").write_text("x = 1\n")
    with pytest.raises(TransientError) as look:
        run_stage(audit, "list")

    with pytest.raises(PermanentError, match="'late'"):
        run_stage(audit, "list", **look.value.context_update)


def test_a_package_that_went_is_no_reason_to_try_again(audit: Workflow, tree: Path) -> None:
    """The error names the package."""
    (tree / "solo.py").unlink()

    with pytest.raises(PermanentError, match="'solo' is not in"):
        run_stage(audit, "audit-solo")


def test_the_report_shows_what_the_branches_brought(audit: Workflow, tree: Path, tmp_path: Path) -> None:
    """Figures travel through outputs, details through files; both reports are written."""
    outputs = run_all(audit)

    assert {key for key in outputs if key.startswith(PACKAGE)} == {PACKAGE + one.name for one in list_packages(tree)}
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
    """Only JSON values, a few hundred bytes a branch."""
    brought = run_stage(audit, "audit-shapes").outputs

    assert len(msgspec.json.encode(brought)) < 400


def test_what_can_not_be_audited_is_told_at_once(tmp_path: Path) -> None:
    """A missing folder, and one without Python."""
    with pytest.raises(NotADirectoryError, match="give the folder"):
        audit_pipeline(tmp_path / "nowhere", tmp_path)
    with pytest.raises(ValueError, match="has no Python files"):
        audit_pipeline(tmp_path, tmp_path)


def test_a_package_of_a_very_long_name_gets_a_valid_stage(tmp_path: Path) -> None:
    """Names of 250 characters are fine for a file system, not for a stage."""
    (tmp_path / f"{'x' * 250}.py").write_text("x = 1\n")

    audit = audit_pipeline(tmp_path, tmp_path / "output")

    assert len(audit.stages[1].ref_id) <= 200
    assert run_all(audit)["totals"]["files"] == 1


def test_register_makes_every_task_known() -> None:
    """By the names that the graph uses."""
    known: dict[str, TaskFunction] = {}

    class Registrar:
        def task(self, name: str) -> Any:
            return lambda function: known.setdefault(name, function)

    register(Registrar())

    assert known == dict(TASKS)
    assert all(callable(function) for function in known.values())
