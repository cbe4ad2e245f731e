"""Events of an older shape, brought to a newer one when a history is replayed.

The engine's own events need none of this. It is for events that a program appended itself, in a shape that it changed.
"""

from collections.abc import Callable
from typing import TypeAlias

from stabilize_celery.compat.event import Event

__all__ = ["EventMigrator", "get_event_migrator", "reset_event_migrator"]

Migration: TypeAlias = Callable[[Event], Event]


class EventMigrator:
    """Migrations from one schema version of events to the next."""

    def __init__(self) -> None:
        self._migrations: dict[int, Migration] = {}

    def register(self, from_version: int, to_version: int) -> Callable[[Migration], Migration]:
        """Return a decorator for what brings an event from one version to the next.

        Raises:
            ValueError: the versions do not follow each other.

        """
        if to_version != from_version + 1:
            raise ValueError(f"a migration leads from one version to the next, not from {from_version} to {to_version}")

        def take(migration: Migration) -> Migration:
            self._migrations[from_version] = migration
            return migration

        return take

    def migrate(self, event: Event, target_version: int | None = None, strict: bool = True) -> Event:
        """Return an event in a version; default: as far as there are migrations.

        Raises:
            ValueError: `strict`, and it can't be brought there.

        """
        while target_version is None or event.schema_version < target_version:
            version = event.schema_version
            if version not in self._migrations:
                return self._as_far(event, target_version, strict=strict)
            event = self._migrations[version](event)
            if event.schema_version != version + 1:
                raise ValueError(f"the migration from version {version} made version {event.schema_version}")
        if event.schema_version > target_version:
            return self._as_far(event, target_version, strict=strict)
        return event

    @property
    def registered_migrations(self) -> list[tuple[int, int]]:
        """From which version to which there are migrations."""
        return [(version, version + 1) for version in sorted(self._migrations)]

    def _as_far(self, event: Event, target_version: int | None, *, strict: bool) -> Event:
        if strict and target_version is not None:
            raise ValueError(
                f"event {event.event_id} has version {event.schema_version}: no migration leads to {target_version}"
            )
        return event


_OF_PROCESS = [EventMigrator()]


def get_event_migrator() -> EventMigrator:
    """Return the migrations that this process' replays apply."""
    return _OF_PROCESS[0]


def reset_event_migrator() -> None:
    """Forget the migrations of this process."""
    _OF_PROCESS[0] = EventMigrator()
