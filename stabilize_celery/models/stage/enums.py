"""The choices of a stage: how branches meet, how they part, who may enter.

The values are the names, so that a definition reads as the model does; members compare equal to their names.
"""

from enum import StrEnum

from ulid import ULID

__all__ = ["JoinMode", "JoinType", "MutexScope", "SplitType", "SyntheticStageOwner"]


def _generate_stage_id() -> str:
    return str(ULID())


class SyntheticStageOwner(StrEnum):
    """When a synthetic stage runs: before its parent's tasks or after them."""

    STAGE_BEFORE = "STAGE_BEFORE"
    STAGE_AFTER = "STAGE_AFTER"


class JoinType(StrEnum):
    """What a stage with several requisites waits for.

    AND: every branch (WCP-3, 33). OR: the branches that can still arrive (WCP-7, 37, 38). MULTI_MERGE: nothing, each
    arrival is a run of its own (WCP-5, 8). DISCRIMINATOR: the first (WCP-9, 28, 29). N_OF_M: `join_threshold` of them
    (WCP-30 to 32).
    """

    AND = "AND"
    OR = "OR"
    MULTI_MERGE = "MULTI_MERGE"
    DISCRIMINATOR = "DISCRIMINATOR"
    N_OF_M = "N_OF_M"


class JoinMode(StrEnum):
    """What a DISCRIMINATOR or N_OF_M join does with the branches that it did not wait for.

    STRUCTURED and BLOCKING absorb each once and keep what arrives again for the next firing; BLOCKING says that this
    is meant (WCP-28, 31). CANCELLING cancels them (WCP-29, 32).
    """

    STRUCTURED = "STRUCTURED"
    BLOCKING = "BLOCKING"
    CANCELLING = "CANCELLING"


class SplitType(StrEnum):
    """Which outgoing edges a stage takes.

    AND: all (WCP-2). OR: each whose condition is true (WCP-6). XOR: the first, in written order, whose condition is
    true (WCP-4).
    """

    AND = "AND"
    OR = "OR"
    XOR = "XOR"


class MutexScope(StrEnum):
    """Who shares a `mutex_key`: the whole installation, one application, or one workflow execution."""

    GLOBAL = "GLOBAL"
    APPLICATION = "APPLICATION"
    WORKFLOW = "WORKFLOW"
