"""A stage that waits for a person. Worker: `celery -A approval worker`; then see `__main__`."""

import os

from celery import Celery

from stabilize_celery import Client, Stabilize, StageExecution, TaskExecution, TaskResult, Workflow

URL = os.environ.get("STABILIZE_REDIS_URL", "redis://localhost:6379/0")
app = Celery("approval", broker=URL)
stabilize = Stabilize(app, redis_url=URL)


@stabilize.task("publish")
def publish(stage: StageExecution) -> TaskResult:
    return TaskResult.success(outputs={"published": f"by leave of {stage.context['payload']['by']}"})


def release() -> Workflow:
    # Ready-made: suspends until the signal comes; TERMINAL when nobody sent it within the deadline.
    ask = StageExecution(
        ref_id="ask",
        type="approval",
        name="Ask",
        context={"signal": "approve", "deadline_s": 3600},
        tasks=[TaskExecution.create("ask", "approval")],
    )
    then = StageExecution(
        ref_id="publish",
        type="publish",
        name="Publish",
        requisite_stage_ref_ids={"ask"},
        tasks=[TaskExecution.create("publish", "publish")],
    )
    return Workflow.create("examples", "release", [ask, then])


if __name__ == "__main__":
    handle = Client(redis_url=URL, broker_url=URL).start(release())
    # Only to show it: a signal that comes before the stage waits is kept until it does.
    next(event for event in handle.events(follow=True) if event.kind == "stage.suspended")
    print("waits for:", *handle.why(), sep="\n  ")
    # From any program that reaches Redis: client.handle(workflow_id).signal(...)
    handle.signal("ask", "approve", {"by": "Ann"})
    done = handle.wait(timeout_s=60)
    print(done.status, done.get_context().get("published"))
