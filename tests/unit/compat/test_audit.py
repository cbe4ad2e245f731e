"""A program's own record of who did what goes where it went."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from stabilize_celery.compat.audit import AuditEvent, FileAuditLogger, LogAuditLogger, audit, set_audit_logger


@pytest.fixture(autouse=True)
def to_the_log() -> Iterator[None]:
    yield
    set_audit_logger(LogAuditLogger())


def test_events_go_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Unless a program says otherwise."""
    with caplog.at_level(logging.INFO, "stabilize_celery.audit"):
        audit("workflow", "cancel", "alice", "workflow", "wf-1", {"why": "too slow"})

    told = json.loads(caplog.messages[0].removeprefix("AUDIT: "))
    assert (told["user"], told["action"], told["details"]) == ("alice", "cancel", {"why": "too slow"})


def test_events_go_to_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    """One line of JSON for each."""
    path = tmp_path / "audit.log"
    set_audit_logger(FileAuditLogger(str(path)))

    audit("workflow", "start", "alice", "workflow", "wf-1")
    audit("workflow", "cancel", "bob", "workflow", "wf-1", ip_address="::1")

    assert [json.loads(line)["user"] for line in path.read_text().splitlines()] == ["alice", "bob"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_written_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log says so, and has the event."""
    with caplog.at_level(logging.INFO, "stabilize_celery.audit"):
        FileAuditLogger(tmp_path / "nowhere" / "audit.log").log(AuditEvent(user="alice"))

    assert "can't be written" in caplog.messages[0]
    assert '"user": "alice"' in caplog.messages[1]
