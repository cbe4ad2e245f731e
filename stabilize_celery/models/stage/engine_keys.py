"""Context keys that upstream's engine wrote; ours keeps its facts elsewhere and only reads past these.

Old programs and stored contexts may hold them: `caller_context` leaves what the author put there.
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["ENGINE_CONTEXT_KEYS", "HIDDEN_FROM_TASK_INPUT", "caller_context"]

_TASK_VISIBLE_KEYS = frozenset({"_signal_data", "_signal_name"})
_LOOP = "condition exhausted exit exit_ref_id iteration max_iterations scope target_ref_id token type"
_JOIN = "activated_branches blocking_failure completed_branches join_fired mm_consumed mm_firings mm_trigger"
_JUMP = "jump_bypass jump_count jump_history jump_outputs max_jumps pruned pruned_from"
_INNER = "max_recursion_depth parent_workflow_id recursion_depth sub_workflow_config sub_workflow_id"
_OTHER = "mi_instance_count mi_instance_index mi_parent_ref_id on_failure_planned hydrated_keys output_reducers"
_WAITING = "buffered_signals gate_checked task_completion"

ENGINE_CONTEXT_KEYS = (
    _TASK_VISIBLE_KEYS
    | {f"_loop_{name}" for name in _LOOP.split()}
    | {f"_{name}" for group in (_JOIN, _JUMP, _INNER, _OTHER, _WAITING) for name in group.split()}
)
"""Every context key that belongs to the engine."""

HIDDEN_FROM_TASK_INPUT = ENGINE_CONTEXT_KEYS - _TASK_VISIBLE_KEYS
"""Those that a task has no use for: all but the signal's name and data."""


def caller_context(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the author put into the context."""
    return {key: value for key, value in context.items() if key not in ENGINE_CONTEXT_KEYS}
