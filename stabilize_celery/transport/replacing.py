"""`self.replace`: the signature that takes a task's place, executed within the same step."""

import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import celery
from celery.app.task import Context
from celery.canvas import Signature, group
from celery.canvas import _chain as Chain  # noqa: N812 -- the classes; `chain` and `chord` are functions
from celery.canvas import _chord as Chord  # noqa: N812
from celery.exceptions import Ignore
from celery.utils.functional import arity_greater

from stabilize_celery.errors import TransientError
from stabilize_celery.tasks.outcome import FinalError
from stabilize_celery.transport.canvas_parts import chain_steps, group_members, group_of_chunks, listed, told_by_message

__all__ = ["CallTask", "Replaced", "Replacement", "call_errbacks"]

CallTask: TypeAlias = Callable[[celery.Task, Sequence[Any], Mapping[str, Any], Mapping[str, Any]], Any]
"""Calls one task with arguments and fields of its request; returns what it returns. Raises Replaced."""

logger = logging.getLogger(__name__)


class Replaced(Ignore):
    """The task has put a signature in its place: nothing behind `self.replace` is run."""

    def __init__(self, signature: Signature) -> None:
        super().__init__("replaced")
        self.signature = signature


@dataclass(frozen=True, slots=True)
class _End:
    """Where a signature's tasks end: what gets their result, and what is told of their failure."""

    callbacks: Sequence[Any]
    errbacks: Sequence[Any]


class Replacement:
    """Executes a signature, task by task. `failing` returns the request of the task that has failed."""

    def __init__(self, app: celery.Celery, call: CallTask, failing: Callable[[], Context]) -> None:
        self._app = app
        self._call = call
        self._failing = failing

    def result(self, signature: Any, args: Sequence[Any] = ()) -> Any:
        """Return what a signature gives. Raises what its tasks raise; the errbacks in it have been called."""
        # What is left to do, the next last. A task that is replaced in turn adds to it: one that replaces itself many
        # times needs no deeper stack than one that does so once.
        left: list[Any] = [signature]
        given = tuple(args)
        while left:
            step = left.pop()
            if isinstance(step, _End):
                self._call_back(step.callbacks, given)
                continue
            step = self._app.signature(step)
            callbacks, errbacks = (listed(step.options.get(name)) for name in ("link", "link_error"))
            if callbacks or errbacks:
                left.append(_End(callbacks, errbacks))
            try:
                given, more = self._taken(step, given)
            except Replaced as replaced:
                given, more = (), [replaced.signature]
            except Exception as error:
                if not isinstance(error, TransientError):
                    raised = error.raised if isinstance(error, FinalError) else error
                    told = [errback for end in left if isinstance(end, _End) for errback in end.errbacks]
                    call_errbacks(self._app, told, self._failing(), raised)
                raise
            left += reversed(more)
        return given[0]

    def _taken(self, step: Signature, given: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[Any]]:
        """Take one step: return what the next one is given, and the steps to take before all that are left."""
        if isinstance(step, Chain):
            return given, [one for one, _ in chain_steps(self._app, step)]
        if step.task == "celery.chunks":
            step = group_of_chunks(self._app, step)
        if isinstance(step, group):
            return ([self.result(member, given) for member in group_members(self._app, step)],), []
        if isinstance(step, Chord):
            header = step.tasks if isinstance(step.tasks, group) else group(list(step.tasks), app=self._app)
            taken = (*(() if step.immutable else given), *step.args)
            return ([self.result(member, taken) for member in group_members(self._app, header)],), [step.body]
        args = (*(() if step.immutable else given), *step.args)
        return (self._call(step.type, args, step.kwargs, told_by_message(step.options)),), []

    def _call_back(self, callbacks: Iterable[Any], given: tuple[Any, ...]) -> None:
        for callback in callbacks:
            try:
                self.result(callback, given)
            except TransientError:
                raise
            except Exception:
                # As in Celery: it changes nothing for the task that it is a callback of.
                logger.exception("callback %s of a task that was replaced failed", callback.get("task"))


def call_errbacks(
    app: celery.Celery, errbacks: Iterable[Mapping[str, Any]], request: Context, error: BaseException
) -> None:
    """Call each as Celery does: with request, error and traceback, or, if it takes one argument, the task's id."""
    _, _, trace = sys.exc_info()
    for plain in errbacks:
        errback = app.signature(dict(plain))
        given: tuple[Any, ...] = (request, error, trace)
        try:
            if not _takes_error(errback):
                given = (request.id,)
            errback(*given)
        except Exception:
            # As in Celery: an errback that fails is reported, and changes nothing.
            logger.exception("errback %s of canvas step %s failed", plain.get("task"), request.id)


def _takes_error(errback: Any) -> bool:
    header = getattr(errback.type, "__header__", None)
    stored = not errback.immutable and (errback.args or errback.kwargs)
    return header is not None and arity_greater(
        partial(header, *errback.args, **errback.kwargs) if stored else header, 1
    )
