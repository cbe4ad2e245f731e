"""One branch per file, a join that collects their results. Worker: `celery -A fan_out worker`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from celery import Celery

from stabilize_celery import Client, Stabilize, StageExecution, TaskExecution, TaskResult, Workflow

URL = os.environ.get("STABILIZE_REDIS_URL", "redis://localhost:6379/0")
app = Celery("fan_out", broker=URL)
stabilize = Stabilize(app, redis_url=URL)


@stabilize.task("count")
def count(stage: StageExecution) -> TaskResult:
    words = len(Path(stage.context["file"]).read_text(encoding="utf-8", errors="replace").split())
    return TaskResult.success(outputs={"words": words, "longest": [words, stage.context["file"]]})


@stabilize.task("tell")
def tell(stage: StageExecution) -> TaskResult:
    words, file = stage.context["longest"]
    return TaskResult.success(outputs={"answer": f"{stage.context['words']} words; the longest is {file} with {words}"})


def word_count(files: Sequence[str]) -> Workflow:
    branches = [
        StageExecution(
            ref_id=f"count-{number}",
            type="count",
            name=file,
            context={"file": file},
            tasks=[TaskExecution.create("count", "count")],
        )
        for number, file in enumerate(files)
    ]
    join = StageExecution(
        ref_id="tell",
        type="tell",
        name="tell",
        requisite_stage_ref_ids={branch.ref_id for branch in branches},
        # Without a reducer the latest value of a key wins: here the branches' values become one.
        output_reducers={"words": "sum", "longest": "max"},
        tasks=[TaskExecution.create("tell", "tell")],
    )
    return Workflow.create("examples", "word-count", [*branches, join])


if __name__ == "__main__":
    done = Client(redis_url=URL, broker_url=URL).start(word_count(sys.argv[1:] or [__file__])).wait(timeout_s=60)
    print(done.status, done.get_context().get("answer"))
