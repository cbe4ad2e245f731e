"""What a task's code sees: its context, as if it were all there, however it is loaded (wcp 1.4)."""

import json
import pickle
from typing import Any

import pytest
from msgspec import structs

from stabilize_celery.engine import places
from stabilize_celery.engine.codec import pack
from stabilize_celery.engine.moves import Frame
from stabilize_celery.engine.past import NEAR, Past, Source, extended, paged
from stabilize_celery.engine.plan import InstancesPlan, StagePlan, TaskPlan
from stabilize_celery.engine.state import Run, TaskState, WorkflowRecord
from stabilize_celery.engine.steps import Fields, Query, Snapshot
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.hydrate import context_queries, stage_of, visible_context

MANY = 2 * NEAR + 20
OWN = {"own": 1, "p0": "own wins"}
WORKFLOW = {"w": "workflow", "p1": "past wins"}


class Outputs:
    """Runs `t0`, `t1` … that wrote `p0`, `p1` …, one after another; counts how often something is read."""

    def __init__(self, runs: int) -> None:
        self.past, self.pages = Past(), dict[str, dict[str, Source]]()
        for at in range(runs):
            self.past, old = paged(extended(self.past, {f"p{at}": at}, f"t{at}", at + 1), f"page{at}")
            self.pages |= {f"page{at}": old} if old else {}
        self.stored: dict[str, dict[str, Any]] = {f"t{at}": {f"p{at}": at, "unseen": True} for at in range(runs)}
        self.reads = 0

    def snapshot(self, queries: list[Query]) -> Snapshot:
        self.reads += 1
        answers: dict[Query, Any] = {}
        for query in queries:
            assert isinstance(query, Fields)
            if query.key == places.DEFINITION:
                answers[query] = {"context": pack(WORKFLOW)}
            elif query.key == places.PAGES:
                answers[query] = {page: pack(self.pages[page]) for page in query.fields}
            else:
                answers[query] = {"outputs": pack(self.stored[query.key.removeprefix("r:")])}
        return Snapshot(answers, 0)

    def context(self) -> tuple[Frame, Any]:
        plan = StagePlan(ref="a", stage_id="i", tasks=[TaskPlan("i1", "n", "shell")])
        run = Run(ref="a", past=self.past, tasks=[TaskState("RUNNING")], outputs={"o": 1}, started_ms=5)
        frame = Frame("w1", 0, WorkflowRecord(status="RUNNING"), plan, "now", run, dict(OWN))
        first = self.snapshot(context_queries(frame))
        self.reads = 0
        return frame, visible_context(frame, first, self.snapshot)


def expected(runs: int) -> dict[str, Any]:
    return {**WORKFLOW, **{f"p{at}": at for at in range(runs)}, **OWN}


@pytest.mark.parametrize("runs", [0, 3, NEAR, MANY])
def test_the_context_is_workflow_past_and_own_the_later_winning(runs: int) -> None:
    """The same to whoever looks, by whatever method; a name that its own context hides is not loaded."""
    assert Outputs(runs).context()[1] == expected(runs)
    assert dict(Outputs(runs).context()[1]) == expected(runs)
    assert {**Outputs(runs).context()[1]} == expected(runs)
    assert sorted(Outputs(runs).context()[1].keys()) == sorted(expected(runs))
    assert sorted(map(str, Outputs(runs).context()[1].values())) == sorted(map(str, expected(runs).values()))
    assert sorted(Outputs(runs).context()[1]) == sorted(expected(runs))
    assert len(Outputs(runs).context()[1]) == len(expected(runs))
    assert Outputs(runs).context()[1].copy() == expected(runs)
    assert pickle.loads(pickle.dumps(Outputs(runs).context()[1])) == expected(runs)
    assert Outputs(runs).context()[1] != {}


def test_a_long_past_is_loaded_by_name_as_it_is_looked_at() -> None:
    """A stage behind a thousand branches reads the pages once, and then what it asks for; each value once."""
    outputs = Outputs(MANY)
    _, context = outputs.context()

    assert context[f"p{MANY - 1}"] == MANY - 1
    assert outputs.reads == 0
    assert "p7" in context
    assert outputs.reads == 1
    assert [context["p7"], context.get("p7"), context["p7"]] == [7, 7, 7]
    assert outputs.reads == 2
    assert context["w"] == "workflow"
    assert outputs.reads == 2


def test_a_short_past_comes_with_the_claim() -> None:
    """No further round trip while the body runs."""
    outputs = Outputs(NEAR)
    _, context = outputs.context()

    assert context == expected(NEAR)
    assert outputs.reads == 0


@pytest.mark.parametrize("runs", [1, MANY])
def test_what_is_not_there_is_a_key_error(runs: int) -> None:
    """As in any dict; also what an earlier run wrote but this one may not see."""
    _, context = Outputs(runs).context()

    assert context.get("unseen", "default") == "default"
    assert "unseen" not in context
    with pytest.raises(KeyError, match="unseen"):
        context["unseen"]


def test_writing_to_it_changes_only_the_copy() -> None:
    """A body may use its context as a scratch pad; its own part is told apart."""
    _, context = Outputs(MANY).context()
    context["p7"] = "mine"
    context["new"] = 1

    assert (context["p7"], context["new"]) == ("mine", 1)
    assert dict(context) == {**expected(MANY), "p7": "mine", "new": 1}
    assert context.own == OWN


def scratch(context: dict[str, Any]) -> list[Any]:
    """Do to a context all that one does to a dict."""
    seen: list[Any] = [context.pop("p7"), context.pop("p7", "gone"), context.setdefault("p8", 0), context.get("p9")]
    del context["p10"]
    context.update({"p11": "new"}, more=1)
    context |= {"p12": "newer"}
    seen += [context.setdefault("fresh", 2), "p10" in context, "p13" in context, len(context), sorted(context.items())]
    seen += [
        context | {"p13": 0},
        {"p13": 0} | context,
        context.copy(),
        context == dict(context),
        json.loads(json.dumps(context)),
    ]
    seen += [len([context.popitem() for _ in range(len(context))]), len(context)]
    context["again"] = 1
    context.clear()
    return [*seen, dict(context), "p14" in context, "w" in context]


@pytest.mark.parametrize("runs", [NEAR, MANY])
def test_it_is_a_dict_whatever_one_does_to_it(runs: int) -> None:
    """A body need not know that some of it has not been read yet."""
    assert scratch(Outputs(runs).context()[1]) == scratch(expected(runs))


def test_an_instance_reads_what_stands_beside_the_list_only_when_it_looks() -> None:
    """3,000 instances of a list would else each read the items of all the others."""
    outputs = Outputs(4)
    outputs.stored["t2"]["beside"] = "too"
    outputs.past.near["beside"] = outputs.past.near["p2"]
    frame, _ = outputs.context()
    frame.plan = structs.replace(frame.plan, instances=InstancesPlan(collection_from="p2"))
    frame.run = structs.replace(frame.run, instance=5)
    queries = context_queries(frame)
    context = visible_context(frame, outputs.snapshot(queries), outputs.snapshot)
    outputs.reads = 0

    assert Fields(places.run("t2"), ("outputs",)) not in queries
    assert context["p1"] == 1
    assert "beside" in context
    assert outputs.reads == 0
    assert (context["beside"], context["p2"], outputs.reads) == ("too", 2, 2)
    assert context == {**expected(4), "beside": "too"}


def test_the_stage_is_a_copy_with_what_its_run_has() -> None:
    """Status, outputs, tasks and their states; attached to its workflow."""
    frame, context = Outputs(0).context()
    stage = stage_of(frame, context, Workflow(id="w1", name="orders"))

    assert (stage.ref_id, stage.id, stage.status.name, stage.outputs) == ("a", "i", "RUNNING", {"o": 1})
    assert [(task.name, task.implementing_class, task.status.name) for task in stage.tasks] == [
        ("n", "shell", "RUNNING")
    ]
    assert stage.execution.name == "orders"
    stage.outputs["o"] = 2
    assert frame.run.outputs == {"o": 1}
