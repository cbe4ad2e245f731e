"""The Celery app of the chaos tests: the tasks of shop.py, and bodies that notice when a promise is broken."""

from __future__ import annotations

import os
import time
from functools import cache

import redis
from shop import app, stabilize

from stabilize_celery.errors import TransientError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.call import current_call
from stabilize_celery.transport.broker import broker_settings

__all__ = ["app"]

if app.conf.broker_url.startswith("sentinel:"):
    app.conf.update(broker_settings(os.environ["SHOP_BROKER"], 5.0))

# The resource that a mutex protects: it knows its user, and refuses whoever comes with an older token.
_ENTER = """
if tonumber(redis.call('HGET', KEYS[1], 'token') or 0) > tonumber(ARGV[2]) then return 'fenced' end
local user = redis.call('HGET', KEYS[1], 'user')
redis.call('HSET', KEYS[1], 'user', ARGV[1], 'token', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'entered', 1)
if user and user ~= ARGV[1] then redis.call('HINCRBY', KEYS[1], 'doubly', 1) return 'doubly' end
return 'alone'
"""
_LEAVE = "if redis.call('HGET', KEYS[1], 'user') == ARGV[1] then redis.call('HDEL', KEYS[1], 'user') end"


@cache
def _witness(_pid: int) -> redis.Redis:
    """A server that no test kills."""
    return redis.Redis.from_url(os.environ["CROWD_WITNESS"], decode_responses=True)


@stabilize.task("guarded")
def guarded(stage: StageExecution) -> TaskResult:
    """Use what the stage's mutex protects."""
    call, witness = current_call(), _witness(os.getpid())
    resource, user = f"resource:{stage.mutex_key}", f"{call.workflow_id}/{call.stage_ref_id}/{call.run_number}"
    entered = witness.eval(_ENTER, 1, resource, user, call.fencing_token or 0)
    time.sleep(0.02)
    if entered != "fenced":
        witness.eval(_LEAVE, 1, resource, user)
    return TaskResult.success({"token": call.fencing_token})


@stabilize.task("shaky")
def shaky(stage: StageExecution) -> TaskResult:
    """Fail the first `fails` times that it is tried, whoever tries."""
    tried = int(stage.context.get("tried", 0))
    if tried < stage.context["fails"]:
        raise TransientError("not yet", retry_after=0.2, context_update={"tried": tried + 1})
    return TaskResult.success({"tried": tried})


@stabilize.task("again")
def again(stage: StageExecution) -> TaskResult:
    """Go round until the loop has had its `rounds`."""
    if current_call().run_number < stage.context["rounds"]:
        return TaskResult.jump_to("in", outputs={"round": current_call().run_number})
    return TaskResult.success()


@stabilize.task("broken")
def broken(stage: StageExecution) -> TaskResult:
    """Fail for good."""
    raise ValueError(f"stage {stage.ref_id} is broken")


@stabilize.task("nothing")
def nothing(stage: StageExecution) -> TaskResult:
    """Succeed at once."""
    return TaskResult.success()
