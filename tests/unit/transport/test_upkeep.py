"""The background work of a worker's main process, and that its threads survive everything."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from stabilize_celery.engine.steps import Slot
from stabilize_celery.errors import UnreachableError
from stabilize_celery.transport.duty import Duty
from stabilize_celery.transport.reports import Report, Reports
from stabilize_celery.transport.turns import Turns
from stabilize_celery.transport.upkeep import Attempt, Upkeep, fleet_line
from tests.unit.runtime.world import World

W, RUN, ME = "01HWORKFLOW", "Run:t..0", "w0@host#1"
TASK = f"{W}/{RUN}"


class Bench:
    """One worker's upkeep over a world."""

    def __init__(self, limit_s: float | None = None, **settings: int) -> None:
        self.world = World(**settings)
        self.world.keeper.give_back()
        self.reports = Reports()
        self.running: list[Attempt] = []
        self.turns = Turns()
        self.upkeep = Upkeep(
            self.world.store,
            self.world.publisher,
            self.world.settings,
            ME,
            self.reports,
            running=lambda: self.running,
            line=lambda: fleet_line("w0@host", ["work"], ["q"]),
            time_limit_s=lambda _: limit_s,
            turns=self.turns,
        )

    def claimed(self, since_s: float = 1e12) -> None:
        self.world.owe(W, RUN, own=f"{ME}:7/nonce", att=1, due_ms=self.world.now_ms + 1)
        self.running.append(Attempt(TASK, "work", since_s))


def test_what_runs_here_gets_its_heartbeat() -> None:
    """In the first round, then every third of a lease."""
    bench = Bench()
    bench.claimed()
    pause_s = bench.upkeep.heartbeat_round()

    assert bench.world.due_in(W, RUN) == bench.world.settings.lease_ms
    assert 2.5 < pause_s <= bench.world.settings.lease_ms / 3000


def test_what_a_process_goes_on_with_gets_its_heartbeat_too() -> None:
    """A task that came from no broker is known only from what its process has told."""
    bench = Bench()
    bench.claimed()
    bench.running.clear()

    with bench.turns.going_on(TASK, "work", "RunTask"):
        bench.upkeep.heartbeat_round()

    assert bench.world.due_in(W, RUN) == bench.world.settings.lease_ms


def test_what_takes_longer_than_it_may_gets_none() -> None:
    """Its lease runs out, and it is tried by somebody else."""
    bench = Bench(limit_s=5)
    bench.claimed(since_s=0)
    bench.upkeep.heartbeat_round()
    assert bench.world.due_in(W, RUN) == 1


@pytest.mark.parametrize(("is_lost", "losses"), [(True, 1), (False, 0)])
def test_a_report_is_acted_on_in_the_next_round(is_lost: bool, losses: int, caplog: pytest.LogCaptureFixture) -> None:
    """A dead child counts as a loss, a cold shutdown does not; either way the task goes out."""
    bench = Bench()
    bench.claimed()
    bench.running.clear()
    bench.reports.add(Report(TASK, 7, is_lost, died="of hunger"))

    bench.upkeep.heartbeat_round()

    assert bench.world.entry(W, RUN).lost == losses
    assert bench.world.entry(W, RUN).died == ("of hunger" if is_lost else "")
    assert caplog.messages == ([f"{TASK}: the process that ran it is gone (of hunger); it is tried again"] * losses)
    assert bench.world.entry(W, RUN).own == ""
    assert bench.reports.waiting() == ()
    assert len(bench.world.publisher.take("RunTask")) == 1


def test_a_report_about_another_process_changes_nothing() -> None:
    """A duplicate that died in process 8 leaves the claim of process 7 alone."""
    bench = Bench()
    bench.claimed()
    bench.reports.add(Report(TASK, 8, is_lost=True))
    bench.upkeep.heartbeat_round()
    assert bench.world.entry(W, RUN).own == f"{ME}:7/nonce"


def test_a_report_waits_while_redis_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not forgotten."""
    bench = Bench()
    bench.claimed()
    bench.reports.add(Report(TASK, 7, is_lost=True))

    def away(*_: Any) -> Any:
        raise UnreachableError("the state server", "redis://x", "Start it.")

    with monkeypatch.context() as patch:
        patch.setattr(bench.world.store, "session", away)
        with pytest.raises(UnreachableError):
            bench.upkeep.heartbeat_round()

    bench.upkeep.heartbeat_round()
    assert bench.world.entry(W, RUN).lost == 1


def put_elsewhere_out_of_reach(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the node of the workflow `elsewhere` be away, and no other."""
    session = bench.world.store.session

    def partly_away(slot: Slot) -> Any:
        if slot.name == "elsewhere":
            raise UnreachableError("the state server", "redis://x", "Start it.")
        return session(slot)

    monkeypatch.setattr(bench.world.store, "session", partly_away)


def test_a_report_that_waits_for_its_node_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs here and lies on other nodes of a cluster keeps its lease; so do later reports come to their end."""
    bench = Bench()
    bench.claimed()
    bench.reports.add(Report("elsewhere/Run:t..0", 7, is_lost=True))
    bench.reports.add(Report(f"{W}/Run:t..1", 7, is_lost=True))
    put_elsewhere_out_of_reach(bench, monkeypatch)
    with pytest.raises(UnreachableError):
        bench.upkeep.heartbeat_round()

    assert bench.world.due_in(W, RUN) == bench.world.settings.lease_ms
    assert [report.task_id for report in bench.reports.waiting()] == ["elsewhere/Run:t..0"]


def test_a_report_that_nothing_can_be_done_about_is_forgotten() -> None:
    """Somebody else's delivery with an id of its own, whose process died: tried for ever, it would end all heartbeats."""
    bench = Bench()
    bench.claimed()
    bench.reports.add(Report("no-ledger-message", 7, is_lost=True))

    bench.upkeep.heartbeat_round()

    assert bench.world.due_in(W, RUN) == bench.world.settings.lease_ms
    assert bench.reports.waiting() == ()


def test_a_worker_is_in_the_fleet_from_its_first_round_to_its_last() -> None:
    """With the task types it knows; at the end it gives everything back."""
    bench = Bench()
    bench.claimed()
    bench.upkeep.keeper_round()
    (line,) = bench.world.store.fleet().values()
    assert (line["types"], line["queues"], line["node"]) == (b"work", b"q", b"w0@host")
    assert bench.upkeep.keeper.held == (0, 1)

    bench.upkeep.finish()

    assert bench.world.store.fleet() == {}
    assert bench.world.new_keeper("next").held == (0, 1)
    assert bench.world.entry(W, RUN).own == ""


@pytest.mark.parametrize("is_patient", [True, False])
def test_a_shutdown_gives_back_what_lies_on_nodes_that_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_patient: bool
) -> None:
    """What lies elsewhere holds it up for a while at most, and is said once."""
    if not is_patient:
        monkeypatch.setattr("stabilize_celery.transport.upkeep._TIME_OUTS", 0)
    bench = Bench()
    bench.running.append(Attempt("elsewhere/Run:t..0", "work", 1e12))
    bench.running.append(Attempt("elsewhere/Run:t..1", "work", 1e12))
    bench.claimed()
    bench.upkeep.keeper_round()
    put_elsewhere_out_of_reach(bench, monkeypatch)
    bench.upkeep.finish()

    assert (bench.world.entry(W, RUN).own == "") is is_patient
    assert (bench.world.new_keeper("next").held == (0, 1)) is is_patient
    assert (bench.world.store.fleet() == {}) is is_patient
    assert caplog.text.count("runs out by itself") == 1


@pytest.mark.parametrize(
    ("others", "told"),
    [
        (
            [],
            ["'stabilize.control': no workflow moves on", "'stabilize.work': no task"],
        ),
        (["stabilize.work"], ["no worker listens on queue 'stabilize.control'"]),
        (["stabilize.control\nstabilize.work"], []),
    ],
)
def test_queues_that_nobody_consumes_are_told_once(
    caplog: pytest.LogCaptureFixture, others: list[str], told: list[str]
) -> None:
    """Soon after the start of any worker: one of `-Q celery` takes none of our messages, and would never say so."""
    bench = Bench()
    bench.world.store.announce("gone", {"queues": "stabilize.control\nstabilize.work"})
    bench.world.now_ms += 20_000
    for number, queues in enumerate(others):
        bench.world.store.announce(f"w{number}@other", {"queues": queues})
    bench.upkeep.keeper_round()
    bench.upkeep._attendance_at = 0.0
    bench.upkeep.keeper_round()
    bench.upkeep.keeper_round()

    found = [record.message for record in caplog.records if "no worker listens" in record.message]
    assert len(found) == len(told)
    assert all(text in line for text, line in zip(told, found, strict=True))


def test_who_starts_beside_others_gives_them_time(caplog: pytest.LogCaptureFixture) -> None:
    """A fleet of control and task workers has no false alarm at each start."""
    Bench().upkeep.keeper_round()

    assert "no worker listens" not in caplog.text


def test_an_idle_worker_makes_few_round_trips() -> None:
    """One per keeper round, a second apart, and three per 5 s beside; heartbeats of nothing cost nothing."""
    bench = Bench()
    bench.upkeep.keeper_round()
    bench.upkeep.heartbeat_round()
    before = bench.world.store.round_trips

    assert bench.upkeep.keeper_round() == 1.0
    bench.upkeep.heartbeat_round()

    assert bench.world.store.round_trips == before + 1


def test_the_keepers_round_sweeps_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 5 s, over the partitions that this worker holds; the fleet registry tells how much was mended."""
    bench = Bench()
    held: list[Any] = []
    monkeypatch.setattr(bench.upkeep.sweep, "step", lambda partitions, _: held.append(partitions))
    clock = [time.monotonic()]
    monkeypatch.setattr("stabilize_celery.transport.upkeep.time.monotonic", lambda: clock[0])
    for _ in range(12):
        bench.upkeep.keeper_round()
        clock[0] += 1
    bench.upkeep.sweep.stats.repaired = 3
    clock[0] += 5
    bench.upkeep.keeper_round()

    assert held == [(0, 1)] * 3
    (line,) = bench.world.store.fleet().values()
    assert (line["repaired"], line["set_aside"]) == (b"3", b"0")


@pytest.mark.parametrize("chore", ["store.announce", "scheduler.step"])
def test_a_chore_that_fails_holds_up_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, chore: str
) -> None:
    """Neither the keeper nor the other chores; it is tried again when its time comes, not at each round."""
    bench = Bench()
    swept: list[Any] = []

    def fail(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    owner = {"store": bench.world.store, "scheduler": bench.upkeep.scheduler}[chore.partition(".")[0]]
    monkeypatch.setattr(owner, chore.partition(".")[2], fail)
    monkeypatch.setattr(bench.upkeep.sweep, "step", lambda partitions, _: swept.append(partitions))
    clock = [time.monotonic() + 10]
    monkeypatch.setattr("stabilize_celery.transport.upkeep.time.monotonic", lambda: clock[0])

    assert [bench.upkeep.keeper_round(), bench.upkeep.keeper_round()] == [1.0, 1.0]
    assert swept == [(0, 1)]
    assert caplog.text.count("ZeroDivisionError: a bug") == 1


def test_a_duty_goes_on_whatever_happens(caplog: pytest.LogCaptureFixture) -> None:
    """Redis away is said once, with growing pauses, and its return too; an unexpected error has its traceback."""
    away = UnreachableError("the state server", "redis://x", "Start it.")
    script: list[Any] = [0.25, away, away, away, away, away, 0.25, ZeroDivisionError("a bug"), 0.25]
    seen = iter(script)

    def act() -> float:
        step = next(seen)
        if isinstance(step, Exception):
            raise step
        return float(step)

    with caplog.at_level(logging.INFO):
        duty = Duty("keeper", act)
        pauses = [duty.once() for _ in script]

    assert pauses == [0.25, 1.0, 2.0, 4.0, 8.0, 10.0, 0.25, 1.0, 0.25]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "ERROR"]
    assert "a bug" in caplog.text


def test_a_duty_that_must_not_be_late_makes_short_pauses() -> None:
    """Whatever of it fails, and for how long: the rest is done in time."""

    def act() -> float:
        raise UnreachableError("the state server", "redis://x", "Start it.")

    duty = Duty("heartbeat", act, longest_pause_s=3.0)

    assert [duty.once() for _ in range(4)] == [1.0, 2.0, 3.0, 3.0]
    assert Duty("heartbeat", act, longest_pause_s=0.5).once() == 0.5


def test_a_duty_ends_when_it_is_told_to() -> None:
    """Without waiting for the end of its pause."""
    duty = Duty("keeper", lambda: 3600.0)
    duty.start()
    duty.stop()
    duty.join(10)
    assert not duty.is_alive()
