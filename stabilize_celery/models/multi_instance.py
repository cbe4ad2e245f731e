"""How many instances of a stage run side by side, and how many of them its thread waits for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

__all__ = ["MultiInstanceConfig"]


@dataclass
class MultiInstanceConfig:
    """A stage's task list runs once per instance, all at the same time (WCP-12 to 15, 26, 27, 34 to 36).

    Attributes:
        count: The number of instances, fixed in the design (count).
        count_from_context: The context key under which the number is found when the run starts.
        sync_on_complete: False: the next stage does not wait for the instances.
        allow_dynamic: Instances may be added while others run.
        collection_from_context: The context key of a list; one instance per item.
        join_threshold: The next stage starts after this many are done (count); 0: after all.
        cancel_remaining: When the next stage starts, unfinished instances are cancelled.
        completion_condition: An expression over `completed`, `total`, `active`; true: as if the threshold were reached.
        max_concurrent: At most this many run at once (count); 0: no limit.

    """

    count: int = 0
    count_from_context: str = ""
    sync_on_complete: bool = True
    allow_dynamic: bool = False
    collection_from_context: str = ""
    join_threshold: int = 0
    cancel_remaining: bool = False
    completion_condition: str | None = None
    max_concurrent: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MultiInstanceConfig:
        """Return a configuration of the known keys in `data`; missing ones have their defaults."""
        return cls(**{one.name: data[one.name] for one in fields(cls) if one.name in data})
