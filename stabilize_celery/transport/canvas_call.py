"""`canvas:NAME`: a Celery task as a step of a canvas, called with the results of the steps before it."""

import logging
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import celery
from celery.app.task import Context
from celery.exceptions import Reject
from celery.utils.functional import arity_greater
from typing_extensions import override

from stabilize_celery.errors import TransientError
from stabilize_celery.models.canvas import output_name, value_from
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.call import bound_call
from stabilize_celery.tasks.outcome import FinalError
from stabilize_celery.tasks.task import Task
from stabilize_celery.transport.canvas_values import as_given, plain
from stabilize_celery.transport.celery_call import PREFIX as CELERY_PREFIX
from stabilize_celery.transport.celery_call import call_in_stage, celery_task_names, request_fields, task_of

__all__ = ["PREFIX", "CanvasCall", "canvas_task_names", "resolve_canvas_task"]

PREFIX = "canvas:"
_OF_CELERY = ("celery.map", "celery.starmap")

logger = logging.getLogger(__name__)


def resolve_canvas_task(app: celery.Celery, name: str) -> Task:
    """Return the stage task that `canvas:NAME` stands for. Raises TaskNotFoundError."""
    return CanvasCall(app, task_of(app, name, PREFIX))


def canvas_task_names(app: celery.Celery) -> list[str]:
    """Return what steps of a canvas may call, by the names that stages call it by."""
    own = [name.removeprefix(CELERY_PREFIX) for name in celery_task_names(app)]
    return [f"{PREFIX}{name}" for name in (*own, *_OF_CELERY)]


class CanvasCall(Task):
    """Calls a Celery task with what `canvas.py` wrote into the stage's context.

    `input` (if any) is the first argument, then come `args` and `kwargs`; what is returned is the stage's one output.
    An error is final, as in Celery, unless the task asked for a retry; then the stage's `errbacks` are called.
    """

    def __init__(self, app: celery.Celery, task: celery.Task) -> None:
        self._app = app
        self._task = task

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        context = stage.context
        first = [value_from(context["input"], context)] if context.get("input") is not None else []
        args, kwargs = as_given([[*first, *context["args"]], context["kwargs"]])
        try:
            value = plain(call_in_stage(self._task, args, kwargs, _arguments_of_the_next, is_final=True))
        except TransientError:
            raise
        except Exception as error:
            final = error if isinstance(error, FinalError) else FinalError(error)
            self._call_errbacks(stage, final.raised, args, kwargs)
            if isinstance(error, Reject):
                return TaskResult.terminal(f"{self._task.name} rejected its message: {error.reason}")
            raise final from error
        return TaskResult.success({output_name(stage.ref_id): value})

    def _call_errbacks(
        self, stage: StageExecution, error: BaseException, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        call = bound_call()
        fields = request_fields(self._task, call, 0 if call is None else call.attempt - 1)
        request = Context({**fields, "args": args, "kwargs": kwargs})
        for errback in stage.context.get("errbacks") or ():
            self._call_errback(errback, request, error)

    def _call_errback(self, plain: Mapping[str, Any], request: Context, error: BaseException) -> None:
        """Call one as Celery does: with request, error and traceback, or, if it takes one argument, the task's id."""
        errback = self._app.signature(dict(plain))
        _, _, trace = sys.exc_info()
        given: tuple[Any, ...] = (request, error, trace)
        try:
            if not _takes_error(errback):
                given = (request.id,)
            errback(*given)
        except Exception:
            # As in Celery: an errback that fails is reported, and changes nothing.
            logger.exception("errback %s of canvas step %s failed", plain.get("task"), request.id)


def _arguments_of_the_next(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a stage's context is to have if the task asked to be called with these arguments."""
    return {"input": None, "args": plain(list(args)), "kwargs": plain(dict(kwargs))}


def _takes_error(errback: Any) -> bool:
    header = getattr(errback.type, "__header__", None)
    stored = not errback.immutable and (errback.args or errback.kwargs)
    return header is not None and arity_greater(
        partial(header, *errback.args, **errback.kwargs) if stored else header, 1
    )
