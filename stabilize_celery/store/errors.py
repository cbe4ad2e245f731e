"""What a store refuses, and why nothing was written."""

from stabilize_celery.errors import EngineError, WorkflowNotFoundError

__all__ = ["NoSuchPageError", "NoWorkflowIdError", "StoreError", "WrongKindError"]


class StoreError(EngineError):
    """The store refuses what it was asked: a bad value or name, or a refusal of the server that no retry repairs."""

    code = 510


class NoWorkflowIdError(StoreError, WorkflowNotFoundError):
    """No workflow can have this id: whoever asks for one by it asks for one that is not there."""

    code = 301

    def __init__(self, workflow_id: str) -> None:
        told = "1 to 200 characters of Unicode, without '/', ':', braces and white space"
        text = f"there is no workflow {workflow_id[:200]!r}: that is not a workflow id ({told})"
        WorkflowNotFoundError.__init__(self, text, execution_id=workflow_id)


class NoSuchPageError(StoreError, ValueError):
    """A listing has no page of this size, or none behind this cursor."""


class WrongKindError(StoreError):
    """A key holds another kind of value than this version expects: nothing is wrong with the server."""
