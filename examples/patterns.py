"""Instances, a loop, a choice, a critical section, by their builders. Worker: `celery -A patterns worker`."""

import os

from celery import Celery

from stabilize_celery import (
    Client,
    Stabilize,
    StageExecution,
    TaskExecution,
    TaskResult,
    Workflow,
    critical_section,
    exclusive_choice,
    instances,
    repeat_until,
)

URL = os.environ.get("STABILIZE_REDIS_URL", "redis://localhost:6379/0")
app = Celery("patterns", broker=URL)
stabilize = Stabilize(app, redis_url=URL)

RATES = {"North": 7, "South": 6, "East": 8}


@stabilize.task("ask")
def ask(stage: StageExecution) -> TaskResult:
    return TaskResult.success(outputs={"offers": RATES[stage.context["instance_item"]]})


@stabilize.task("haggle")
def haggle(stage: StageExecution) -> TaskResult:
    return TaskResult.success(outputs={"rate": stage.context.get("rate", min(stage.context["offers"])) - 1})


@stabilize.task("write")
def write(stage: StageExecution) -> TaskResult:
    return TaskResult.success(outputs={stage.ref_id: f"{stage.ref_id} at {stage.context['rate']} %"})


def stage(ref_id: str, task: str, *after: str) -> StageExecution:
    return StageExecution(ref_id=ref_id, tasks=[TaskExecution.create(task, task)], requisite_stage_ref_ids=set(after))


def loan(wanted: int) -> Workflow:
    every = instances(stage("ask", "ask"), over="banks", at_once=2)
    best = repeat_until(stage("haggle", "haggle", "ask"), "rate <= wanted", back_to="haggle")
    exclusive_choice(best, {"contract": "rate > 3"}, default="refusal")
    signing = critical_section("notary", stage("contract", "write", "haggle"), stage("seal", "write", "contract"))
    stages = [every, best, *signing, stage("refusal", "write", "haggle")]
    return Workflow.create("examples", "loan", stages, context={"banks": list(RATES), "wanted": wanted})


if __name__ == "__main__":
    done = Client(redis_url=URL, broker_url=URL).start(loan(wanted=4)).wait(timeout_s=60)
    print(done.status, [done.get_context().get(name) for name in ("offers", "contract", "seal", "refusal")])
