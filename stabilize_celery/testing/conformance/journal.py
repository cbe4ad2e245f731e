"""What the runner remembers beside the engine: places in action lists, counts, and what tasks recorded.

It lies outside all that a condition can see. One journal serves all processes of a run.
"""

import json
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

__all__ = ["Journal", "Key", "MemoryJournal", "Record", "SharedJournal", "Visit"]

Key: TypeAlias = tuple[str | int | None, ...]
"""Names a place or a count, workflow execution first."""


@dataclass(frozen=True, slots=True)
class Record:
    """A value that a task recorded."""

    workflow_id: str
    ref_id: str
    value: Any


class Visit(NamedTuple):
    """Task code was executed in this run (from 1) and instance."""

    workflow_id: str
    ref_id: str
    run: int
    instance: int | None


class Journal(Protocol):
    """A memory that all processes of a run share."""

    def count(self, key: Key) -> int:
        """Add one to a count; return it."""
        ...

    def place(self, key: Key) -> Mapping[str, Any] | None:
        """Return what a task execution left behind when it began to wait; None: it has not."""
        ...

    def keep_place(self, key: Key, place: Mapping[str, Any] | None) -> None:
        """Leave something behind for the next execution; None: nothing."""
        ...

    def record(self, record: Record) -> None:
        """Write a value down, behind all that is there."""
        ...

    def records(self, workflow_id: str) -> list[Record]:
        """Return what tasks of a workflow execution recorded, in order."""
        ...

    def visit(self, visit: Visit) -> None:
        """Take note that task code was executed."""
        ...

    def visits(self, workflow_id: str) -> set[Visit]:
        """Return where task code of a workflow execution was executed."""
        ...


class MemoryJournal:
    """A journal of one process."""

    def __init__(self) -> None:
        self._counts: Counter[Key] = Counter()
        self._places: dict[Key, Mapping[str, Any]] = {}
        self._records: list[Record] = []
        self._visits: set[Visit] = set()

    def count(self, key: Key) -> int:
        """See `Journal`."""
        self._counts[key] += 1
        return self._counts[key]

    def place(self, key: Key) -> Mapping[str, Any] | None:
        """See `Journal`."""
        return self._places.get(key)

    def keep_place(self, key: Key, place: Mapping[str, Any] | None) -> None:
        """See `Journal`."""
        self._places.pop(key, None)
        if place is not None:
            self._places[key] = place

    def record(self, record: Record) -> None:
        """See `Journal`."""
        self._records.append(record)

    def records(self, workflow_id: str) -> list[Record]:
        """See `Journal`."""
        return [record for record in self._records if record.workflow_id == workflow_id]

    def visit(self, visit: Visit) -> None:
        """See `Journal`."""
        self._visits.add(visit)

    def visits(self, workflow_id: str) -> set[Visit]:
        """See `Journal`."""
        return {visit for visit in self._visits if visit.workflow_id == workflow_id}


_SCHEMA = """
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, n INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS places (name TEXT PRIMARY KEY, place TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS records (
    number INTEGER PRIMARY KEY AUTOINCREMENT, workflow_id TEXT NOT NULL, ref_id TEXT NOT NULL, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS visits (
    workflow_id TEXT NOT NULL, ref_id TEXT NOT NULL, run INTEGER NOT NULL, instance INTEGER);
CREATE INDEX IF NOT EXISTS visits_of ON visits (workflow_id);
CREATE INDEX IF NOT EXISTS records_of ON records (workflow_id);
"""


class SharedJournal:
    """A journal in an SQLite file: the processes of one machine share it. Connects once per process and thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own = threading.local()

    def create(self) -> None:
        """Make the file, before anybody else opens it: SQLite refuses who changes to WAL beside another at once."""
        connection = self._connection()
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_SCHEMA)

    def count(self, key: Key) -> int:
        """See `Journal`."""
        sql = "INSERT INTO counts VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET n = n + 1 RETURNING n"
        (row,) = self._connection().execute(sql, (_text(key),)).fetchall()
        return int(row[0])

    def place(self, key: Key) -> Mapping[str, Any] | None:
        """See `Journal`."""
        row = self._connection().execute("SELECT place FROM places WHERE name = ?", (_text(key),)).fetchone()
        found: Mapping[str, Any] | None = json.loads(row[0]) if row else None
        return found

    def keep_place(self, key: Key, place: Mapping[str, Any] | None) -> None:
        """See `Journal`."""
        if place is None:
            self._connection().execute("DELETE FROM places WHERE name = ?", (_text(key),))
        else:
            self._connection().execute("INSERT OR REPLACE INTO places VALUES (?, ?)", (_text(key), json.dumps(place)))

    def record(self, record: Record) -> None:
        """See `Journal`."""
        sql = "INSERT INTO records (workflow_id, ref_id, value) VALUES (?, ?, ?)"
        self._connection().execute(sql, (record.workflow_id, record.ref_id, json.dumps(record.value)))

    def records(self, workflow_id: str) -> list[Record]:
        """See `Journal`."""
        sql = "SELECT workflow_id, ref_id, value FROM records WHERE workflow_id = ? ORDER BY number"
        rows = self._connection().execute(sql, (workflow_id,)).fetchall()
        return [Record(row[0], row[1], json.loads(row[2])) for row in rows]

    def visit(self, visit: Visit) -> None:
        """See `Journal`."""
        self._connection().execute("INSERT INTO visits VALUES (?, ?, ?, ?)", visit)

    def visits(self, workflow_id: str) -> set[Visit]:
        """See `Journal`."""
        sql = "SELECT DISTINCT workflow_id, ref_id, run, instance FROM visits WHERE workflow_id = ?"
        return {Visit(*row) for row in self._connection().execute(sql, (workflow_id,)).fetchall()}

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._own, "connection", None)
        if connection is not None:
            connection.close()
        self._own.connection = None

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is None or self._own.pid != os.getpid():
            connection = sqlite3.connect(self._path, timeout=30, isolation_level=None)
            connection.execute("PRAGMA synchronous = OFF")
            self._own.connection, self._own.pid = connection, os.getpid()
        return connection


def _text(key: Key) -> str:
    return json.dumps(key)
