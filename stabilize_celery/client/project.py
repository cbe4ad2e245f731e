"""`Stabilize` as projects use it: the app's side, and a client of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from stabilize_celery.client.client import Client
from stabilize_celery.client.handle import WorkflowHandle
from stabilize_celery.transport.app import Stabilize as AppSide
from stabilize_celery.transport.canvas import CanvasSignature, canvas_workflow

__all__ = ["Stabilize"]


class Stabilize(AppSide):
    """Adds tasks `stabilize.*`, their queues and a background duty to an app; the app's own tasks stay as they are.

    Nothing is connected, and the app's configuration is not read, before a worker starts or something is sent.

    Args:
        redis_url: Where workflows are kept. Default: `STABILIZE_REDIS_URL`, else the app's broker if it is Redis.
        registry: Known tasks; default: a new registry with the ready-made ones.
        settings: Default: read from the environment.
        namespace: Start of all keys in Redis; default: the settings'.

    Raises:
        ConfigurationError: the app has a `Stabilize` already.

    """

    def client(self) -> Client:
        """Return a client on this process's connections: it starts and finds workflows, and is not to be closed."""
        return Client(settings=self.settings, store=self.store, publisher=self.publisher)

    def start_canvas(
        self,
        signature: CanvasSignature,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        name: str = "",
        idempotency_key: str | None = None,
    ) -> WorkflowHandle:
        """Start a chain, group, chord or single signature as a durable workflow: `apply_async` without a backend.

        `handle.result()` waits for what Celery's `get()` would return.

        Args:
            signature: Any signature of tasks that the workers' app has.
            args: More arguments for the first task, or for each of a group or a chord's header.
            kwargs: More keyword arguments for the same.
            name: The workflow's; default: after its tasks.
            idempotency_key: The same key starts one workflow however often it is used.

        Raises:
            TypeError: it is no signature, nor the dict that one is in JSON.
            InvalidWorkflowError: a part, named by its place, has no counterpart. Nothing was started.
            IdempotencyConflictError: the key stands for another canvas already.
            UnreachableError: the state server is away. With a key it is safe to try again.

        """
        workflow = canvas_workflow(self.app, signature, args, kwargs, name=name)
        return self.client().start(workflow, idempotency_key=idempotency_key)
