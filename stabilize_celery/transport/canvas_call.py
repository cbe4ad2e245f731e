"""`canvas:NAME`: a Celery task as a step of a canvas, called with the results of the steps before it."""

from collections.abc import Mapping, Sequence
from typing import Any

import celery
from celery.exceptions import Reject
from typing_extensions import override

from stabilize_celery.errors import TransientError
from stabilize_celery.models.canvas import output_name, value_from
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.outcome import FinalError
from stabilize_celery.tasks.task import Task
from stabilize_celery.transport.canvas_values import as_given, plain
from stabilize_celery.transport.celery_call import PREFIX as CELERY_PREFIX
from stabilize_celery.transport.celery_call import CallInStage, celery_task_names, task_of
from stabilize_celery.transport.replacing import call_errbacks

__all__ = ["PREFIX", "CanvasCall", "canvas_task_names", "resolve_canvas_task"]

PREFIX = "canvas:"
_OF_CELERY = ("celery.map", "celery.starmap")


def resolve_canvas_task(app: celery.Celery, name: str) -> Task:
    """Return the stage task that `canvas:NAME` stands for. Raises TaskNotFoundError."""
    return CanvasCall(app, task_of(app, name, PREFIX))


def canvas_task_names(app: celery.Celery) -> list[str]:
    """Return what steps of a canvas may call, by the names that stages call it by."""
    own = [name.removeprefix(CELERY_PREFIX) for name in celery_task_names(app)]
    return [f"{PREFIX}{name}" for name in (*own, *_OF_CELERY)]


class CanvasCall(Task):
    """Calls a Celery task with what `canvas.py` wrote into the stage's context.

    `input` (if any) is the first argument, then come `args` and `kwargs`; `request` has fields of its request. What is
    returned is the stage's one output. An error is final, as in Celery, unless the task asked for a retry; then the
    stage's `errbacks` are called.
    """

    def __init__(self, app: celery.Celery, task: celery.Task) -> None:
        self._app = app
        self._task = task

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        context = stage.context
        first = [value_from(context["input"], context)] if context.get("input") is not None else []
        args, kwargs, told = as_given([[*first, *context["args"]], context["kwargs"], context.get("request") or {}])
        call = CallInStage(self._task, args, kwargs, told, is_final=True)
        try:
            value = plain(call.result(_arguments_of_the_next))
        except TransientError:
            raise
        except Exception as error:
            final = error if isinstance(error, FinalError) else FinalError(error)
            call_errbacks(self._app, context.get("errbacks") or (), call.request, final.raised)
            if isinstance(error, Reject):
                return TaskResult.terminal(f"{call.request.task} rejected its message: {error.reason}")
            raise final from error
        return TaskResult.success({output_name(stage.ref_id): value})


def _arguments_of_the_next(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a stage's context is to have if the task asked to be called with these arguments."""
    return {"input": None, "args": plain(list(args)), "kwargs": plain(dict(kwargs))}
