"""What the results file says, from runs whose figures are given here."""

import json
from collections.abc import Iterator

import pytest

from benchmarks.compare import Cell, Comparison
from benchmarks.findings import as_json, kept, targets
from benchmarks.peers import PEERS
from benchmarks.plan import FULL, JUDGED, MODES, QUICK
from benchmarks.report import report
from benchmarks.results_file import header


@pytest.fixture
def run() -> Iterator[Comparison]:
    """A quick run, before anything was asked: peers start when they are asked first."""
    with Comparison(QUICK, PEERS, lambda _: None) as comparison:
        yield comparison


def measured(*seconds: float) -> Cell:
    return Cell(seconds=dict(enumerate(seconds)))


def told(run: Comparison) -> dict:
    return json.loads(json.dumps(header("") | as_json(run, [])))


def test_ratios_are_medians_of_pairs_by_shape_and_mode(run: Comparison) -> None:
    """`ratios.SHAPE.MODE` is one number; its spread and other references stand in `compared`."""
    run.cells["chain_50"] = {
        "per_message": measured(2.0, 9.0, 6.0),
        "celery": measured(1.0, 3.0, 1.0),
        "celery_no_acks": measured(0.5, 1.0),
        "dbos": measured(4.0),
        "per_message_delivered": measured(2.5),
        "per_message_with_others": measured(1.5),
    }

    results = told(run)

    assert results["ratios_delivered"] == {"chain_50": {"per_message": 2.5}}
    assert results["ratios_with_others"] == {"chain_50": {"per_message": 1.5}}
    assert results["ratios"] == {"chain_50": {"per_message": 3.0}}
    assert results["ratios_without_acks"] == {"chain_50": {"per_message": 6.5}}
    compared = results["compared"]["chain_50"]["per_message"]
    assert compared["celery"] == {"minimum": 2.0, "median": 3.0, "maximum": 6.0, "repetitions": 3}
    assert compared["dbos"]["median"] == 0.5


def test_what_was_not_measured_has_no_ratio_but_a_reason(run: Comparison) -> None:
    """A peer is never left out in silence."""
    run.cells["fan_1000"] = {
        "celery": measured(1.0),
        "fused": Cell(skipped="no such mode"),
        "dbos": Cell(skipped="slow"),
    }

    results = told(run)

    assert results["ratios"] == {"fan_1000": {}}
    assert results["shapes"]["fan_1000"]["peers"]["dbos"] == {"skipped": "slow"}
    text = report(results)
    assert "no such mode" in text
    assert "slow" in text


def test_delays_are_compared_with_a_plain_hop_of_their_own_kind(run: Comparison) -> None:
    """What a producer sends with a sent task; what a worker goes on with, with a task that a task sent."""
    run.cells["send_50"] = {"celery_tasks": Cell(delays_ms={0: [2.0] * 50})}
    run.cells["hop_50"] = {"celery_tasks": Cell(delays_ms={0: [1.0] * 50})}
    run.cells["wake_50"] = {"fused": Cell(delays_ms={0: [4.0] * 50})}
    run.cells["join_50"] = {"fused": Cell(delays_ms={0: [3.0] * 45 + [5.0] * 5})}

    shapes = told(run)["shapes"]

    assert shapes["wake_50"]["peers"]["fused"]["p95_to_plain_hop"]["median"] == 2.0
    assert shapes["join_50"]["peers"]["fused"]["p95_to_plain_hop"]["median"] == 5.0
    assert shapes["join_50"]["peers"]["fused"]["p50_ms"] == 3.0


def test_an_aim_that_is_missed_says_no(run: Comparison) -> None:
    run.cells["chain_50"] = {"celery": measured(1.0), "per_message": measured(3.0), "fused": measured(0.1)}

    lines = {
        line.split("|")[2].strip(): line for line in report(told(run)).splitlines() if line.startswith("| chain of 50")
    }

    assert "| NO " in lines["per_message"]
    assert "| yes " in lines["fused"]
    assert "| not measured " in lines["continuation"]


def test_a_peer_that_cannot_do_a_shape_tells_why_once() -> None:
    """Answers are kept by repetition; a reason is kept instead of a figure."""
    cell = Cell()
    cell.take(0, {"seconds": 1.5, "commands": 10})
    cell.take(1, {"cannot": "no locks"})

    assert (cell.seconds, cell.extras, cell.skipped) == ({0: 1.5}, [{"commands": 10}], "no locks")


@pytest.mark.parametrize("plan", [QUICK, FULL])
def test_every_plan_has_what_is_judged(plan) -> None:
    """The shapes with an aim, in five repetitions or more, and the delays with the plain hop beside them."""
    names = {shape.name for shape in plan.shapes}

    assert names >= set(JUDGED)
    assert plan.repetitions >= 5
    assert {shape.kind for shape in plan.shapes if shape.is_latency} >= {"send", "hop"}


def test_the_aims_are_those_of_the_judged_shapes() -> None:
    assert set(targets()) == set(JUDGED)
    assert targets()["chain_50"] == {"per_message": 1.1, "fused": 0.4, "continuation": 0.15}
    assert "continuation" not in targets()["fan_1000"]


def test_peers_have_names_of_their_own_and_our_modes_are_among_them() -> None:
    names = [entry.name for entry in PEERS]

    assert len(set(names)) == len(names)
    assert set(MODES) <= set(names)


def test_a_part_that_fails_is_told_and_loses_no_other(run: Comparison) -> None:
    """Weighing comes last: what was measured for minutes must outlive it."""

    def half() -> Iterator[dict]:
        yield {"key": "one", "what": "first", "value": 3.0, "unit": "bytes"}
        raise TimeoutError("not brought back")

    rows = list(kept({"bytes": half, "rate": lambda: [{"key": "two", "what": "second", "value": 4.0, "unit": "1/s"}]}))
    run.cells["chain_50"] = {"celery": measured(1.0), "fused": measured(0.5)}
    results = header("") | as_json(run, rows)

    assert results["ratios"]["chain_50"] == {"fused": 0.5}
    text = report(results)
    assert "TimeoutError: not brought back" in text
    assert "second" in text
    assert "first" in text
