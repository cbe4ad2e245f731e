"""Values of a canvas as Celery's JSON carries them: dates, decimals, UUIDs and bytes arrive as what they were.

In a workflow they stand as that JSON has them: `{"__type__": "datetime", "__value__": "2026-01-02T03:04:05"}`. Tuples
become lists and keys text, as in Celery.
"""

import json
from typing import Any

from kombu.utils import json as kombu_json

__all__ = ["as_given", "plain"]


def plain(value: Any) -> Any:
    """Return a value as Celery's JSON has it. Raises TypeError: that has no form for it."""
    try:
        text = kombu_json.dumps(value)  # type: ignore[no-untyped-call]  # kombu has no types
    except (TypeError, ValueError) as error:
        raise TypeError(f"Celery's JSON can't carry it: {error}") from None
    return json.loads(text)


def as_given(value: Any) -> Any:
    """Return what `plain` was given. Raises ValueError: it names a type that this process does not know."""
    return kombu_json.loads(json.dumps(value))  # type: ignore[no-untyped-call]  # kombu has no types
