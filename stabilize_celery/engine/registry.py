"""Which handler takes which message."""

from stabilize_celery.engine.handler import Handler
from stabilize_celery.engine.handlers import (
    acquire_lock,
    cancel_sub_workflow,
    cancel_task,
    check_milestone,
    choose_stage,
    clear_workflow,
    complete_stage,
    complete_sub_workflow,
    continue_stage,
    evaluate_join,
    expire_workflow,
    finalize_stage,
    judge_instances,
    leave_lock,
    notify_parent,
    release_lock,
    resume_parked,
    run_task,
    settle_workflow,
    start_stage,
    start_sub_workflow,
    start_workflow,
    time_out,
)
from stabilize_celery.models import messages

__all__ = ["HANDLERS"]

HANDLERS: dict[type[messages.Message], Handler] = {
    messages.StartWorkflow: start_workflow.handle,
    messages.StartStage: start_stage.handle,
    messages.RunTask: run_task.handle,
    messages.CompleteStage: complete_stage.handle,
    messages.ContinueStage: continue_stage.handle,
    messages.EvaluateJoin: evaluate_join.handle,
    messages.ChooseStage: choose_stage.handle,
    messages.CheckMilestone: check_milestone.handle,
    messages.JudgeInstances: judge_instances.handle,
    messages.SettleWorkflow: settle_workflow.handle,
    messages.AcquireLock: acquire_lock.handle,
    messages.LeaveLock: leave_lock.handle,
    messages.ReleaseLock: release_lock.handle,
    messages.TimeOut: time_out.handle,
    messages.ClearWorkflow: clear_workflow.handle,
    messages.ExpireWorkflow: expire_workflow.handle,
    messages.ResumeParked: resume_parked.handle,
    messages.StartSubWorkflow: start_sub_workflow.handle,
    messages.CancelSubWorkflow: cancel_sub_workflow.handle,
    messages.NotifyParent: notify_parent.handle,
    messages.CompleteSubWorkflow: complete_sub_workflow.handle,
    messages.CancelTask: cancel_task.handle,
    messages.FinalizeStage: finalize_stage.handle,
}
