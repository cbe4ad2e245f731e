"""What has happened: events, their bus, histories, projections, streams."""

from stabilize_celery.compat.event import (
    CURRENT_SCHEMA_VERSION,
    EntityType,
    Event,
    EventMetadata,
    EventType,
    create_stage_event,
    create_task_event,
    create_workflow_event,
    parse_event_type,
)
from stabilize_celery.compat.event_bus import (
    EventBus,
    EventBusStats,
    SubscriptionMode,
    configure_event_bus,
    get_event_bus,
    reset_event_bus,
)
from stabilize_celery.compat.event_migrator import EventMigrator, get_event_migrator, reset_event_migrator
from stabilize_celery.compat.history import (
    EventQuery,
    PostgresEventStore,
    RedisEventStore,
    SqliteEventStore,
    configure_event_sourcing,
)
from stabilize_celery.compat.projections import (
    ActivityMetrics,
    Projection,
    StageMetricsProjection,
    TimelineEntry,
    WorkflowTimeline,
    WorkflowTimelineProjection,
)
from stabilize_celery.compat.replay import (
    EventReplayer,
    WorkflowState,
)
from stabilize_celery.compat.stream_item import StreamItem
from stabilize_celery.compat.streams import (
    WorkflowStream,
    emit_progress,
)

EventStore = RedisEventStore
StageMetrics = TaskMetrics = ActivityMetrics

__all__ = [
    "CURRENT_SCHEMA_VERSION",
    "EntityType",
    "Event",
    "EventBus",
    "EventBusStats",
    "EventMetadata",
    "EventMigrator",
    "EventQuery",
    "EventReplayer",
    "EventStore",
    "EventType",
    "PostgresEventStore",
    "Projection",
    "RedisEventStore",
    "SqliteEventStore",
    "StageMetrics",
    "StageMetricsProjection",
    "StreamItem",
    "SubscriptionMode",
    "TaskMetrics",
    "TimelineEntry",
    "WorkflowState",
    "WorkflowStream",
    "WorkflowTimeline",
    "WorkflowTimelineProjection",
    "configure_event_bus",
    "configure_event_sourcing",
    "create_stage_event",
    "create_task_event",
    "create_workflow_event",
    "emit_progress",
    "get_event_bus",
    "get_event_migrator",
    "parse_event_type",
    "reset_event_bus",
    "reset_event_migrator",
]
