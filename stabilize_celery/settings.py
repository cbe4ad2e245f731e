"""Frozen settings, read once at the edge (`Settings.from_env`) and passed down."""

import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from stabilize_celery.errors import ConfigurationError

__all__ = [
    "BROKER",
    "CONTINUATION",
    "FUSED",
    "JSON",
    "LEDGER",
    "MAX_PARTITIONS",
    "MODES",
    "OFF",
    "ON",
    "PER_MESSAGE",
    "SECRET_KEYS",
    "TEXT",
    "Settings",
    "check_namespace",
]

BROKER, LEDGER = "broker", "ledger"
OFF, ON = "off", "on"
TEXT, JSON = "text", "json"
SECRET_KEYS = (
    "*password*,*passwd*,*passphrase*,*secret*,*credential*,*api_key*,*apikey*,*access_key*,*private_key*,token,*_token,"  # noqa: S105 - names of keys
    "*bearer*,authorization,*cookie*"
)
"""Keys of a context whose values nobody is shown, where nothing else is said."""
MODES = PER_MESSAGE, FUSED, CONTINUATION = "per_message", "fused", "continuation"
_CHOICES = {"mode": MODES, "acks": (BROKER, LEDGER), "traces": (OFF, ON), "log_format": (TEXT, JSON)}
MAX_PARTITIONS = 1_024
_LOWEST = {"lease_ms": 100, "take_ms": 0, "wait_ms": 0, "fused_slice_ms": 0, "payload_bytes": 0, "metrics_port": 0}
"""Lowest value of a number; 1 where none stands. 0 only where it has a meaning of its own: elsewhere nothing moves."""
_HIGHEST = {"partitions": MAX_PARTITIONS, "metrics_port": 65_535}
_NAMESPACE_FORM = re.compile(r"[A-Za-z0-9._-]+")
_NAMESPACE, _CONTROL_QUEUE, _WORK_QUEUE = "stabilize", "stabilize.control", "stabilize.work"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What can be set; each field is `STABILIZE_<FIELD>` in the environment. Times in ms, sizes in bytes."""

    namespace: str = _NAMESPACE
    redis_url: str = ""
    broker_url: str = ""
    broker_options: str = ""
    """`broker_transport_options` of the workers' app for producers, as a JSON object."""
    partitions: int = 16
    """Partitions of a new namespace; later changes have no effect."""
    control_queue: str = _CONTROL_QUEUE
    work_queue: str = _WORK_QUEUE
    """Where nothing is said, a namespace of another name has queues of its own, `<namespace>.control` and `.work`:
    on one broker, workers would take each other's messages, and find nothing that is owed for them."""
    task_queues: Mapping[str, str] = field(default_factory=dict)
    """Task type to the queue its RunTask goes to; others go to `work_queue`."""
    lease_ms: int = 9_000
    """A claimed task is due again when its worker has not been heard of for this long."""
    max_lost: int = 5
    """Consecutive attempts that may be lost with their worker before a task is TERMINAL."""
    republish_ms: int = 2_000
    """How long a published message may be without effect before the keeper looks at it (R)."""
    keeper_busy_ms: int = 250
    keeper_idle_ms: int = 1_000
    keeper_batch: int = 100
    announce_ms: int = 5_000
    """How often a worker writes its line of the fleet registry."""
    unknown_task_ms: int = 10_000
    """How long a task of a type that no live worker knows rests before it is tried again."""
    lock_look_ms: int = 300_000
    """How often who waits for a mutex audits its holder."""
    commit_tries: int = 5
    retention_ms: int = 7 * 24 * 3600 * 1000
    """How long an ended workflow is kept."""
    max_handler_tries: int = 10
    """Tries of a message whose handler raises before it is a dead letter."""
    max_output_bytes: int = 4 * 1024 * 1024
    """Largest outputs of one task, encoded."""
    encryption_keys: str = field(default="", repr=False)
    """`name:base64,…`, the newest first. That one encrypts payloads; the others still open theirs."""
    payload_dir: str = ""
    """A directory that all processes share: values of `payload_bytes` or more are kept there, not in Redis."""
    payload_bytes: int = 256 * 1024
    """Size from which on a stored value is kept beside its record: as a file, without `payload_dir` as a blob in Redis.

    0: all values stay in their records.
    """
    socket_timeout_ms: int = 5_000
    redact_keys: str = SECRET_KEYS
    """Patterns of keys whose values are shown as `***` on the command line, the web page and in error texts."""
    mode: str = PER_MESSAGE
    """How messages follow each other: `per_message` each over the broker; `fused` only tasks, and those not within
    `fused_slice_ms` or where a process takes messages itself and none waits; `continuation` tasks of one workflow go on
    in one process for up to `continuation_ms`."""
    continuation_ms: int = 250
    """In `continuation`: how long one process goes on with a workflow before its next task goes over the broker."""
    fused_slice_ms: int = 5
    """In `fused`: how long one process goes on with a workflow though others wait; 0: not at all."""

    take_ms: int = 250
    """How long a turn lasts, from the begin of its delivery, in which a process takes messages off our queues itself
    before Celery hands it one again; 0: Celery hands it each. Only where the broker is a Redis. What Celery has around
    a task (signals, events …) each has; its time limits clock a turn."""
    wait_ms: int = 1_000
    """Beside it, in prefork pools of workers that consume our queues only: how long a process waits itself for the next
    message, up to 10 s a turn, or once so long; 0: not."""
    acks: str = BROKER
    """Who brings lost deliveries of our messages back: `broker`, too, or `ledger` alone: then kombu's book-keeping of
    unacknowledged messages is off in workers that were told to consume our queues only. It pays where processes can't
    take messages themselves."""

    metrics_port: int = 0
    """Port on which a worker's main process serves its metrics to Prometheus (`/metrics`); 0: not at all."""
    metrics_host: str = "127.0.0.1"
    """Address to serve them on; `0.0.0.0` for a Prometheus on another machine. Nobody is asked who they are."""
    traces: str = OFF
    """`on`: spans of workflows, stages and tasks go to OpenTelemetry, as its own variables (`OTEL_...`) say."""
    log_format: str = TEXT
    """`json`: a worker logs one JSON object per line, with the ids of workflow, stage and message."""

    alive_file: str = ""
    """A file that a worker's main process touches at least every 20 s while it lives, for probes: `workers.alive`."""

    def __post_init__(self) -> None:
        """Check what can be checked.

        Raises:
            ConfigurationError: something has a value that it can't have; the text names the variable.

        """
        for item in fields(self):
            _check(item, getattr(self, item.name))
        check_namespace(self.namespace)
        if self.namespace != _NAMESPACE:
            for name, default in (("control_queue", _CONTROL_QUEUE), ("work_queue", _WORK_QUEUE)):
                if getattr(self, name) == default:
                    # The class is frozen; this is part of making one.
                    object.__setattr__(self, name, f"{self.namespace}.{default.rpartition('.')[2]}")

    @property
    def is_fused(self) -> bool:
        """Whether control messages are decided where they follow."""
        return self.mode != PER_MESSAGE

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **given: Any) -> "Settings":
        """Read settings from `environ`; `given` values that are not None win.

        Raises:
            ConfigurationError: something has a value that it can't have; the text names the variable.

        """
        values = {name: value for name, value in given.items() if value is not None}
        for item in fields(cls):
            variable = _variable(item.name)
            if item.name not in values and variable in environ:
                values[item.name] = _parse(item, environ[variable])
        return cls(**values)


def check_namespace(namespace: str) -> str:
    """Return `namespace` if keys can start with it.

    Raises:
        ConfigurationError: it is empty, or has a character that keys give a meaning to.

    """
    if not _NAMESPACE_FORM.fullmatch(namespace):
        raise ConfigurationError(
            f"namespace {namespace!r} ({_variable('namespace')}): use letters, digits, '.', '_' and '-' only"
        )
    return namespace


def _variable(name: str) -> str:
    return f"STABILIZE_{name.upper()}"


def _check(item: "Field[Any]", value: object) -> None:
    if wrong := _what_is_wrong(item, value):
        # Other values may be secrets, or have one in them.
        shown = f" {value!r}" if item.type is int or item.name in _CHOICES else ""
        raise ConfigurationError(f"{item.name}{shown} ({_variable(item.name)}): {wrong}")


def _what_is_wrong(item: "Field[Any]", value: object) -> str:
    if item.type is int:
        return _wrong_number(value, _LOWEST.get(item.name, 1), _HIGHEST.get(item.name))
    if item.type is not str:
        return "" if _is_task_queues(value) else "give a mapping of task type to queue, both texts that are not empty"
    if not isinstance(value, str):
        return f"must be text, not {type(value).__name__}"
    choices = _CHOICES.get(item.name)
    if choices is not None and value not in choices:
        return f"use one of {', '.join(choices)}"
    return "must not be empty" if item.name.endswith("_queue") and not value else ""


def _wrong_number(value: object, lowest: int, highest: int | None) -> str:
    # To Python, True is a number.
    if not isinstance(value, int) or isinstance(value, bool):
        return f"must be a whole number, not {type(value).__name__}"
    if lowest <= value and (highest is None or value <= highest):
        return ""
    return f"must be {lowest} or more" if highest is None else f"use {lowest} to {highest}"


def _is_task_queues(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) and text for pair in value.items() for text in pair)


def _parse(item: "Field[Any]", text: str) -> Any:
    variable = _variable(item.name)
    if item.type is str:
        return text
    if item.type is int:
        try:
            return int(text)
        except ValueError:
            raise ConfigurationError(f"{variable} must be a whole number, not {text!r}") from None
    pairs = [pair for pair in text.split(",") if pair.strip()]
    if wrong := [pair for pair in pairs if "=" not in pair]:
        raise ConfigurationError(f"{variable}: {wrong[0]!r} is not name=value; write name=value,name=value")
    return dict(pair.split("=", 1) for pair in pairs)
