"""What the repair sweep finds, and how it is told."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as every commit leaves it: a bug, or writes that Redis has lost.

    Args:
        kind: `not_due`, `stray`, `standstill`, `run`, `count`, `lock`, `end`, `dead_letter`, `failing`.
        told: What is wrong, as one clause without the workflow's id.
        mends: What repair does about it; empty: it can't do anything.

    """

    kind: str
    workflow_id: str
    told: str
    mends: str
    ref_id: str = ""
    is_mended: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return it as `doctor --json` shows it."""
        return {
            "kind": self.kind,
            "workflow_id": self.workflow_id,
            "ref_id": self.ref_id,
            "told": self.told,
            "mends": self.mends,
            "is_mended": self.is_mended,
        }
