"""How large a definition may be, and what it says by saying nothing. Each is a promise to who reads stored bytes."""

__all__ = [
    "DEFAULT_PRIORITY",
    "MAX_CONTEXT_NESTING",
    "MAX_COUNT",
    "MAX_DEFINITION_BYTES",
    "MAX_IDEMPOTENCY_KEY_LENGTH",
    "MAX_INSTANCE",
    "MAX_INSTANCES",
    "MAX_LISTED_PROBLEMS",
    "MAX_NAME_LENGTH",
    "MAX_REF_ID_LENGTH",
    "MAX_STAGES",
    "MAX_SUB_WORKFLOW_NESTING",
    "MAX_SUGGESTIONS",
    "MAX_TASK_TYPE_LENGTH",
    "MAX_THREADS",
    "MAX_TIME_MS",
]

DEFAULT_PRIORITY = 4
"""Of a workflow that says nothing: 0 is the most urgent, 9 the least."""

MAX_DEFINITION_BYTES = 16 * 1024 * 1024
"""A definition with its inner workflows, as JSON (bytes)."""

MAX_STAGES = 100_000
"""Stages of one workflow (count)."""

MAX_CONTEXT_NESTING = 64
"""Lists and objects inside each other in a context (levels)."""

MAX_COUNT = 2**63 - 1
"""Any whole number of a definition that has no limit of its own: what Redis counts to."""

MAX_SUB_WORKFLOW_NESTING = 10
"""Inner definitions inside each other (levels); how deep they may call each other is `max_depth`."""

MAX_REF_ID_LENGTH = 200
"""A stage's ref_id (characters)."""

MAX_NAME_LENGTH = 255
"""An application's, a workflow's, a stage's or a task's name (characters)."""

MAX_TASK_TYPE_LENGTH = 500
"""A task's type (characters): each message about the task carries it through the broker."""

MAX_IDEMPOTENCY_KEY_LENGTH = 1_000
"""A producer's own name for one submission (characters)."""

MAX_INSTANCE = 2**31 - 1
"""Index of an instance that a signal may be for."""

MAX_INSTANCES = 100_000
"""Instances that a run starts with, or that are added to it at once (count): one commit makes them."""

MAX_LISTED_PROBLEMS = 1_000
"""Problems that the text of one error lists (count); `error.problems` has all of them."""

MAX_SUGGESTIONS = 20
"""Unknown names of one definition for which a similar known one is looked for (count): the search is slow."""

MAX_THREADS = 10_000
"""Threads that one stage puts on one edge (count)."""

MAX_TIME_MS = 2**52
"""A time or a duration (ms): with the present added, it is still exact where Redis sorts by it."""
