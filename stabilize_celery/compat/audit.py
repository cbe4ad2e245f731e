"""Who did what, in a program's own words: to the log, to a file, or to what a program sets.

What becomes of workflows stands in their histories without this: `handle.events()`.
"""

import json
import logging
import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

__all__ = ["AuditEvent", "AuditLogger", "FileAuditLogger", "LogAuditLogger", "audit", "set_audit_logger"]

logger = logging.getLogger("stabilize_celery.audit")

_MODE = 0o600


@dataclass
class AuditEvent:
    """One thing that somebody did. `timestamp`: ISO 8601, UTC."""

    timestamp: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    event_type: str = ""
    user: str = "system"
    resource_type: str = ""
    resource_id: str = ""
    action: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    ip_address: str | None = None

    def to_json(self) -> str:
        """Return it as one line of JSON. Raises TypeError: the details are no JSON."""
        return json.dumps(asdict(self))


class AuditLogger(Protocol):
    """Where events go."""

    def log(self, event: AuditEvent) -> None:
        """Take one."""


class LogAuditLogger:
    """Writes to the log `stabilize_celery.audit`."""

    def log(self, event: AuditEvent) -> None:
        """Write one line."""
        logger.info("AUDIT: %s", event.to_json())


class FileAuditLogger:
    """Adds lines of JSON to a file, which only its owner may read, and to the log."""

    def __init__(self, filepath: str | Path = "audit.log") -> None:
        self.filepath = filepath

    def log(self, event: AuditEvent) -> None:
        """Add one line; where the file can't be written, the log says so and has the line."""
        line = event.to_json()
        try:
            with open(os.open(self.filepath, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _MODE), "a") as file:  # noqa: PTH123 -- Path.open has no mode for a new file
                file.write(f"{line}\n")
        except OSError as error:
            logger.warning("%s can't be written: %s", self.filepath, error)
        logger.info("AUDIT: %s", line)


_OF_PROCESS: list[AuditLogger] = [LogAuditLogger()]


def set_audit_logger(logger: AuditLogger) -> None:
    """Let events go there from now on."""
    _OF_PROCESS[0] = logger


def audit(
    event_type: str,
    action: str,
    user: str,
    resource_type: str,
    resource_id: str,
    details: dict[str, Any] | None = None,
    ip_address: str | None = None,
) -> None:
    """Tell what somebody did."""
    event = AuditEvent(
        event_type=event_type,
        user=user,
        resource_type=resource_type,
        resource_id=resource_id,
        action=action,
        details=details or {},
        ip_address=ip_address,
    )
    _OF_PROCESS[0].log(event)
