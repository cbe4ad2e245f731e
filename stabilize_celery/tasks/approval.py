"""The ready-made `approval`: suspends its stage until somebody decides."""

from typing_extensions import override

from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.call import current_call
from stabilize_celery.tasks.inputs import InputReader
from stabilize_celery.tasks.results import failed
from stabilize_celery.tasks.task import Task, Wait

__all__ = ["ApprovalTask"]

_REJECT = "reject"


class ApprovalTask(Task):
    """Waits for the signal named `signal`, then succeeds with the outputs `signal` and `payload`.

    Context: `signal`; `deadline_s` (optional: fail when nobody has decided after so many seconds).

    Without `signal`, any signal wakes it, and a signal named `reject` fails it: TERMINAL, or FAILED_CONTINUE with
    `approval_reject_continues: true`. Its outputs are `approved` (true or false) and `approval`, the payload, too.
    """

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        call = current_call()
        inputs = InputReader(stage, "approval")
        wanted = inputs.text("signal")
        if call.signal is None:
            return TaskResult.suspend()
        outputs = {"signal": call.signal, "payload": call.signal_payload}
        if wanted:
            return TaskResult.success(outputs=outputs)
        outputs |= {"approval": call.signal_payload, "approved": call.signal != _REJECT}
        if call.signal == _REJECT:
            return failed("rejected", outputs, go_on=inputs.flag("approval_reject_continues"))
        return TaskResult.success(outputs=outputs)

    @override
    def waits_for(self, stage: StageExecution) -> Wait | None:
        inputs = InputReader(stage, "approval")
        return Wait(inputs.text("signal") or "", inputs.seconds_as_ms("deadline_s"))
