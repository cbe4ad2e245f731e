"""The Celery app of the canvas tests: the same worker serves Celery's own canvas and ours."""

from __future__ import annotations

import datetime as dt
import decimal
import os
import uuid
from pathlib import Path
from typing import Any

from celery import Celery, Task, chain, chord, group

from stabilize_celery import Stabilize

# Not shared: apps of other tests in this process are no business of these tasks.
app = Celery("sums", broker=os.environ["CANVAS_BROKER"], backend=os.environ["CANVAS_BACKEND"])
app.conf.task_allow_error_cb_on_chord_header = True
app.conf.result_chord_ordered = True
stabilize = Stabilize(app, redis_url=os.environ["CANVAS_STATE"])
journal = Path(os.environ["CANVAS_JOURNAL"])


def note(text: str) -> None:
    with journal.open("a") as file:
        file.write(text + "\n")


@app.task(name="sums.add", shared=False)
def add(x: Any, y: Any, *, times: int = 1) -> Any:
    return (x + y) * times


@app.task(name="sums.double", shared=False)
def double(x: Any) -> Any:
    return x * 2


@app.task(name="sums.total", shared=False)
def total(numbers: list[Any], more: int = 0) -> Any:
    return sum(numbers) + more


@app.task(name="sums.pair", shared=False)
def pair(*args: Any, **kwargs: Any) -> list[Any]:
    """What it was called with."""
    return [list(args), kwargs]


@app.task(name="sums.seven", shared=False)
def seven() -> int:
    return 7


@app.task(name="sums.nothing", shared=False)
def nothing(*_: Any) -> None:
    return None


@app.task(name="sums.bound", shared=False, bind=True)
def bound(self: Task, x: Any) -> list[Any]:
    return [self.name, x, self.request.retries]


@app.task(name="sums.asked", shared=False, bind=True)
def asked(self: Task, *_: Any) -> dict[str, Any]:
    """What its request says beside its arguments."""
    request = self.request
    return {
        "headers": {name: value for name, value in (request.headers or {}).items() if name == "tenant"},
        "tenant": request.get("tenant"),
        "stamps": request.stamps or {},
        "stamped": list(request.stamped_headers or ()),
        "shadow": request.shadow,
        "is_eager": request.is_eager,
        "priority": request.delivery_info["priority"],
    }


@app.task(name="sums.second_try", shared=False, bind=True, default_retry_delay=0.1)
def second_try(self: Task, x: Any) -> Any:
    if self.request.retries == 0:
        raise self.retry(countdown=0.1)
    return [x, self.request.retries]


@app.task(name="sums.other_arguments", shared=False, bind=True)
def other_arguments(self: Task, x: Any, more: Any = None) -> Any:
    if self.request.retries == 0:
        raise self.retry(args=(x + 1,), kwargs={"more": dt.date(2026, 1, 2)}, countdown=0)
    return [x, repr(more)]


@app.task(name="sums.seen", shared=False)
def seen(*args: Any, **kwargs: Any) -> list[str]:
    """What it was called with, as Python has it."""
    return [repr(args), repr(sorted(kwargs.items()))]


@app.task(name="sums.many_types", shared=False)
def many_types() -> Any:
    when = dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC)
    return {"when": (when, when.date()), 1: decimal.Decimal("1.50"), "id": uuid.UUID(int=5), "raw": [b"ab", b"\xff"]}


@app.task(name="sums.replaced", shared=False, bind=True)
def replaced(self: Task, x: Any, by: str) -> Any:
    ways = {
        "task": add.s(x, 10),
        "chain": chain(add.s(x, 10), double.s()),
        "group": group(add.s(x, 10), add.s(x, 20)),
        "chord": chord([add.s(x, 10), add.s(x, 20)], total.s()),
        "headers": asked.s(x).set(headers={"tenant": "t"}),
    }
    return self.replace(ways[by])


@app.task(name="sums.down", shared=False, bind=True)
def down(self: Task, n: int, *, raises: bool) -> Any:
    if not n:
        return "bottom"
    if raises:
        raise self.replace(down.si(n - 1, raises=True))
    return self.replace(down.si(n - 1, raises=False))


@app.task(name="sums.replaced_by_a_failure", shared=False, bind=True)
def replaced_by_a_failure(self: Task) -> Any:
    return self.replace(chain(seven.s(), fail.s()))


@app.task(name="sums.fail", shared=False)
def fail(*_: Any) -> None:
    raise ConnectionError("no more numbers")


@app.task(name="sums.noted", shared=False)
def noted(text: Any, *_: Any) -> None:
    note(f"noted {text}")


@app.task(name="sums.on_error", shared=False)
def on_error(request: Any, error: BaseException, trace: Any) -> None:
    note(f"new {request.task} {type(error).__name__} {error}")


@app.task(name="sums.told", shared=False)
def told(request: Any, error: BaseException, trace: Any, who: str) -> None:
    """Whose errback this is; a chord's may be called for its header or for itself."""
    note(f"told {who}")


@app.task(name="sums.on_error_id", shared=False)
def on_error_id(task_id: str) -> None:
    note("old")
