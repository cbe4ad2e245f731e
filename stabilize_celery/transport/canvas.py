"""A Celery canvas as a workflow: signatures become stages, and what one hands to the next becomes requisites.

What a signature means is Celery's: chains hand on results as first arguments, groups of one member in a chain are that
member, groups in groups are one group, immutable signatures take nothing. tests/integration/test_canvas.py holds each
against Celery itself.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import celery
from celery.canvas import Signature, group
from celery.canvas import _chain as Chain  # noqa: N812 -- the classes; `chain` and `chord` are functions
from celery.canvas import _chord as Chord  # noqa: N812

from stabilize_celery.models.canvas import TRIGGER, Value, refs_in
from stabilize_celery.models.limits import MAX_TIME_MS
from stabilize_celery.models.problems import Problem, refusal
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.trigger import Trigger
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.transport.canvas_call import PREFIX
from stabilize_celery.transport.canvas_parts import chain_steps, group_members, group_of_chunks, listed, told_by_message
from stabilize_celery.transport.canvas_values import plain

__all__ = ["CanvasSignature", "canvas_workflow"]

CanvasSignature: TypeAlias = Signature
"""A task signature, chain, group, chord, chunks, map or starmap."""

_MAPPED = frozenset({"link", "link_error", "countdown", "eta", "headers", "priority", "shadow", "stamped_headers"})
# fmt: off
_WITHOUT_EFFECT = frozenset({
    "add_to_parent", "app", "chain", "chord", "chord_size", "compression", "connection", "group_id", "group_index",
    "ignore_result", "parent_id", "producer", "reply_to", "retry", "retry_policy", "root_id", "serializer", "task_id",
    "use_link",
})
# fmt: on
"""Options that say how Celery carries messages; they change no result."""
_ADVICE = {
    "queue": "route its stage by STABILIZE_TASK_QUEUES=canvas:<task>=<queue>",
    "expires": "give the workflow a timeout_ms, or check the time in the task",
    "time_limit": "set it on the task itself: @app.task(time_limit=…)",
    "soft_time_limit": "set it on the task itself: @app.task(soft_time_limit=…)",
}
_NAMED_TASKS = 3
_NEEDED = frozenset({"task", "args", "kwargs", "options"})
_PARTS = _NEEDED | {"subtask_type", "immutable"}
"""What a signature has, also as the dict that it travels as."""
_SHOWN = 100
"""How much of a wrong value is shown (characters)."""


@dataclass(frozen=True)
class _Incoming:
    """What reaches a step: the result before it, the stages that must be over, and arguments given at the start."""

    value: Value | None = None
    after: tuple[str, ...] = ()
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    delay: Mapping[str, Any] = field(default_factory=dict)


def canvas_workflow(
    app: celery.Celery,
    signature: Signature,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str = "",
) -> Workflow:
    """Return the workflow that does what `signature.apply_async(args, kwargs)` does.

    Raises:
        TypeError: it is no signature, or the arguments are none.
        InvalidWorkflowError: names each part, by its place, that has no counterpart.

    """
    _check_call(signature, args, kwargs)
    translation = _Translation(app)
    start = _Incoming(args=tuple(args), kwargs=dict(kwargs or {}))
    value = translation.translate(signature, start, _kind(signature))
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list) and isinstance(signature, group):
        value = value[0]  # a group of one chain that ends in a group has that group's results: so in Celery
    if not translation.stages:  # a group of none: its result is [], as in Celery
        nothing = TaskExecution.create("nothing", "noop")
        translation.stages.append(StageExecution(ref_id="nothing", name="nothing", tasks=[nothing]))
    if translation.problems:
        raise refusal(translation.problems, name)
    return Workflow(
        application=app.main or "celery",
        name=name or _name_of(signature, translation.stages),
        stages=translation.stages,
        trigger=Trigger(type=TRIGGER, payload={"result": value}),
    )


class _Translation:
    """One canvas at work: the stages so far, and what can't be one."""

    def __init__(self, app: celery.Celery) -> None:
        self.stages: list[StageExecution] = []
        self.problems: list[Problem] = []
        self._app = app
        self._used: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._aside = False
        """Whether this is a callback, whose failure Celery does not tell anybody."""

    def translate(
        self,
        given: Any,
        incoming: _Incoming,
        place: str,
        errbacks: tuple[Any, ...] = (),
        of_join: tuple[Any, ...] = (),
    ) -> Value:
        """Add a signature's stages; return what its result is made of.

        `of_join`: errbacks of what waits for all members of this group, or of this chord's header; they call them, too.
        """
        sig = self._app.signature(given)
        if lacking := _lacking(sig):
            self.problems.append(Problem(place, f"a signature lacks {', '.join(lacking)}"))
            return []
        self._check(sig, place)
        errbacks = (*errbacks, *listed(sig.options.get("link_error")))
        delay = {key: sig.options[key] for key in ("countdown", "eta") if sig.options.get(key) is not None}
        incoming = replace(incoming, delay={**delay, **incoming.delay})
        value = self._translated(sig, incoming, place, errbacks, of_join)
        for number, callback in enumerate(listed(sig.options.get("link"))):
            self._add_callback(callback, value, f"{place}.link[{number}]")
        return value

    def _translated(
        self, sig: Signature, incoming: _Incoming, place: str, errbacks: tuple[Any, ...], of_join: tuple[Any, ...]
    ) -> Value:
        if isinstance(sig, Chain):
            return self._chain(sig, incoming, place, errbacks)
        if sig.task == "celery.chunks":
            return self._group(group_of_chunks(self._app, sig), incoming, place, errbacks)
        if isinstance(sig, group):
            return self._group(sig, incoming, place, (*errbacks, *of_join))
        if isinstance(sig, Chord):
            return self._chord(sig, incoming, place, errbacks, of_join)
        return self._task(sig, incoming, place, errbacks)

    def _chain(self, sig: Chain, incoming: _Incoming, place: str, errbacks: tuple[Any, ...]) -> Value:
        value: Value = []
        steps = list(chain_steps(self._app, sig))
        for number, (step, where) in enumerate(steps):
            following = steps[number + 1][0] if number + 1 < len(steps) else None
            value = self.translate(step, incoming, f"{place}{where}", errbacks, self._errbacks_of_join(step, following))
            incoming = _Incoming(value, tuple(refs_in(value)) or incoming.after)
        return value

    def _errbacks_of_join(self, step: Signature, following: Signature | None) -> tuple[Any, ...]:
        """Return the errbacks of what a chain's step makes a chord with, beyond those of a chord's body as a whole.

        In a chain, and only there, Celery takes a group and what follows it for a chord, and a chord whose body is a
        chain for a chord with that chain's first task.
        """
        if isinstance(step, group) and following is not None:
            return self._errbacks_of_body(following)
        if isinstance(step, Chord) and isinstance(body := self._app.signature(step.body), Chain) and body.tasks:
            first = self._app.signature(body.tasks[0])
            return () if isinstance(first, group) else self._errbacks_of_body(first)
        return ()

    def _errbacks_of_body(self, given: Any) -> tuple[Any, ...]:
        """Return what Celery calls of a chord's body when its header fails: for a group, of each member's result."""
        sig = self._app.signature(given)
        errbacks = listed(sig.options.get("link_error"))
        if isinstance(sig, group):
            for member in group_members(self._app, sig):
                errbacks += self._errbacks_of_body(member)
                if isinstance(member, Chord) and member.body is not None:
                    errbacks += self._errbacks_of_body(member.body)
        return tuple(errbacks)

    def _group(self, sig: group, incoming: _Incoming, place: str, errbacks: tuple[Any, ...]) -> Value:
        return [
            self.translate(one, incoming, f"{place}[{number}]", errbacks)
            for number, one in enumerate(group_members(self._app, sig))
        ]

    def _chord(
        self, sig: Chord, incoming: _Incoming, place: str, errbacks: tuple[Any, ...], of_join: tuple[Any, ...]
    ) -> Value:
        header, body = sig.tasks, sig.body
        if body is None:
            self.problems.append(Problem(place, "a chord without a body: use a group"))
            return []
        incoming = replace(incoming, args=(*(() if sig.immutable else incoming.args), *sig.args))
        told = (*errbacks, *self._errbacks_of_body(body), *of_join)
        header = header if isinstance(header, group) else group(list(header), app=self._app)
        value = self._group(header, incoming, f"{place}.header", told)
        after = tuple(refs_in(value)) or incoming.after
        return self.translate(body, _Incoming(value, after), f"{place}.body", errbacks)

    def _task(self, sig: Signature, incoming: _Incoming, place: str, errbacks: tuple[Any, ...]) -> Value:
        name, ref_id = str(sig.task), self._ref_id(str(sig.task))
        takes = not sig.immutable
        args = [*(incoming.args if takes else ()), *sig.args]
        kwargs = {**sig.kwargs, **(incoming.kwargs if takes else {})}
        context: dict[str, Any] = {"args": self._plain(args, place), "kwargs": self._plain(kwargs, place)}
        if told := told_by_message(sig.options):
            context["request"] = self._plain(told, place)
        if takes and incoming.value is not None:
            context["input"] = incoming.value
        if chosen := _distinct(errbacks):
            self._check_errbacks(chosen, place)
            context["errbacks"] = self._plain(chosen, f"{place}.link_error")
        context["continuePipelineOnFailure" if self._aside else "allowSiblingStagesToContinueOnFailure"] = True
        stage = StageExecution(ref_id=ref_id, type="canvas", name=name[:200], context=context)
        stage.requisite_stage_ref_ids = set(incoming.after)
        stage.tasks = [TaskExecution.create(name[:200], f"{PREFIX}{name}")]
        self._delay(stage, incoming.delay, place)
        self.stages.append(stage)
        return ref_id

    def _plain(self, arguments: Any, place: str) -> Any:
        try:
            return plain(arguments)
        except TypeError as error:
            self.problems.append(Problem(place, f"an argument or header: {error}"))
            return arguments

    def _delay(self, stage: StageExecution, delay: Mapping[str, Any], place: str) -> None:
        try:
            if delay.get("countdown") is not None:
                stage.context["seconds"] = _seconds(delay["countdown"])
                stage.tasks.insert(0, TaskExecution.create("countdown", "wait"))
            elif delay.get("eta") is not None:
                stage.scheduled_time = _epoch_ms(delay["eta"])
        except ValueError as error:
            self.problems.append(Problem(place, str(error)))

    def _ref_id(self, name: str) -> str:
        short = name.rsplit(".", 1)[-1][:150] or "task"
        ref_id, number = short, self._numbers.get(short, 1)
        while ref_id in self._used:  # also by a task that is called like the second stage of another one
            number += 1
            ref_id = f"{short}-{number}"
        self._numbers[short] = number
        self._used.add(ref_id)
        return ref_id

    def _add_callback(self, callback: Any, value: Value, place: str) -> None:
        outer, self._aside = self._aside, True
        self.translate(callback, _Incoming(value, tuple(refs_in(value))), place)
        self._aside = outer

    def _check(self, sig: Signature, place: str) -> None:
        stamps = set(sig.options.get("stamped_headers") or ())
        for option in sorted(set(sig.options) - _MAPPED - _WITHOUT_EFFECT - stamps):
            if sig.options[option] is not None:
                hint = _ADVICE.get(option, "leave it out")
                self.problems.append(Problem(place, f"the option {option!r} has no counterpart here: {hint}"))

    def _check_errbacks(self, errbacks: Iterable[Any], place: str) -> None:
        for errback in errbacks:
            if isinstance(self._app.signature(errback), group | Chain | Chord):
                told = "an errback must be one task: it is called in the process of the task that failed"
                self.problems.append(Problem(f"{place}.link_error", told))


def _distinct(errbacks: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for errback in errbacks:
        if errback not in found:
            found.append(errback)
    return found


def _check_call(signature: object, args: object, kwargs: object) -> None:
    if not isinstance(signature, Mapping):
        what = "a task" if isinstance(signature, celery.Task) else repr(signature)[:_SHOWN]
        told = "; a list of them is group([...])" if isinstance(signature, list | tuple) else ""
        raise TypeError(f"expected a signature, such as add.s(1, 2), not {what}{told}")
    if lacking := _lacking(signature):
        told = "expected a signature, such as add.s(1, 2), or a dict with all that one has"
        raise TypeError(f"{told}; this lacks {', '.join(lacking)}")
    if not isinstance(args, list | tuple):
        raise TypeError(f"args must be a list or tuple, not {repr(args)[:_SHOWN]}")
    if not isinstance(kwargs, Mapping | None):
        raise TypeError(f"kwargs must be a mapping, not {repr(kwargs)[:_SHOWN]}")


def _lacking(signature: Mapping[str, Any]) -> list[str]:
    """Return what a signature has not; Celery has put None there for members of a group."""
    return sorted(key for key in _PARTS if key not in signature or (signature[key] is None and key in _NEEDED))


def _seconds(countdown: object) -> float:
    """Return a pause, none below 0. Raises ValueError."""
    # `not … <=`: NaN is less than nothing.
    if not isinstance(countdown, int | float) or not countdown <= MAX_TIME_MS / 1000:
        raise ValueError(f"the countdown must be a number of seconds, not {repr(countdown)[:_SHOWN]}")
    return max(0.0, float(countdown))


def _epoch_ms(eta: object) -> int:
    """Return a time. Raises ValueError: it is none."""
    try:
        when = dt.datetime.fromisoformat(eta) if isinstance(eta, str) else eta
        if isinstance(when, dt.datetime):
            return round((when if when.tzinfo else when.replace(tzinfo=dt.UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"the eta must be a datetime, or its ISO text, not {repr(eta)[:_SHOWN]}")


def _kind(sig: Signature) -> str:
    return str(sig.get("subtask_type") or "task")


def _name_of(sig: Signature, stages: Sequence[StageExecution]) -> str:
    names = list(dict.fromkeys(stage.name.rsplit(".", 1)[-1] for stage in stages))
    told = ", ".join(names[:_NAMED_TASKS]) + (" …" if len(names) > _NAMED_TASKS else "")
    return told if _kind(sig) == "task" else f"{_kind(sig)} of {told}"[:200]
