"""A body returns while Redis is away: its process keeps the result, and records it once Redis is back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from stabilize_celery.errors import PayloadError, UnreachableError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.models.task import TaskExecution
from stabilize_celery.models.workflow import Workflow
from stabilize_celery.runtime.leases import Leases
from stabilize_celery.settings import MODES
from stabilize_celery.store.memory import _MemoryLink
from stabilize_celery.store.wire import Command, LinkLostError
from tests.unit.runtime.test_running import Watcher

_OUTAGE = 6
"""How many pauses a process makes until Redis is back."""


class Outage(Watcher):
    """A process whose server is away from the moment when its first body returns, for some pauses."""

    takes_reads = False

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, mode: str = "per_message", lasts: int = _OUTAGE, **options: float
    ) -> None:
        self.bodies = 0
        self.pauses: list[float] = []
        self.left = 0
        self.lasts = lasts
        super().__init__(lambda _: self._body(), pause_ms=self._pause, mode=mode, **options)
        exchange = _MemoryLink.exchange

        def exchanged(link: _MemoryLink, commands: Sequence[Command]) -> object:
            if self.left and not (self.takes_reads and ("MULTI",) not in commands):
                raise LinkLostError("Connection refused", was_stale=False)
            return exchange(link, commands)

        monkeypatch.setattr(_MemoryLink, "exchange", exchanged)

    def _body(self) -> TaskResult:
        self.bodies += 1
        self.left = self.lasts if self.bodies == 1 else 0
        return TaskResult.success({"body": self.bodies})

    def _pause(self, ms: float) -> None:
        if ms < 100:
            return  # between two tries of one commit
        self.pauses.append(ms)
        self.left -= 1
        self.comes_back()

    def comes_back(self) -> None:
        """Do what else happens meanwhile."""

    def outputs(self) -> dict[str, object]:
        return dict(self.runtime.read(self.id).stages[0].outputs)


@pytest.mark.parametrize("mode", MODES)
def test_a_result_waits_until_it_can_be_recorded(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again after longer and longer pauses; the body runs once, and the workflow goes on."""
    outage = Outage(monkeypatch, mode)
    stages = [
        StageExecution(ref_id="a", tasks=[TaskExecution.create("job", "job")]),
        StageExecution(ref_id="b", tasks=[TaskExecution.create("job", "job")], requisite_stage_ref_ids={"a"}),
    ]
    outage.id = outage.runtime.submit(Workflow(application="tests", name="w", stages=stages))
    outage.deliver_all()

    assert outage.pauses == [100, 200, 400, 800, 1000, 1000]
    assert [stage.outputs["body"] for stage in outage.runtime.read(outage.id).stages] == [1, 2]
    assert outage.runtime.read(outage.id).status.name == "SUCCEEDED"


@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_answers_reads_alone_is_waited_for_too(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No commit comes through, as while writes are paused: a result is not dropped when the last try is lost."""

    class ReadOnly(Outage):
        takes_reads = True

    outage = ReadOnly(monkeypatch, mode).run()

    assert (outage.bodies, outage.outputs()) == (1, {"body": 1})
    assert len(outage.pauses) == _OUTAGE


def test_whoever_has_claimed_the_task_meanwhile_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its claim was reaped while it was cut off, and another attempt has begun: what it kept comes too late."""

    class CutOff(Outage):
        def comes_back(self) -> None:
            if self.left == 0:
                assert self.claim is not None
                Leases(self.store, self.publisher, self.settings, "keeper").report_lost(
                    self.claim.workflow_id, self.claim.name, self.claim.owner
                )
                self.deliver_all()

    outage = CutOff(monkeypatch).run()

    assert (outage.bodies, outage.outputs()) == (2, {"body": 2})
    assert [event.status.name for event in outage.runtime.read(outage.id).stages] == ["SUCCEEDED"]


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_node_that_is_away_for_long_does_not_keep_a_process_from_the_others(
    elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a cluster, some nodes still answer: after a minute the process is theirs. Where none does, it waits on."""
    outage = Outage(monkeypatch, lasts=200)
    if elsewhere:
        with pytest.raises(UnreachableError):
            outage.run()
        assert 60_000 < sum(outage.pauses) < 62_000
        return
    monkeypatch.setattr(outage.store, "first_due", _away)
    outage.run()
    assert len(outage.pauses) == 200
    assert outage.bodies == 1
    assert outage.outputs() == {"body": 1}


@pytest.mark.parametrize("mode", MODES)
def test_what_took_longer_than_it_may_is_no_success_for_an_outage(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could fence it while Redis was away; its process does before it records what it kept."""

    class Slow(Outage):
        def _body(self) -> TaskResult:
            self.now_ms += 20
            return super()._body()

    outage = Slow(monkeypatch, mode, timeout_s=0.01).run()

    found = outage.runtime.read(outage.id)
    assert (found.status.name, found.stages[0].outputs) == ("TERMINAL", {})
    assert "took longer than 0.01 s" in str(found.stages[0].tasks[0].task_exception_details)


def test_a_process_that_is_to_end_gives_its_result_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm shutdown waits for one more try at most; the task stays owed."""

    class Stopped(Outage):
        def comes_back(self) -> None:
            self.is_stopping = True

    outage = Stopped(monkeypatch, lasts=3)
    with pytest.raises(UnreachableError):
        outage.run()

    assert outage.pauses == [100]
    outage.left = 0
    assert outage.runtime.read(outage.id).status.name == "RUNNING"


def test_a_result_that_only_this_process_cant_write_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key or directory is no outage: another worker may have it."""

    class Unwritable(Outage):
        def _body(self) -> TaskResult:
            monkeypatch.setattr(self.store._vault, "sealed", _refuse, raising=True)
            return TaskResult.success()

    outage = Unwritable(monkeypatch, lasts=0)
    with pytest.raises(PayloadError):
        outage.run()

    assert outage.pauses == []


def _refuse(*_: object) -> None:
    raise PayloadError("the directory is not there")


def _away(*_: object, **__: object) -> None:
    raise UnreachableError("the state server", "redis://nowhere", "Start it.")
