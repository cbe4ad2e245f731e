"""Which names expressions will look at travels with the thread that comes to them, in bounds (docs/decisions/009)."""

from stabilize_celery.engine.foresight import MOST_NAMES, foresight
from stabilize_celery.engine.past import CARRIED_BYTES
from stabilize_celery.models.stage.stage import StageExecution
from stabilize_celery.models.workflow import Workflow


def stage(ref_id: str, *after: str, looks_at: str = "") -> StageExecution:
    enabled = {"stageEnabled": {"type": "expression", "expression": looks_at}} if looks_at else {}
    return StageExecution(ref_id=ref_id, requisite_stage_ref_ids=set(after), context=enabled)


def seen(*stages: StageExecution, **context: object) -> dict[str, dict[str, object]]:
    return foresight(Workflow(application="a", name="n", stages=list(stages), context=context))


def test_a_thread_carries_the_names_that_are_looked_at_ahead_of_it() -> None:
    """Those that it can still come to, no others."""
    told = seen(stage("a"), stage("b", "a", looks_at="x > 1"), stage("c", "b", looks_at="y > 1"), stage("d", "a"))

    assert {ref: one["carries"] for ref, one in told.items()} == {"a": ["x", "y"], "b": ["y"], "c": [], "d": []}


def test_a_workflow_that_looks_at_very_many_names_carries_none() -> None:
    """Each stage would write them all: they are read where they are looked at."""
    for names, carried in ((MOST_NAMES, MOST_NAMES), (MOST_NAMES + 1, 0)):
        told = seen(stage("a"), stage("b", "a", looks_at=" and ".join(f"x{at} > 1" for at in range(names))))

        assert len(told["a"]["carries"]) == carried  # type: ignore[arg-type]
        assert len(told["b"]["settled"]) == names  # type: ignore[arg-type]
    assert MOST_NAMES <= 100


def test_what_the_context_says_of_them_is_told_at_once_unless_it_is_large() -> None:
    """A large value stays where it is: each stage that looks at it would keep a copy."""
    looks = stage("a", looks_at="small > 1 and large != ''")
    told = seen(looks, small=7, large="x" * CARRIED_BYTES, other=1)["a"]

    assert (told["known"], told["settled"]) == ({"small": 7}, ["small"])
