"""What of a program changes: one written for `stabilize`, or one with a Celery canvas. Reads it, never runs it."""

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module

from stabilize_celery.compat.gone import GONE_MODULES, advice
from stabilize_celery.errors import ConfigurationError
from stabilize_celery.models.expressions import check_expression
from stabilize_celery.models.stage.engine_keys import ENGINE_CONTEXT_KEYS

__all__ = ["CHANGE", "LOOK", "MISSING", "Finding", "check_source"]

CHANGE, LOOK, MISSING = "change", "look", "missing"
"""Another line does the same; it works and differs in something; there is no counterpart."""

_OLD = "stabilize"
_NEW = "stabilize_celery"
_COMPAT = f"{_NEW}.compat"
_HOMES = (_NEW, _COMPAT)
_RENAMED = {
    "SqliteWorkflowStore": "RedisWorkflowStore(url): redis://…, or memory:// in one process",
    "PostgresWorkflowStore": "RedisWorkflowStore(url)",
    "SqliteQueue": "CeleryQueue(app or url)",
    "PostgresQueue": "CeleryQueue(app or url)",
    "InMemoryQueue": "CeleryQueue()",
    "SqliteEventStore": "RedisEventStore(url): the history is kept anyway, read it by handle.events()",
    "PostgresEventStore": "RedisEventStore(url): the history is kept anyway, read it by handle.events()",
}
_OWN_TOKENS = "it knows tokens that the program registers itself; a workflow's task is cancelled with its stage"
_REMOVES = "it takes away the threads that are there; the workflow may end SUCCEEDED"
_DIFFERENT = {
    "CancelRegion": _REMOVES,
    "CancelStage": _REMOVES,
    "cancel_task": _OWN_TOKENS,
    "get_token": _OWN_TOKENS,
}
_METHODS = {
    "register_handler": (LOOK, "upstream's own handlers are stand-ins; one of your own is refused"),
    "replace_handler": (LOOK, "upstream's own handlers are stand-ins; one of your own is refused"),
    "register_handler_func": (MISSING, "handlers can't be replaced: the engine's decisions are one whole"),
    "process_one": (LOOK, "handles one message, in an order of its own: process_all() runs to the end"),
    "jump_to": (
        LOOK,
        "declare jump_targets on the stage (a QueueProcessor reads it off the task's code); nothing is reset",
    ),
    "canceled": (LOOK, "ends its stage only: the workflow may end SUCCEEDED"),
    "_create_table": (LOOK, "does nothing here; leave it out"),
    "replace": (LOOK, "in a step of a canvas the new signature is executed inside the step"),
    "add_to_chord": (MISSING, "a canvas is whole when it is started; for work found later use instances"),
}
_ARGUMENTS = {
    "deferred_choice_group": "nothing is chosen before somebody chooses, or a time is up",
    "milestone_ref_id": "once the milestone has passed, what only follows the stage is SKIPPED, too",
}
_ENGINE_KEYS = ENGINE_CONTEXT_KEYS - {
    "_jump_count",
    "_jump_history",
    "_max_jumps",
    "_mi_instance_index",
    "_mi_parent_ref_id",
    "_signal_data",
    "_signal_name",
    "_sub_workflow_config",
    "_sub_workflow_id",
}
_OF_TASKS = frozenset({"replace", "add_to_chord"})
_CANVAS = frozenset({"chain", "group", "chord", "chunks", "xmap", "xstarmap"})
_SENDS = frozenset({"apply_async", "delay"})
_OPTIONS = {
    "expires": "no counterpart: give the workflow a timeout_ms, or check the time in the task",
    "queue": "route the task's stage by STABILIZE_TASK_QUEUES=canvas:<task>=<queue>",
    "time_limit": "no counterpart: limit the time inside the task",
    "soft_time_limit": "no counterpart: limit the time inside the task",
}

_ON_THE_CANVAS = {
    "countdown": "canvas.set(countdown=…)",
    "eta": "canvas.set(eta=…)",
    "link": "canvas.link(…)",
    "link_error": "canvas.on_error(…)",
}


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing to know about a line (from 1)."""

    line: int
    kind: str
    what: str
    todo: str

    def __str__(self) -> str:
        return f"line {self.line:<4} {self.kind:<8} {self.what}: {self.todo}"


def check_source(source: str | bytes, name: str) -> list[Finding]:
    """Return what of a program changes, in the order of its lines.

    Args:
        source: As Python reads it: bytes may begin with a mark of their encoding, or name it.
        name: Of the file, for errors.

    Raises:
        ConfigurationError: it is no Python; the text says where.

    """
    reader = _Reader()
    try:
        reader.visit(ast.parse(source))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise ConfigurationError(f"{name}, line {line}: this is not readable Python: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{name}: an expression is nested too deeply to be read") from None
    return sorted(set(reader.findings))


class _Reader(ast.NodeVisitor):
    """Walks a program once; imports come before what they are used for."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._is_old = False
        self._modules: dict[str, str] = {}
        """Upstream's modules, by the names that the program has for them."""
        self._celery: set[str] = set()
        """Names of the module `celery`."""
        self._makers: set[str] = set()
        """Names of the functions that make a canvas."""
        self._canvas: set[str] = set()
        """Variables that one was put into, as far as this function goes."""

    def visit_Import(self, node: ast.Import) -> None:
        """`import stabilize.x`, `import celery`."""
        for one in node.names:
            if _is_of(one.name, "celery"):
                self._celery.add(one.asname or "celery")
            if _is_of(one.name, _OLD):
                self._is_old = True
                self._modules[one.asname or _OLD] = one.name if one.asname else _OLD
                self._tell(node, *_moved_module(one.name))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """`from stabilize.x import y`, `from celery import chain`."""
        module = node.module or ""
        if node.level == 0 and _is_of(module, _OLD):
            self._is_old = True
            for one in node.names:
                self.findings.append(Finding(one.lineno, *_moved(module, one.name)))
        elif node.level == 0 and _is_of(module, "celery"):
            self._makers |= {one.asname or one.name for one in node.names if one.name in _CANVAS}

    def visit_Constant(self, node: ast.Constant) -> None:
        """`stage.context["_join_fired"]`: what upstream's engine kept there."""
        if self._is_old and isinstance(node.value, str) and node.value in _ENGINE_KEYS:
            self._tell(node, MISSING, f'"{node.value}"', "the engine keeps nothing in contexts: see handle.why()")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """`st.Workflow`, `stabilize.queue.SqliteQueue`: a name that is used through its module."""
        module = self._module(node.value)
        if module is None:
            self.generic_visit(node)
        elif not _is_upstream_module(f"{module}.{node.attr}"):
            self._tell(node, *_moved(module, node.attr))

    def _module(self, node: ast.expr) -> str | None:
        """Return which of upstream's modules an expression names, if it does."""
        if isinstance(node, ast.Name):
            return self._modules.get(node.id)
        if not isinstance(node, ast.Attribute) or (outer := self._module(node.value)) is None:
            return None
        inner = f"{outer}.{node.attr}"
        return inner if _is_upstream_module(inner) else None

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """`class Mine(StartStageHandler)`: its code would never be called."""
        for base in node.bases:
            name = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
            if self._is_old and _is_handler(name):
                self._tell(node, MISSING, f"class {node.name}({name})", "handlers can't be replaced: follow the events")
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Keep to a function what it puts into its variables."""
        self._inside(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """Keep to a function what it puts into its variables."""
        self._inside(node)

    def _inside(self, node: ast.AST) -> None:
        outer = set(self._canvas)
        self.generic_visit(node)
        self._canvas = outer

    def visit_Assign(self, node: ast.Assign) -> None:
        """`flow = chain(...)`: sending `flow` sends a canvas."""
        self.generic_visit(node)
        names = {target.id for target in node.targets if isinstance(target, ast.Name)}
        self._canvas = self._canvas | names if self._is_canvas(node.value) else self._canvas - names

    def visit_Call(self, node: ast.Call) -> None:
        """See calls that behave differently, and canvases that are sent."""
        if isinstance(node.func, ast.Attribute):
            self._method(node, node.func)
        elif self._is_sent(node):
            self._sent(node, "")
        for key in node.keywords if self._is_old else ():
            if key.arg in _ARGUMENTS:
                self._tell(key.value, LOOK, f"{key.arg}=", _ARGUMENTS[key.arg])
            if key.arg == "split_conditions" and isinstance(key.value, ast.Dict):
                self._conditions(key.value.values)
        self.generic_visit(node)

    def _conditions(self, values: Iterable[ast.expr]) -> None:
        """Tell of conditions that the workflow's creation will refuse."""
        for value in values:
            if isinstance(value, ast.Constant) and (problem := check_expression(str(value.value))):
                self._tell(value, MISSING, "split_conditions=", problem)

    def _method(self, node: ast.Call, func: ast.Attribute) -> None:
        name = func.attr
        if self._is_sent(node) or (name in _SENDS and self._is_canvas(func.value)):
            self._sent(node, "" if self._is_sent(node) else f".{name}")
        if name in _METHODS and self._is_about(name, func):
            self._tell(node, _METHODS[name][0], f".{name}(…)", _METHODS[name][1])
        if name == "push" and self._is_old and (len(node.args) > 1 or any(key.arg == "delay" for key in node.keywords)):
            self._tell(node, MISSING, ".push(…, delay)", "only a QueueProcessor delays it: use scheduled_time")
        if name == "set" and self._makers and not node.args:
            self._options(node, "set")

    def _sent(self, node: ast.Call, by: str) -> None:
        told = "stabilize.start_canvas(canvas, …); handle.result() in place of get()"
        self._tell(node, CHANGE, f"canvas{by}(…)", told)
        if by == ".apply_async":
            self._options(node, "apply_async")
            for key in node.keywords:
                if key.arg in _ON_THE_CANVAS:
                    self._tell(node, CHANGE, f".apply_async({key.arg}=…)", _ON_THE_CANVAS[key.arg])

    def _options(self, node: ast.Call, method: str) -> None:
        for key in node.keywords:
            if key.arg in _OPTIONS:
                self._tell(node, MISSING, f".{method}({key.arg}=…)", _OPTIONS[key.arg])

    def _is_sent(self, node: ast.Call) -> bool:
        """Whether a call calls a canvas: `flow()`, `chain(…)()`, `chord(header)(body)`; `chain(…)` alone makes one."""
        return self._is_canvas(node.func)

    def _is_about(self, name: str, func: ast.Attribute) -> bool:
        if name not in _OF_TASKS:
            return self._is_old
        return bool(self._makers) and isinstance(func.value, ast.Name) and func.value.id == "self"

    def _is_canvas(self, node: ast.expr) -> bool:
        """Whether an expression makes a canvas: a call of one, `a | b`, or a name that was given one."""
        if isinstance(node, ast.Name):
            return node.id in self._canvas
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return any(self._is_canvas(side) or _is_signature(side) for side in (node.left, node.right))
        if not isinstance(node, ast.Call):
            return False
        if isinstance(node.func, ast.Attribute):
            return self._is_maker(node.func) or (
                node.func.attr in ("set", "on_error", "clone") and self._is_canvas(node.func.value)
            )
        return isinstance(node.func, ast.Name) and node.func.id in self._makers

    def _is_maker(self, node: ast.Attribute) -> bool:
        """Whether it is `celery.chain`, or another function that makes a canvas."""
        return node.attr in _CANVAS and isinstance(node.value, ast.Name) and node.value.id in self._celery

    def _tell(self, node: ast.AST, kind: str, what: str, todo: str) -> None:
        self.findings.append(Finding(getattr(node, "lineno", 1), kind, what, todo))


def _is_of(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _is_handler(name: str) -> bool:
    return name.endswith("Handler") and _has(_COMPAT, name)


def _is_signature(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("s", "si")


def _moved(module: str, name: str) -> tuple[str, str, str]:
    """Return what becomes of an imported name: kind, what, what to do."""
    what = f"{module}.{name}"
    if name == "*":
        return LOOK, what, "name what is needed: not all of it is here"
    if name in _RENAMED:
        return CHANGE, what, _RENAMED[name]
    same, below = module.replace(_OLD, _NEW, 1), module.replace(_OLD, _COMPAT, 1)
    home = next((home for home in (same, *_HOMES, below) if _has(home, name) and _does_the_same(home, name)), None)
    if home is None and _is_module(f"{below}.{name}"):
        home = below
    if home is not None:
        told = f"from {home} import {name}"
        return (LOOK, what, f"{told}; {_DIFFERENT[name]}") if name in _DIFFERENT else (CHANGE, what, told)
    return MISSING, what, advice(name, module.removeprefix(f"{_OLD}.")) or "has no counterpart"


def _moved_module(module: str) -> tuple[str, str, str]:
    """Return what becomes of an imported module: kind, what, what to do."""
    what, homes = f"import {module}", (module.replace(_OLD, new, 1) for new in _HOMES)
    home = next((home for home in homes if _is_module(home)), None)
    if home is not None:
        return CHANGE, what, f"import {home}, or its names"
    return MISSING, what, advice("", module.removeprefix(f"{_OLD}.")) or "has no counterpart"


def _is_upstream_module(module: str) -> bool:
    """Whether upstream has a module of that name, for all that is known here."""
    below = module.removeprefix(f"{_OLD}.")
    return below in GONE_MODULES or any(_is_module(f"{home}.{below}") for home in _HOMES)


def _is_module(module: str) -> bool:
    """Whether there is such a module of ours, other than one that only says what is not there."""
    path = module.removeprefix(f"{_COMPAT}.")
    try:
        import_module(module)
    except ImportError:
        return False
    return path not in GONE_MODULES


def _does_the_same(home: str, name: str) -> bool:
    """Whether a module means by a name what upstream did: the same as `compat`, if that has it."""
    return not _has(_COMPAT, name) or getattr(import_module(home), name) is getattr(import_module(_COMPAT), name)


def _has(module: str, name: str) -> bool:
    """Whether a module of ours has the name among its public ones."""
    try:
        return name in getattr(import_module(module), "__all__", ())
    except ImportError:
        return False
