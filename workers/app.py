"""The Celery app of the deployable workers, made from the environment; task modules import `stabilize` from here."""

import os

from celery import Celery

from stabilize_celery.settings import Settings
from stabilize_celery.transport.app import Stabilize
from stabilize_celery.transport.broker import broker_settings

__all__ = ["app", "settings", "stabilize"]

settings = Settings.from_env(os.environ)

broker = broker_settings(
    settings.broker_url or settings.redis_url or "redis://localhost:6379/0",
    settings.socket_timeout_ms / 1000,
    settings.broker_options,
)
app = Celery("stabilize", broker=broker["broker_url"])
app.conf.update(
    broker,
    # Read by the worker when it starts: they may import `stabilize` from this module.
    imports=[name for name in os.environ.get("STABILIZE_TASK_MODULES", "").replace(",", " ").split() if name],
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={**broker.get("broker_transport_options", {}), "health_check_interval": 10},
)
stabilize = Stabilize(app, settings=settings)
