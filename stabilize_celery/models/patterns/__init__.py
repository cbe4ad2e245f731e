"""Builders for patterns whose stage fields are clumsy: each sets the fields of the user's own stages and returns them.

What is set may be read and changed afterwards; builders and fields mix freely. docs/builders.md has an example of each.
"""

from stabilize_celery.models.patterns.choices import deferred_choice, exclusive_choice, multi_choice
from stabilize_celery.models.patterns.loops import repeat_until, while_loop
from stabilize_celery.models.patterns.many import instances
from stabilize_celery.models.patterns.turns import critical_section, interleaved, milestone

__all__ = [
    "critical_section",
    "deferred_choice",
    "exclusive_choice",
    "instances",
    "interleaved",
    "milestone",
    "multi_choice",
    "repeat_until",
    "while_loop",
]
