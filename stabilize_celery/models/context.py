"""StageContext: a stage's inputs, with the outputs of the stages above behind them."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from stabilize_celery.models.stage.stage import StageExecution

__all__ = ["StageContext", "create_merged_context"]


class StageContext(MutableMapping[str, Any]):
    """A mapping over a stage: its own context first, then the outputs of its ancestors, the nearest first.

    Writing, deleting, iterating and counting concern the own context only.
    """

    def __init__(self, stage: StageExecution, delegate: dict[str, Any]) -> None:
        self._stage = stage
        self._delegate = delegate

    @property
    def stage(self) -> StageExecution:
        """The stage whose context this is."""
        return self._stage

    def __getitem__(self, key: str) -> Any:
        if key in self._delegate:
            return self._delegate[key]
        for ancestor in self._stage.ancestors():
            if key in ancestor.outputs:
                return ancestor.outputs[key]
        raise KeyError(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self._delegate[key] = value

    def __delitem__(self, key: str) -> None:
        del self._delegate[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._delegate)

    def __len__(self) -> int:
        return len(self._delegate)

    def __contains__(self, key: object) -> bool:
        return key in self._delegate or any(key in ancestor.outputs for ancestor in self._stage.ancestors())

    def get_current_only(self, key: str, default: Any = None) -> Any:
        """Return the stage's own value of `key`, or `default`."""
        return self._delegate.get(key, default)

    def get_all(self, key: str) -> list[Any]:
        """Return the ancestors' outputs of `key`, the nearest first."""
        return [ancestor.outputs[key] for ancestor in self._stage.ancestors() if key in ancestor.outputs]

    def to_dict(self) -> dict[str, Any]:
        """Return a copy of the stage's own context."""
        return dict(self._delegate)

    def merge_with_ancestors(self) -> dict[str, Any]:
        """Return the ancestors' outputs with the stage's own context over them."""
        merged: dict[str, Any] = {}
        for ancestor in reversed(self._stage.ancestors()):
            merged.update(ancestor.outputs)
        merged.update(self._delegate)
        return merged


def create_merged_context(stage: StageExecution) -> StageContext:
    """Return a context whose own values are the ancestors' outputs with the stage's context over them."""
    return StageContext(stage, StageContext(stage, stage.context).merge_with_ancestors())
