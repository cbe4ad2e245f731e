"""The tasks that a worker knows by name: the only way from a name in a definition to code."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from typing_extensions import Unpack

from stabilize_celery.errors import ConfigurationError, TaskNotFoundError
from stabilize_celery.models.problems import Suggester
from stabilize_celery.tasks.approval import ApprovalTask
from stabilize_celery.tasks.builders import SHARED as SHARED_BUILDERS
from stabilize_celery.tasks.builders import StageDefinitionBuilder, StageDefinitionBuilderFactory
from stabilize_celery.tasks.finalizers import FinalizerRegistry
from stabilize_celery.tasks.http import HTTPTask
from stabilize_celery.tasks.jump import JumpTask
from stabilize_celery.tasks.options import OptionFields, TaskOptions
from stabilize_celery.tasks.python import PythonTask
from stabilize_celery.tasks.shell import ShellTask
from stabilize_celery.tasks.sub_workflow import SubWorkflowTask
from stabilize_celery.tasks.task import Task
from stabilize_celery.tasks.variants import CallableTask, NoOpTask, TaskFunction
from stabilize_celery.tasks.verification import SHARED, Verifier, VerifierFunction, VerifierRegistry
from stabilize_celery.tasks.wait import WaitTask

__all__ = ["TaskImplementation", "TaskRegistry", "TaskResolver"]

TaskImplementation: TypeAlias = Task | type[Task] | TaskFunction
TaskResolver: TypeAlias = Callable[[str], Task]
"""Takes the whole name, prefix included; raises `TaskNotFoundError` where there is no such task."""
OptionsOf: TypeAlias = Callable[[str], TaskOptions]
"""Takes the whole name of a task that there is."""

_Registered = TypeVar("_Registered", bound=TaskImplementation)
_RegisteredCheck = TypeVar("_RegisteredCheck", bound=VerifierFunction)

_READY_MADE: Mapping[str, type[Task]] = {
    "shell": ShellTask,
    "http": HTTPTask,
    "python": PythonTask,
    "wait": WaitTask,
    "approval": ApprovalTask,
    "sub_workflow": SubWorkflowTask,
    "jump": JumpTask,
    "noop": NoOpTask,
}
_DEFAULT_OPTIONS = TaskOptions()


@dataclass(frozen=True, slots=True)
class _Entry:
    """One registration: how to get the task, and the class it was registered by."""

    make: Callable[[], Task]
    known_class: type
    options: TaskOptions = _DEFAULT_OPTIONS


class TaskRegistry:
    """Names of tasks, their options, and the finalizers, verifiers and stage builders that go with them.

    Args:
        ready_made: Know the tasks that come with the package, too.

    """

    def __init__(self, *, ready_made: bool = True) -> None:
        self.builders = StageDefinitionBuilderFactory(shared=SHARED_BUILDERS)
        self.finalizers = FinalizerRegistry()
        self.verifiers = VerifierRegistry(SHARED)
        self._entries: dict[str, _Entry] = {}
        self._aliases: dict[str, str] = {}
        self._resolvers: dict[str, tuple[TaskResolver, OptionsOf]] = {}
        if ready_made:
            self._entries.update((name, _Entry(kind, kind)) for name, kind in _READY_MADE.items())

    def register(
        self,
        name: str,
        task: TaskImplementation,
        aliases: Sequence[str] | None = None,
        strict: bool = False,
        *,
        options: TaskOptions | None = None,
    ) -> None:
        """Make a task class (made anew for each use, without arguments), an instance, or a function known as `name`.

        A class or an instance is also known by its own `aliases`.

        Raises:
            ConfigurationError: the name or an alias is empty or has the prefix of a resolver.
            ValueError: with `strict`, the name is taken; otherwise the later registration wins.
            TypeError: `task` is none of the three, or async.

        """
        entry = _entry(name, task, options or _DEFAULT_OPTIONS)
        names = (name, *(aliases or ()), *_own_aliases(task))
        for one in names:
            self._check_name(one, strict=strict)
        for one in names:
            self.unregister(one)
        self._entries[name] = entry
        self._aliases.update(dict.fromkeys(names[1:], name))

    def register_class(self, task_class: type[Task], name: str | None = None) -> None:
        """Make a task class known as `name` (default: the class's name), and by its own `aliases`."""
        self.register(name or task_class.__name__, task_class)

    def task(
        self,
        name: str,
        aliases: Sequence[str] | None = None,
        *,
        options: TaskOptions | None = None,
        **fields: Unpack[OptionFields],
    ) -> Callable[[_Registered], _Registered]:
        """Return a decorator that registers a function or Task class; give `options`, or their fields by name.

        Raises:
            ConfigurationError: both `options` and fields are given, a field is out of its range, or there is no name.

        """
        if not isinstance(name, str):
            raise ConfigurationError(
                f"a task needs a name: write @….task('name'), with what it is registered as, not {name!r}"
            )
        if options is not None and fields:
            raise ConfigurationError(f"task {name!r}: give options=..., or {', '.join(fields)}, not both")
        chosen = options or TaskOptions(**fields)  # type: ignore[arg-type]  # it makes a tuple of `retry_on`

        def decorate(implementation: _Registered) -> _Registered:
            self.register(name, implementation, aliases, options=chosen)
            return implementation

        return decorate

    def unregister(self, name: str) -> None:
        """Forget a name with its aliases, or an alias; nothing happens where it is not known."""
        self._entries.pop(name, None)
        self._aliases = {alias: known for alias, known in self._aliases.items() if name not in (alias, known)}

    def clear(self) -> None:
        """Forget all tasks, the ready-made ones too; resolvers, builders, finalizers and verifiers stay."""
        self._entries.clear()
        self._aliases.clear()

    def add_resolver(
        self, prefix: str, resolver: TaskResolver, options: TaskOptions | OptionsOf = _DEFAULT_OPTIONS
    ) -> None:
        """Let `resolver` answer for every name that begins with `prefix`, such as `celery:`.

        `options`: of all of them, or a function that returns those of a whole name that the resolver knows.
        """
        if not prefix:
            raise ConfigurationError("a resolver needs a prefix, such as 'celery:'")
        self._resolvers[prefix] = (resolver, (lambda _: options) if isinstance(options, TaskOptions) else options)

    def get(self, name: str) -> Task:
        """Return the task known as `name`.

        Raises:
            TaskNotFoundError: there is none; the text has similar names.

        """
        entry = self._entry_of(name)
        if entry is not None:
            return entry.make()
        found = self._resolver(name)
        if found is None:
            raise self._not_found(name)
        return found[0](name)

    def get_by_class(self, class_name: str) -> Task:
        """Return the task whose class is called `class_name`, by its bare or its full dotted name.

        Raises:
            TaskNotFoundError: no such class is registered.

        """
        for entry in self._entries.values():
            known = entry.known_class
            if class_name in (known.__name__, f"{known.__module__}.{known.__qualname__}"):
                return entry.make()
        raise self._not_found(class_name)

    def has(self, name: str) -> bool:
        """Return whether `get` would find a task."""
        if self._entry_of(name) is not None:
            return True
        found = self._resolver(name)
        if found is None:
            return False
        try:
            found[0](name)
        except TaskNotFoundError:
            return False
        return True

    def options(self, name: str) -> TaskOptions:
        """Return how the task known as `name` is executed.

        Raises:
            TaskNotFoundError: there is no such task.

        """
        entry = self._entry_of(name)
        if entry is not None:
            return entry.options
        found = self._resolver(name)
        if found is None or not self.has(name):
            raise self._not_found(name)
        return found[1](name)

    def names(self) -> tuple[str, ...]:
        """Return every name and alias, sorted; not those that resolvers would answer for."""
        return tuple(sorted({*self._entries, *self._aliases}))

    def list_tasks(self) -> list[str]:
        """Return `names` as a list."""
        return list(self.names())

    def register_builder(self, builder: StageDefinitionBuilder) -> None:
        """Make a stage builder known, as `builders.register` does."""
        self.builders.register(builder)

    def get_builder(self, stage_type: str) -> StageDefinitionBuilder:
        """Return the builder for a stage type, as `builders.get` does."""
        return self.builders.get(stage_type)

    def register_verifier(self, name: str, verifier: Verifier | VerifierFunction) -> None:
        """Make a verifier known, as `verifiers.register` does."""
        self.verifiers.register(name, verifier)

    def get_verifier(self, name: str) -> Verifier:
        """Return the verifier known as `name`, as `verifiers.get` does."""
        return self.verifiers.get(name)

    def verifier(self, name: str) -> Callable[[_RegisteredCheck], _RegisteredCheck]:
        """Return a decorator that registers a function as a verifier."""

        def decorate(function: _RegisteredCheck) -> _RegisteredCheck:
            self.verifiers.register(name, function)
            return function

        return decorate

    def _entry_of(self, name: str) -> _Entry | None:
        return self._entries.get(name) or self._entries.get(self._aliases.get(name, ""))

    def _resolver(self, name: str) -> tuple[TaskResolver, OptionsOf] | None:
        for prefix, found in self._resolvers.items():
            if name.startswith(prefix):
                return found
        return None

    def _check_name(self, name: str, *, strict: bool) -> None:
        if not isinstance(name, str) or not name:  # type: ignore[redundant-expr]  # users' code is not checked
            raise ConfigurationError(f"a task needs a name, a text that is not empty, not {name!r}")
        if self._resolver(name) is not None:
            raise ConfigurationError(f"task {name!r}: names that begin like this are resolved, not registered")
        if strict and self.has(name):
            raise ValueError(f"task {name!r} is registered already")

    def _not_found(self, name: str) -> TaskNotFoundError:
        hint = Suggester(self.names()).suggest(name)
        known = ", ".join(self.names()) or "none"
        return TaskNotFoundError(f"no task {name!r} is registered on this worker{hint}; known are: {known}")


def _own_aliases(task: TaskImplementation) -> Sequence[str]:
    """Return those that a task has; a class is asked by making one, so only where it says something of its own."""
    kind = task if isinstance(task, type) else type(task)
    if not issubclass(kind, Task) or kind.aliases is Task.aliases:
        return ()
    made = task() if isinstance(task, type) else task
    return made.aliases if isinstance(made, Task) else ()


def _entry(name: str, task: TaskImplementation, options: TaskOptions) -> _Entry:
    if inspect.iscoroutinefunction(getattr(task, "execute", task)):
        raise TypeError(
            f"task {name!r}: {getattr(task, '__qualname__', task)} is an async function; tasks are plain functions. "
            "Let one call asyncio.run() itself"
        )
    if isinstance(task, Task):
        return _Entry(lambda: task, type(task), options)
    if isinstance(task, type):
        if issubclass(task, Task):
            return _Entry(task, task, options)
    elif callable(task):
        wrapped = CallableTask(task, name)
        return _Entry(lambda: wrapped, CallableTask, options)
    raise TypeError(f"task {name!r}: register a Task class, a Task instance, or a function, not {task!r}")
