"""What a store refuses, and why nothing was written."""

from stabilize_celery.errors import EngineError

__all__ = ["StoreError", "WrongKindError"]


class StoreError(EngineError):
    """The store refuses what it was asked: a bad value or name, or a refusal of the server that no retry repairs."""

    code = 510


class WrongKindError(StoreError):
    """A key holds another kind of value than this version expects: nothing is wrong with the server."""
