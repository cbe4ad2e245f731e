"""Workflows of every kind that a crowd is made of, and how each must end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stabilize_celery import JoinType, StageExecution, TaskExecution, Workflow, instances

__all__ = ["ENDS", "INNER", "KINDS", "SIGNAL", "make", "wants_signal"]

SIGNAL = "go"
"""What the stages that wait for a signal wait for."""
INNER = "inner"
"""The name of the workflows that others call."""
_MUTEXES = 5


def stage(ref_id: str, *requisites: str, does: str = "nothing", **fields: Any) -> StageExecution:
    tasks = [TaskExecution.create(does, does)] if does else []
    return StageExecution(ref_id=ref_id, tasks=tasks, requisite_stage_ref_ids=set(requisites), **fields)


def _chain(_: int) -> list[StageExecution]:
    return [stage("s0"), stage("s1", "s0"), stage("s2", "s1")]


def _fan(_: int) -> list[StageExecution]:
    branches = [stage(f"b{at}", "in", does="work", context={"sleep_s": 0.02}) for at in range(4)]
    return [stage("in"), *branches, stage("out", *(branch.ref_id for branch in branches))]


def _two_of_three(_: int) -> list[StageExecution]:
    branches = [stage(f"b{at}", "in") for at in range(3)]
    joined = stage("out", "b0", "b1", "b2", join_type=JoinType.N_OF_M, join_threshold=2)
    return [stage("in"), *branches, joined]


def _retries(_: int) -> list[StageExecution]:
    return [stage("s0", does="shaky", context={"fails": 2}), stage("s1", "s0")]


def _mutex(number: int) -> list[StageExecution]:
    keys = [f"dock-{number % _MUTEXES}", f"dock-{(number + 1) % _MUTEXES}"]
    return [stage("s0", does="guarded", mutex_key=keys[0]), stage("s1", "s0", does="guarded", mutex_key=keys[1])]


def _instances(_: int) -> list[StageExecution]:
    many = stage("many", "in", does="work", context={"sleep_s": 0.01})
    instances(many, count=4)
    return [stage("in"), many, stage("out", "many")]


def _signal(_: int) -> list[StageExecution]:
    return [stage("ask", does="approval", context={"signal": SIGNAL}), stage("out", "ask")]


def _timer(number: int) -> list[StageExecution]:
    return [stage("rest", does="wait", context={"seconds": 1 + number % 5}), stage("out", "rest")]


def _calls(_: int) -> list[StageExecution]:
    tasks = [{"name": "nothing", "implementing_class": "nothing"}]
    inner = [{"ref_id": "i0", "tasks": tasks}, {"ref_id": "i1", "tasks": tasks, "requisite_stage_ref_ids": ["i0"]}]
    definition = {"application": "crowd", "name": INNER, "stages": inner}
    return [stage("call", does="sub_workflow", context={"workflow": definition}), stage("out", "call")]


def _loop(_: int) -> list[StageExecution]:
    return [stage("in"), stage("again", "in", does="again", context={"rounds": 3}, jump_targets=["in"])]


def _fails(_: int) -> list[StageExecution]:
    return [stage("s0"), stage("s1", "s0", does="broken"), stage("s2", "s1")]


KINDS: Mapping[str, Callable[[int], list[StageExecution]]] = {
    "chain": _chain,
    "fan": _fan,
    "two of three": _two_of_three,
    "retries": _retries,
    "mutex": _mutex,
    "instances": _instances,
    "signal": _signal,
    "timer": _timer,
    "calls": _calls,
    "loop": _loop,
    "fails": _fails,
}
ENDS = {kind: "TERMINAL" if kind == "fails" else "SUCCEEDED" for kind in (*KINDS, INNER)}
"""Kind of workflow to the name of the status that it ends with."""


def wants_signal(number: int) -> bool:
    """Return whether the workflow of that number waits for a signal."""
    return list(KINDS)[number % len(KINDS)] == "signal"


def make(number: int) -> Workflow:
    """Return the workflow of that number; its name is its kind."""
    kind = list(KINDS)[number % len(KINDS)]
    return Workflow.create("crowd", kind, KINDS[kind](number))
