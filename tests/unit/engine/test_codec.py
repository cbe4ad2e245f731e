"""Records as hash fields, and the names of threads."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stabilize_celery.engine.ids import keyed_workflow_id, thread_id
from stabilize_celery.engine.past import Past, Source
from stabilize_celery.engine.state import (
    ENTRY,
    RUN,
    SIGNALS,
    WORKFLOW_RECORD,
    Entry,
    KeptSignal,
    Run,
    SignalBox,
    SubOutcome,
    TaskState,
    WorkflowRecord,
)
from stabilize_celery.engine.steps import Hash, Snapshot, UndeclaredReadError
from tests.unit.engine.driving import as_stored

CAUSES = st.lists(st.one_of(st.text(max_size=4), st.integers(-5, 5)), min_size=1, max_size=4)


def test_a_run_comes_back_as_it_was_written() -> None:
    """Text, numbers, flags, and everything else."""
    run = Run(
        ref="a",
        status="RUNNING",
        past=Past({"x": Source(7, "t", "sum", (Source(3, "u", value=b"\x01"),))}, ("page",), 7),
        context={"n": [1, {"deep": None}]},
        tasks=[TaskState("RUNNING", 5, error={"message": "m"}), TaskState()],
        code_runs=True,
        signal="ok",
        payload={"any": 1},
        sub=SubOutcome("w2", "SUCCEEDED", {"o": 1}),
        instance=0,
    )

    assert RUN.decode(as_stored(RUN.encode_all(run))) == run


def test_an_outcome_of_an_earlier_version_has_no_reason() -> None:
    """A run that waited while the workers were replaced goes on."""
    former = {"workflow_id": "w2", "status": "TERMINAL"}

    assert RUN.decode({"sub": msgspec.msgpack.encode(former)}).sub == SubOutcome("w2", "TERMINAL")


@pytest.mark.parametrize(
    ("codec", "record"),
    [
        (ENTRY, Entry(t="X", a=b"\x80", own="w/n", cx=True)),
        (WORKFLOW_RECORD, WorkflowRecord(status="RUNNING", depth=2)),
        (SIGNALS, SignalBox([KeptSignal("s", 1)], [])),
    ],
)
def test_records_come_back_as_they_were_written(codec, record) -> None:
    """All four kinds of hashes; defaults are not written."""
    stored = as_stored(codec.encode_all(record))

    assert codec.decode(stored) == record
    assert len(stored) < len(record.__struct_fields__)


def test_what_is_absent_has_its_default_and_what_is_unknown_is_left_alone() -> None:
    """A newer version may own more fields."""
    assert RUN.decode({}) == Run()
    assert RUN.decode({"newer": b"?", "ref": b"a"}) == Run(ref="a")


def test_an_unknown_field_cannot_be_written() -> None:
    """A misspelt field would be lost without a word."""
    with pytest.raises(KeyError, match="Run has no field 'statsu'"):
        RUN.encode(statsu="RUNNING")


@given(CAUSES, CAUSES)
def test_different_causes_have_different_threads(one: list[str | int], other: list[str | int]) -> None:
    """Whatever stages are called: a name is not a number, and no separator can be forged."""
    assert (thread_id(*one) == thread_id(*other)) == (one == other)


def test_thread_names_stand_for_ever() -> None:
    """A rolling deployment decides the same message twice, in two versions."""
    assert thread_id("w1", "a") == "kdzqhdvhpxb7a"
    assert keyed_workflow_id("stabilize", "order-1") == "kgnfmuu5io3keytzvecd6zx67r36epoer"


def test_a_snapshot_answers_only_what_was_read() -> None:
    """A decision that leans on more than its reads is a bug, in production, too."""
    with pytest.raises(UndeclaredReadError, match="was not declared"):
        Snapshot({}, 0)[Hash("w")]
