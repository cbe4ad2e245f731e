"""What one process of a worker holds: made once per process, after the fork."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module

from celery.exceptions import WorkerShutdown, WorkerTerminate

from stabilize_celery.errors import ConfigurationError
from stabilize_celery.models.redaction import Redaction
from stabilize_celery.runtime.executor import TaskExecutor
from stabilize_celery.runtime.observing import Observer
from stabilize_celery.runtime.service import Runtime
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import Store
from stabilize_celery.store.files import FileBlobs
from stabilize_celery.store.redis_store import RedisStore, open_lists
from stabilize_celery.store.vault import Cipher, Vault
from stabilize_celery.tasks.registry import TaskRegistry
from stabilize_celery.transport.claims import LocalClaims
from stabilize_celery.transport.publish import CeleryPublisher
from stabilize_celery.transport.surroundings import Surroundings
from stabilize_celery.transport.taking import Taking
from stabilize_celery.transport.turns import Turns
from stabilize_celery.transport.waiting import Waits

__all__ = ["Process", "make_process", "open_store", "taking_from", "vault_of"]


@dataclass(frozen=True, slots=True)
class Process:
    """The connections and the runtime of one process."""

    store: Store
    publisher: CeleryPublisher
    claims: LocalClaims
    runtime: Runtime
    taking: Taking | None = None
    """Takes messages itself after those that Celery delivers."""


def open_store(url: str, settings: Settings) -> Store:
    """Return the store that the settings tell of; connects at its first use."""
    return RedisStore(
        url,
        namespace=settings.namespace,
        partitions=settings.partitions,
        timeout_s=settings.socket_timeout_ms / 1000,
        vault=vault_of(settings),
    )


def vault_of(settings: Settings) -> Vault:
    """Return what stored payloads look like.

    Raises:
        ConfigurationError: a key can't be read, or the extra `encryption` is not installed.

    """
    keys, directory = settings.encryption_keys, settings.payload_dir
    cipher = _key_ring(keys) if keys else None
    blobs = FileBlobs(directory, settings.namespace) if directory else None
    return Vault(cipher, blobs, settings.payload_bytes)


def _key_ring(keys: str) -> Cipher:
    try:
        module = import_module("stabilize_celery.store.cipher")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "STABILIZE_ENCRYPTION_KEYS needs the extra `encryption`: pip install 'stabilize-celery[encryption]'"
        ) from error
    ring: Cipher = module.KeyRing.parse(keys)
    return ring


def make_process(  # noqa: PLR0913 - all that a process has
    store: Store,
    publisher: CeleryPublisher,
    registry: TaskRegistry,
    settings: Settings,
    worker_id: str,
    *,
    turns: Turns | None = None,
    surroundings: Surroundings | None = None,
    observer: Observer | None = None,
    is_stopping: Callable[[], bool] = lambda: True,
) -> Process:
    """Return a process that writes `worker_id` into its claims; the rest is as for `LocalClaims`."""
    claims = LocalClaims(
        store, settings.lease_ms / 3000, is_stopping=is_stopping, turns=turns, surroundings=surroundings
    )
    redaction = Redaction(settings.redact_keys)
    executor = TaskExecutor(settings.max_output_bytes, redaction=redaction, ends_worker=_ends_worker)
    runtime = Runtime(store, registry, publisher, settings, worker_id, executor=executor, observer=observer)
    runtime.runner = claims
    return Process(store, publisher, claims, runtime)


def _ends_worker(error: SystemExit) -> bool:
    """Return whether Celery raised it, to end this process at once: from a signal's handler, in whatever ran then.

    Out of a body that raises the same itself, Celery's threads and greenlets would let it vanish: its message would
    count as running for ever. (A child of a prefork pool that is told to end has a plain `SystemExit`, see `claims`.)
    """
    if not isinstance(error, (WorkerShutdown, WorkerTerminate)):
        return False
    state = import_module("celery.worker.state")  # clients, which import this module, need no worker
    return any(told not in (None, False) for told in (state.should_stop, state.should_terminate))


def taking_from(
    process: Process,
    broker_url: str,
    queues: Sequence[str],
    settings: Settings,
    waits: Waits | None,
    databases: tuple[int, int] | None,
) -> Process:
    """Return the process as one that takes messages of these queues itself, off the lists of a Redis."""
    lists = open_lists(broker_url, settings.socket_timeout_ms / 1000)
    taking = Taking(
        lists,
        queues,
        process.runtime,
        process.claims.going_on,
        settings.take_ms,
        waits=waits,
        databases=databases,
    )
    return replace(process, taking=taking)
