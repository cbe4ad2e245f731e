"""Orders in Django, in one file: `celery -A django_shop worker`, `python django_shop.py runserver`; see `__main__`.

Note `on_commit`: the workflow starts once its row is committed, and not if that is rolled back. If the start itself
fails, the request may be sent again: the row is there already, and the key makes both one order.
"""

import os
import sys

import django
from celery import Celery
from django.conf import settings
from django.core.management import execute_from_command_line
from django.db import connection, transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path

from stabilize_celery import Client, Stabilize, StageExecution, TaskExecution, TaskResult, Workflow

URL = os.environ.get("STABILIZE_REDIS_URL", "redis://localhost:6379/0")
database = {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("SHOP_DB", "shop.sqlite3")}
settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="-", DATABASES={"default": database})
django.setup()

app = Celery("django_shop", broker=URL)
stabilize = Stabilize(app, redis_url=URL)
client = Client(URL, URL)


@stabilize.task("charge")
def charge(stage: StageExecution) -> TaskResult:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE orders SET is_paid = 1 WHERE id = %s", [stage.context["order_id"]])
    return TaskResult.success(outputs={"receipt": f"receipt of order {stage.context['order_id']}"})


def place(_: HttpRequest, order_id: int) -> JsonResponse:
    pay = StageExecution(ref_id="pay", tasks=[TaskExecution.create("charge", "charge")])
    order = Workflow.create("shop", "order", [pay], context={"order_id": order_id})
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, is_paid INTEGER)")
        cursor.execute("INSERT OR IGNORE INTO orders VALUES (%s, 0)", [order_id])
        transaction.on_commit(lambda: client.start(order, idempotency_key=f"django-order-{order_id}"))
    return JsonResponse({"order": order_id}, status=202)


def look(_: HttpRequest, order_id: int) -> JsonResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT is_paid FROM orders WHERE id = %s", [order_id])
        found = cursor.fetchone()
    return JsonResponse({"is_paid": bool(found[0])} if found else {}, status=200 if found else 404)


urlpatterns = [path("orders/<int:order_id>/place", place), path("orders/<int:order_id>", look)]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)  # then: curl localhost:8000/orders/7/place; curl localhost:8000/orders/7
