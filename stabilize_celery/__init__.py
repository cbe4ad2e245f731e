"""Durable workflows for teams that already run Celery and Redis."""
