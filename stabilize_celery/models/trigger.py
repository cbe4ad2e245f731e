"""What set a workflow going."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

__all__ = ["Trigger"]


@dataclass
class Trigger:
    """Who or what started a workflow, and with which parameters."""

    type: str = "manual"
    user: str = "anonymous"
    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    payload: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict of its own."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trigger:
        """Return a trigger of the known keys in `data`; others are left out, missing ones have their defaults."""
        return cls(**{one.name: data[one.name] for one in fields(cls) if one.name in data})
