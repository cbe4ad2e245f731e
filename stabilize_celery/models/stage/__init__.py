"""Stages: the model, its choices and its navigation."""

from stabilize_celery.models.stage.enums import JoinMode, JoinType, MutexScope, SplitType, SyntheticStageOwner
from stabilize_celery.models.stage.stage import StageExecution

__all__ = ["JoinMode", "JoinType", "MutexScope", "SplitType", "StageExecution", "SyntheticStageOwner"]
