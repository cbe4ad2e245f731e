"""The trace that a producer is in, as text that is kept with a workflow (W3C `traceparent`)."""

import re
from importlib import import_module
from importlib.util import find_spec
from typing import Any

__all__ = ["current_traceparent", "is_traceparent"]

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_trace: Any = import_module("opentelemetry.trace") if find_spec("opentelemetry") else None
"""Without OpenTelemetry nobody is in a trace."""


def is_traceparent(text: object) -> bool:
    """Return whether something names a span as `traceparent` does."""
    return isinstance(text, str) and _TRACEPARENT.fullmatch(text) is not None


def current_traceparent() -> str:
    """Return the span that this code is in; empty if it is in none."""
    if _trace is None:
        return ""
    context = _trace.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
