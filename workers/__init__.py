"""Deployable entry points: a worker that moves workflows on, a worker that runs task bodies."""

__all__: list[str] = []
