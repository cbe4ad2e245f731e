"""What producers use: start workflows, ask about them, act on them. No task code, no worker settings."""

from stabilize_celery.client.async_client import AsyncClient, AsyncSchedules, AsyncWorkflowHandle
from stabilize_celery.client.client import Client
from stabilize_celery.client.events import WorkflowEvent
from stabilize_celery.client.handle import WorkflowHandle
from stabilize_celery.client.outcomes import Outcome
from stabilize_celery.client.pages import Page, WorkflowSummary
from stabilize_celery.client.why import Reason

__all__ = [
    "AsyncClient",
    "AsyncSchedules",
    "AsyncWorkflowHandle",
    "Client",
    "Outcome",
    "Page",
    "Reason",
    "WorkflowEvent",
    "WorkflowHandle",
    "WorkflowSummary",
]
