"""Transient failures are retried, and keep their progress. Worker: `celery -A retries worker`."""

import os

from celery import Celery

from stabilize_celery import (
    Client,
    PermanentError,
    Stabilize,
    StageExecution,
    TaskExecution,
    TaskResult,
    TransientError,
    Workflow,
)

URL = os.environ.get("STABILIZE_REDIS_URL", "redis://localhost:6379/0")
app = Celery("retries", broker=URL)
stabilize = Stabilize(app, redis_url=URL)

PAGES = [["ann", "bob"], ["cy"], ["dee"]]


@stabilize.task("fetch")
def fetch(stage: StageExecution) -> TaskResult:
    """Fetch one page per attempt from a service that allows one request a second."""
    names: list[str] = stage.context.get("names", [])
    page: int = stage.context.get("page", 0)
    if page >= len(PAGES):
        raise PermanentError(f"there is no page {page}: trying again can't help, the stage ends TERMINAL")
    names = names + PAGES[page]
    if page + 1 < len(PAGES):
        # context_update survives to the next attempt; without retry_after the back-off is exponential, with jitter.
        raise TransientError("too many requests", retry_after=1, context_update={"names": names, "page": page + 1})
    return TaskResult.success(outputs={"names": names})


def crawl() -> Workflow:
    stage = StageExecution(ref_id="fetch", type="fetch", name="Fetch", tasks=[TaskExecution.create("fetch", "fetch")])
    return Workflow.create("examples", "crawl", [stage])


if __name__ == "__main__":
    done = Client(redis_url=URL, broker_url=URL).start(crawl()).wait(timeout_s=60)
    print(done.status, done.get_context().get("names"))
