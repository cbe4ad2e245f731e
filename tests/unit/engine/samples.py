"""One message of each kind, and the name under which it is owed: both stand for ever."""

from stabilize_celery.models import messages as m
from stabilize_celery.models.messages import Message

W = "w1"

SAMPLES: dict[str, Message] = {
    "Begin": m.StartWorkflow(workflow_id=W),
    "Start:t": m.StartStage(workflow_id=W, ref_id="a", thread="t"),
    "Run:t..2": m.RunTask(workflow_id=W, ref_id="a", thread="t", task_index=2, task_type="shell"),
    "Run:t.7.2": m.RunTask(workflow_id=W, ref_id="a", thread="t", task_index=2, task_type="shell", instance=7),
    "Done:t": m.CompleteStage(workflow_id=W, ref_id="a", thread="t"),
    "Continue:t": m.ContinueStage(workflow_id=W, ref_id="a", thread="t"),
    "Inst:t": m.JudgeInstances(workflow_id=W, ref_id="a", thread="t"),
    "Choose:t": m.ChooseStage(workflow_id=W, ref_id="a", thread="t"),
    "Mile:a": m.CheckMilestone(workflow_id=W, ref_id="a"),
    "Eval:a": m.EvaluateJoin(workflow_id=W, ref_id="a"),
    "Settle": m.SettleWorkflow(workflow_id=W),
    "Lock:t#1": m.AcquireLock(workflow_id=W, ref_id="a", thread="t", request=1),
    "Unlock:t#1": m.ReleaseLock(workflow_id=W, ref_id="a", thread="t", request=1, lock="GLOBAL:k"),
    "Leave:t": m.LeaveLock(workflow_id=W, ref_id="a", thread="t"),
    "TO:workflow": m.TimeOut(workflow_id=W, scope="workflow"),
    "TO:stage:t": m.TimeOut(workflow_id=W, scope="stage", ref_id="a", thread="t"),
    "TO:task:t..1": m.TimeOut(workflow_id=W, scope="task", ref_id="a", thread="t", task_index=1),
    "TO:wait:t.3.1": m.TimeOut(workflow_id=W, scope="wait", ref_id="a", thread="t", task_index=1, instance=3),
    "Clear": m.ClearWorkflow(workflow_id=W),
    "Expire": m.ExpireWorkflow(workflow_id=W),
    "Unpark": m.ResumeParked(workflow_id=W),
    "Child:t": m.StartSubWorkflow(workflow_id=W, ref_id="a", thread="t", child_id="w2"),
    "Kill:t": m.CancelSubWorkflow(workflow_id=W, thread="t", child_id="w2"),
    "Notify": m.NotifyParent(workflow_id=W),
    "ChildDone:t": m.CompleteSubWorkflow(workflow_id=W, ref_id="a", thread="t", child_id="w2"),
    "Cancel:t.2": m.CancelTask(workflow_id=W, ref_id="a", thread="t", task_index=2, task_type="shell"),
    "Finalize:t": m.FinalizeStage(workflow_id=W, ref_id="a", thread="t"),
}
