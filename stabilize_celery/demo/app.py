"""The Celery app of the demo's workers: as small as any user's."""

import os

from celery import Celery

from stabilize_celery.demo.tasks import register
from stabilize_celery.settings import Settings
from stabilize_celery.transport.app import Stabilize

__all__ = ["app", "stabilize"]

settings = Settings.from_env(os.environ)

app = Celery("stabilize-demo", broker=settings.broker_url or settings.redis_url or "redis://localhost:6379/0")
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)
stabilize = Stabilize(app, settings=settings)
register(stabilize)
