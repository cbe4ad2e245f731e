"""A pipeline in a Celery project. One terminal: `celery -A shop worker`; another one: `python shop.py`."""

import os

from celery import Celery

from stabilize_celery import Client, Stabilize, StageExecution, TaskExecution, TaskResult, Workflow

URL = os.environ.get("STABILIZE_REDIS_URL", "redis://localhost:6379/0")
app = Celery("shop", broker=URL)
stabilize = Stabilize(app, redis_url=URL)


@stabilize.task("charge")
def charge(stage: StageExecution) -> TaskResult:
    return TaskResult.success(outputs={"receipt": f"receipt of order {stage.context['order_id']}"})


@stabilize.task("ship")
def ship(stage: StageExecution) -> TaskResult:
    return TaskResult.success(outputs={"label": f"parcel with {stage.context['receipt']}"})


def order(order_id: int) -> Workflow:
    pay = StageExecution(ref_id="pay", tasks=[TaskExecution.create("charge", "charge")])
    send = StageExecution(ref_id="send", tasks=[TaskExecution.create("ship", "ship")], requisite_stage_ref_ids={"pay"})
    return Workflow.create("shop", "order", [pay, send], context={"order_id": order_id})


if __name__ == "__main__":
    handle = Client(redis_url=URL, broker_url=URL).start(order(7), idempotency_key="order-7")
    done = handle.wait(timeout_s=60)
    print(handle.id, done.status, done.get_context())
