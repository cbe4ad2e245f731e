"""An app's ordinary Celery task as a stage's task: `celery:NAME`, run inside the process that has the claim."""

import datetime as dt
import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import celery
from billiard.einfo import ExceptionInfo
from celery import states
from celery.app.task import Context
from celery.app.trace import task_has_custom
from celery.canvas import Signature
from celery.canvas import _chain as Chain  # noqa: N812 -- the class; `chain` is a function
from celery.exceptions import Ignore, ImproperlyConfigured, MaxRetriesExceededError, NotRegistered, Reject, Retry
from celery.utils.nodenames import gethostname
from celery.utils.time import get_exponential_backoff_interval
from typing_extensions import override

from stabilize_celery.errors import PermanentError, TaskNotFoundError, TransientError, is_transient
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.call import bound_call
from stabilize_celery.tasks.options import TaskOptions
from stabilize_celery.tasks.outcome import AskedAgainError, FinalError
from stabilize_celery.tasks.task import Task
from stabilize_celery.transport.replacing import Replaced, Replacement

__all__ = [
    "PREFIX",
    "CallInStage",
    "CeleryCall",
    "celery_task_names",
    "celery_task_options",
    "resolve_celery_task",
    "task_of",
]

PREFIX = "celery:"
_OURS = ("stabilize.", "celery.")
_MAPS = ("celery.map", "celery.starmap")

logger = logging.getLogger(__name__)


def resolve_celery_task(app: celery.Celery, name: str) -> Task:
    """Return the stage task that `celery:NAME` stands for.

    Raises:
        TaskNotFoundError: the app has no such task.

    """
    return CeleryCall(task_of(app, name, PREFIX))


def task_of(app: celery.Celery, name: str, prefix: str) -> celery.Task:
    """Return the app's task that `<prefix>NAME` stands for.

    Raises:
        TaskNotFoundError: the app has no such task.

    """
    try:
        return app.tasks[name.removeprefix(prefix)]
    except NotRegistered:
        known = ", ".join(celery_task_names(app)) or "none"
        raise TaskNotFoundError(f"the Celery app has no task for {name!r}; it has: {known}") from None


def celery_task_names(app: celery.Celery) -> list[str]:
    """Return the app's own tasks by the names that stages call them by, sorted."""
    return sorted(f"{PREFIX}{name}" for name in app.tasks if not name.startswith(_OURS))


class CeleryCall(Task):
    """Calls a Celery task with the stage's own context as keyword arguments.

    A returned mapping is the outputs, None no outputs, any other value the output `result`. `self.retry(...)` and
    `autoretry_for` come out as a transient failure with Celery's own pause and limit; nothing is published for it.
    """

    def __init__(self, task: celery.Task) -> None:
        self._task = task

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        # A running body sees upstream outputs in its context too; what a plain function is called with is its own.
        arguments = dict(getattr(stage.context, "own", stage.context))
        call = CallInStage(self._task, (), arguments)
        try:
            value = call.result(self._by_name)
        except Reject as error:
            return TaskResult.terminal(f"{call.request.task} rejected its message: {error.reason}")
        return TaskResult.success(_outputs(value))

    def _by_name(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments of a retry as keyword arguments. Raises PermanentError: one has no name."""
        given = inspect.signature(self._task.run).bind_partial(*args)
        if len(given.arguments) < len(args):
            told = f"{self._task.name} asked for a retry with other arguments: those of a stage need names, use kwargs="
            raise PermanentError(told)
        return {**given.arguments, **kwargs}


_Changed: TypeAlias = Callable[[Sequence[Any], Mapping[str, Any]], Mapping[str, Any]]


class CallInStage:
    """Calls a Celery task as its worker would, inside a stage's body, and what it puts in its place.

    The hooks of its class are called as Celery calls them (`before_start`, `on_success`, `on_failure`, `on_retry`,
    `after_return`); what they raise is logged, and changes nothing, but for `before_start`, whose error is the task's.

    `told`: further fields of its request.
    `is_final`: an error ends the task, also one that another try may help against.
    """

    def __init__(
        self,
        task: celery.Task,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        told: Mapping[str, Any] = MappingProxyType({}),
        *,
        is_final: bool = False,
    ) -> None:
        call = bound_call()
        self._task = task
        self._key = None if call is None else call.idempotency_key
        self._is_final = is_final
        self._nesting = 0
        retries = 0 if call is None else call.attempt - 1
        self._request = self._requested_of(task, args, kwargs, retries, told)

    @property
    def request(self) -> Context:
        """The request of the task that was called last: of the one that failed, if one has."""
        return Context(self._request)

    def result(self, changed: _Changed) -> Any:
        """Return what the task returns, or what took its place does (None if it was ignored).

        `changed` says what a stage's context is to have so that its next try has other arguments.

        Raises:
            TransientError: it asked for a retry, or put its message back.
            PermanentError: `autoretry_for` gave up, or it is an async function.
            Reject: it rejected its message for good.

        """
        try:
            return self._called(self._task)
        except Replaced as replaced:
            return Replacement(self._task.app, self._in_its_place, lambda: self.request).result(replaced.signature)
        except _RetryInStage as error:
            update = changed(*error.arguments) if error.arguments else {}
            after = _seconds(error.when)
            raise AskedAgainError(str(error), cause=error.exc, retry_after=after, context_update=update) from error

    def _in_its_place(
        self, task: celery.Task, args: Sequence[Any], kwargs: Mapping[str, Any], told: Mapping[str, Any]
    ) -> Any:
        """Call a task that was put in another one's place. It counts its own retries: they follow here, at once."""
        self._nesting += 1
        retries = 0
        while True:
            self._request = self._requested_of(task, args, kwargs, retries, told)
            try:
                return self._called(task)
            except _RetryInStage as error:
                args, kwargs = error.arguments or (args, kwargs)
            except AskedAgainError:
                pass
            retries += 1

    def _called(self, task: celery.Task) -> Any:
        """Call a task with the request at hand; its hooks have been told what came of it."""
        request = self._request
        args, kwargs = request["args"], request["kwargs"]
        twin = _in_stage(task)
        hooks = _Hooks(twin, request["id"], args, kwargs)
        with _requested(twin, request):
            try:
                returned = _returned(twin, args, kwargs, hooks)
            except _RetryInStage as error:
                hooks.retried(error.exc or error)
                raise
            except Replaced:
                raise
            except Ignore:
                return _ignored(task)
            except Reject as error:
                if error.requeue:
                    raise TransientError(f"{task.name} put its message back: {error.reason}", cause=error) from error
                raise
            except Exception as error:
                raise _failed(task, error, request["retries"], hooks, is_final=self._is_final) from error
            hooks.succeeded(returned)
            return returned

    def _requested_of(
        self,
        task: celery.Task,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        retries: int,
        told: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return what a task's `self.request` tells."""
        return {
            "delivery_info": {"priority": 0},
            **told,
            "task": task.name,
            "args": tuple(args),
            "kwargs": dict(kwargs),
            "id": self._key,
            "root_id": self._key,
            "correlation_id": self._key,
            "retries": retries,
            "replaced_task_nesting": self._nesting,
            "called_directly": False,
            "is_eager": False,
            "hostname": gethostname(),
        }


def _ignored(task: celery.Task) -> None:
    """Return what a task that ends with `Ignore` gives: nothing. Raises PermanentError: one that `map` calls did."""
    if task.name in _MAPS:
        raise PermanentError(
            f"a task that {task.name} calls was ignored, or put another in its place: then nothing has its result, "
            "in Celery neither. Call it in a group"
        )


def _failed(task: celery.Task, error: Exception, retries: int, hooks: "_Hooks", *, is_final: bool) -> Exception:
    """Return what an error of the task's code means; its hooks have been told."""
    if isinstance(error, _BeforeStart):
        hooks.failed(error.raised)
        return error.raised
    meant = _retried(task, error, retries)
    if isinstance(meant, TransientError) or (meant is error and not is_final and is_transient(error)):
        hooks.retried(error)
    else:
        hooks.failed(error)
    return meant


def _returned(twin: celery.Task, args: Sequence[Any], kwargs: Mapping[str, Any], hooks: "_Hooks") -> Any:
    hooks.begin()
    returned = (twin if task_has_custom(twin, "__call__") else twin.run)(*args, **kwargs)
    _refuse_coroutine(twin, returned)
    return returned


def _refuse_coroutine(task: celery.Task, returned: Any) -> None:
    if not inspect.iscoroutine(returned):
        return
    returned.close()
    raise PermanentError(
        f"Celery task {task.name} is an async function: called, it gives a coroutine that nobody awaits, neither here "
        "nor in Celery itself, and none of its code has run. Make it a plain function that does its work with "
        "asyncio.run(...)"
    )


@contextmanager
def _requested(twin: celery.Task, request: Mapping[str, Any]) -> Iterator[None]:
    """Let the task see its request, and `current_task` be it, as `Task.__call__` does."""
    twin.push_request(**request)
    celery._state._task_stack.push(twin)  # noqa: SLF001 -- `current_task` reads it
    try:
        yield
    finally:
        celery._state._task_stack.pop()  # noqa: SLF001
        twin.pop_request()


class _BeforeStart(Exception):  # noqa: N818 - it carries an error
    """What `before_start` raised: `autoretry_for` is not about that."""

    def __init__(self, raised: Exception) -> None:
        super().__init__(str(raised))
        self.raised = raised


class _Hooks:
    """The hooks of a task's class, for one call; those that it has not are Celery's own, and do nothing."""

    def __init__(self, twin: celery.Task, task_id: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._twin = twin
        self._about = (task_id, tuple(args), dict(kwargs))

    def begin(self) -> None:
        """Call `before_start`. Raises _BeforeStart."""
        if not task_has_custom(self._twin, "before_start"):
            return
        try:
            self._twin.before_start(*self._about)
        except (Ignore, Reject, Retry):
            raise
        except Exception as error:
            raise _BeforeStart(error) from error

    def succeeded(self, returned: Any) -> None:
        """Tell what it has returned."""
        self._tell("on_success", returned, *self._about)
        self._tell("after_return", states.SUCCESS, returned, *self._about, None)

    def failed(self, error: Exception) -> None:
        """Tell that an error has ended it."""
        self._tell("on_failure", error, *self._about, _exception_info(error))
        self._tell("after_return", states.FAILURE, error, *self._about, None)

    def retried(self, error: Exception) -> None:
        """Tell that it is tried again."""
        self._tell("on_retry", error, *self._about, _exception_info(error))

    def _tell(self, name: str, *told: Any) -> None:
        if not task_has_custom(self._twin, name):
            return
        try:
            getattr(self._twin, name)(*told)
        except Exception:
            logger.exception("%s of task %s failed", name, self._twin.name)


def _exception_info(error: Exception) -> ExceptionInfo:
    """Return what Celery tells hooks of an error; one that was only named has the place where that was done."""
    return ExceptionInfo((type(error), error, error.__traceback__ or sys.exc_info()[2]))


def _retried(task: celery.Task, error: Exception, retries: int) -> Exception:
    """Return what `autoretry_for` makes of an error."""
    again = tuple(getattr(task, "autoretry_for", ()) or ())
    never = tuple(getattr(task, "dont_autoretry_for", ()) or ())
    if not isinstance(error, again) or isinstance(error, (*never, MaxRetriesExceededError)):
        return error
    options = dict(getattr(task, "retry_kwargs", {}) or {})
    limit = options.get("max_retries", task.max_retries)
    if limit is not None and retries >= limit:
        return FinalError(error, f" (given up after {retries} retries)")
    return AskedAgainError(str(error), cause=error, retry_after=_pause_s(task, options, retries))


def _pause_s(task: celery.Task, options: Mapping[str, Any], retries: int) -> float:
    factor = int(getattr(task, "retry_backoff", 0) or 0)
    if not factor:
        return float(options.get("countdown", task.default_retry_delay))
    longest = int(getattr(task, "retry_backoff_max", 600))
    jitter = bool(getattr(task, "retry_jitter", True))
    return float(get_exponential_backoff_interval(factor, retries, longest, jitter))


class _RetryInStage(Retry):
    """A retry, with the arguments that it is to have if they are others."""

    arguments: tuple[Sequence[Any], Mapping[str, Any]] | None = None


class _InStage:
    """Stands before a task's class: retries and replacements are the stage's: nothing is published for them."""

    max_retries: int | None
    default_retry_delay: float
    request: Any

    def replace(self, sig: Signature) -> None:
        """End the task: the signature that takes its place is executed next, here. So no result backend is asked.

        Raises:
            Replaced: always, but for an empty chain, which is ImproperlyConfigured, as in Celery.

        """
        if isinstance(sig, Chain) and not sig.tasks:
            raise ImproperlyConfigured("Cannot replace with an empty chain")
        raise Replaced(sig)

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: Exception | None = None,
        throw: bool = True,  # noqa: ARG002
        eta: dt.datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **_: object,
    ) -> None:
        """Raise `Retry`, or the error itself once there were `max_retries`."""
        limit = self.max_retries if max_retries is None else max_retries
        if limit is not None and self.request.retries >= limit:
            raise exc or MaxRetriesExceededError(f"gave up after {self.request.retries} retries")
        pause = self.default_retry_delay if countdown is None else countdown
        again = _RetryInStage(exc=exc, when=eta or pause)
        if args is not None or kwargs is not None:
            request = self.request
            again.arguments = (request.args if args is None else args, request.kwargs if kwargs is None else kwargs)
        raise again from exc


_TWINS: "WeakKeyDictionary[celery.Task, celery.Task]" = WeakKeyDictionary()


def _in_stage(task: celery.Task) -> celery.Task:
    """Return the task with other methods and the same state: what it keeps for its process (a connection) stays."""
    twin = _TWINS.get(task)
    if twin is None:
        kind: Any = type(task)
        # autoretry_for replaces `run` on the instance by a wrapper that would publish: the plain one is the class's,
        # and only a property of the class goes before what the instance has.
        plain = property(lambda self: super(twin_class, self).run)
        twin_class: Any = type(kind.__name__, (_InStage, kind), {"__module__": kind.__module__, "run": plain})
        twin = twin_class.__new__(twin_class)
        twin.__dict__ = vars(task)
        _TWINS[task] = twin
    return twin


def celery_task_options(task: celery.Task) -> TaskOptions:
    """Return how a Celery task is executed as a stage's task: its time limits are those of one execution."""
    limits = [limit for limit in (task.time_limit, task.soft_time_limit) if limit]
    return TaskOptions(timeout_s=float(min(limits)) if limits else None)


def _seconds(when: float | dt.datetime | None) -> float | None:
    if isinstance(when, dt.datetime):
        return max(0.0, (when - dt.datetime.now(when.tzinfo)).total_seconds())
    return when


def _outputs(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    return dict(value) if isinstance(value, Mapping) else {"result": value}
