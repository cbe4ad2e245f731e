"""Existing Celery tasks as stages of a pipeline. Worker: `celery -A existing_celery_task worker`."""

import os

from celery import Celery

from stabilize_celery import Client, Stabilize, StageExecution, TaskExecution, Workflow

URL = os.environ.get("STABILIZE_REDIS_URL", "redis://localhost:6379/0")
app = Celery("existing_celery_task", broker=URL)
stabilize = Stabilize(app, redis_url=URL)


@app.task(name="shop.make_invoice")
def make_invoice(order_id: int) -> dict[str, str]:
    """An ordinary Celery task: it knows nothing of workflows, and `delay` still works."""
    return {"invoice": f"invoice-{order_id}.pdf"}


@app.task(name="shop.send_mail")
def send_mail(to: str, subject: str) -> dict[str, str]:
    return {"sent": f"{subject} to {to}"}


def billing(order_id: int, to: str) -> Workflow:
    # Keyword arguments come from the stage's own context, the returned dict becomes outputs.
    invoice = StageExecution(
        ref_id="invoice",
        type="celery",
        name="Invoice",
        context={"order_id": order_id},
        tasks=[TaskExecution.create("invoice", "celery:shop.make_invoice")],
    )
    mail = StageExecution(
        ref_id="mail",
        type="celery",
        name="Mail",
        context={"to": to, "subject": f"Your order {order_id}"},
        requisite_stage_ref_ids={"invoice"},
        tasks=[TaskExecution.create("mail", "celery:shop.send_mail")],
    )
    return Workflow.create("shop", "billing", [invoice, mail])


if __name__ == "__main__":
    done = Client(redis_url=URL, broker_url=URL).start(billing(7, "ann@example.org")).wait(timeout_s=60)
    print(done.status, done.get_context())
