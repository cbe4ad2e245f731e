"""A second opinion on wcp part 1: a direct interpreter of its rules, one thread step at a time, in any order.

It shares nothing with the engine but the scenario format and the expression language, keeps everything in plain
lists, and looks at the whole graph whenever it wants to know what can still arrive. Inner workflows and stages
before and after a stage are not in it.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from stabilize_celery.models.expressions import ConditionError, evaluate, evaluate_condition
from stabilize_celery.testing.conformance.scenario import Effect, EventScript, Scenario, StageScript, Trigger
from stabilize_celery.testing.conformance.steps import Step

__all__ = ["Result", "StuckError", "play"]

GOES_ON = ("SUCCEEDED", "FAILED_CONTINUE", "SKIPPED")
WELL = ("SUCCEEDED", "FAILED_CONTINUE")
LIVE = ("NOT_STARTED", "BUFFERED", "RUNNING", "SUSPENDED")
SAME = {"SUSPENDED": "RUNNING", "BUFFERED": "NOT_STARTED"}
MAX_STEPS = 3_000


class StuckError(Exception):
    """It waits for something that nobody does: no scenario."""


class Result(NamedTuple):
    """What is compared: the workflow's status; per stage its status, its runs, its instances started and done."""

    status: str
    stages: tuple[tuple[str, str], ...]
    runs: tuple[tuple[str, int], ...]
    instances: tuple[tuple[str, int, int], ...]


@dataclass(eq=False)
class Work:
    """The task list of a run, or of one of its instances."""

    index: int | None = None
    task: int = 0
    step: int = 0
    attempt: int = 0
    waits: str = ""
    status: str = "RUNNING"
    is_soft: bool = False
    """A task of it failed and it went on."""
    names: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Run:
    """One run of a stage."""

    ref: str
    created: int
    status: str = "NOT_STARTED"
    started: int = 0
    offer: int = 0
    offered_at: int = 0
    works: list[Work] = field(default_factory=list)
    passed_on: bool = False
    judged: int = 0
    unjudged: list[Work] = field(default_factory=list)
    """Instances that are done, and what that means for the run has not been looked at."""

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.status in LIVE

    @property
    def is_thread(self) -> bool:
        """Whether its thread may still go on from here."""
        return self.is_live and not self.passed_on


@dataclass(eq=False)
class Join:
    """What waits on each edge of a stage, and its cycle."""

    waiting: list[int]
    counted: set[int] = field(default_factory=set)
    has_fired: bool = False


class Oracle:
    """One execution of a scenario's main workflow; `random` decides who is next."""

    def __init__(self, scenario: Scenario, random: Random) -> None:
        self.random = random
        self.scenario = scenario
        self.stages: dict[str, StageScript] = {stage.ref_id: stage for stage in scenario.main.stages}
        self.sources = {ref: sorted(set(stage.requisite_stage_ref_ids)) for ref, stage in self.stages.items()}
        self.targets: dict[str, list[str]] = {
            ref: [other for other in self.stages if ref in self.sources[other]] for ref in self.stages
        }
        self.joins = {ref: Join([0] * len(self.sources[ref])) for ref in self.stages}
        self.runs: list[Run] = []
        self.started: Counter[str] = Counter()
        self.instances: dict[str, list[int]] = {ref: [0, 0] for ref, one in self.stages.items() if one.mi_config}
        self.counts: Counter[Any] = Counter()
        self.kept: dict[str, list[str]] = {ref: [] for ref in self.stages}
        self.status = "RUNNING"
        self.failure_put_off = False
        self.outputs: dict[str, Any] = {}
        """Of ended runs. Which of them a run may see is not judged here: scenarios for it have one line of work."""
        self.sections: set[str | None] = set()
        """Mutex sections that hold their key."""
        self.clock = 0
        self.now = 0
        self.events = list(scenario.events)
        self.due: list[EventScript] = []
        self.delivered: set[str] = set()

    # -- playing -------------------------------------------------------------------------------------------------------

    def play(self) -> Result:
        self._begin()
        for _ in range(MAX_STEPS):
            if self.status != "RUNNING":
                return self.result()
            steps = list(self._steps())
            if not steps:
                self._pass_time()
                continue
            self.random.choice(steps)()
            self._after()
        raise StuckError("it goes on for ever")

    def _begin(self) -> None:
        first = [ref for ref in self.stages if not self.sources[ref]]
        self._offer_or_enable(first, 1)
        self._after()

    def _after(self) -> None:
        if self.status == "RUNNING":
            self._judge_joins()
            self._end_if_nothing_is_left()
            self._close_sections()
        self._look_at_triggers()

    def _steps(self) -> Iterator[Callable[[], None]]:
        for run in self.runs:
            if run.status == "NOT_STARTED" and self._may_try(run):
                yield lambda run=run: self._try_to_start(run)  # type: ignore[misc]
            elif run.status == "RUNNING":
                if run.unjudged:
                    yield lambda run=run: self._judge_instances(run)  # type: ignore[misc]
                for work in run.works:
                    if work.status == "RUNNING" and not work.waits:
                        yield lambda run=run, work=work: self._work(run, work)  # type: ignore[misc]
        for ref in self._cancelling():
            yield lambda ref=ref: self._judge(ref)  # type: ignore[misc]
        for event in self.due:
            yield lambda event=event: self._deliver(event)  # type: ignore[misc]
        if self._is_still():
            yield self._untie

    def _cancelling(self) -> list[str]:
        """Return the cancelling joins that may act: what they cancel may end first, so that is a step of its own."""
        modes = {
            ref: self.stages[ref].join_mode for ref, join in self.joins.items() if sum(join.waiting) or join.counted
        }
        return [ref for ref, mode in modes.items() if mode == "CANCELLING" and self._would_act(ref)]

    def _would_act(self, ref: str) -> bool:
        kept = [deepcopy(self.joins), list(self.runs), [run.status for run in self.runs], self.clock]
        acts = self._judge(ref)
        self.joins, self.runs, self.clock = kept[0], kept[1], kept[3]
        for run, status in zip(self.runs, kept[2], strict=True):
            run.status = status
        return acts

    def _is_still(self) -> bool:
        if self._cancelling():
            return False
        live = [run for run in self.runs if run.is_live]
        return all(
            run.status == "NOT_STARTED" and not self._may_try(run) and self._waits_for_milestone(run) for run in live
        )

    def _pass_time(self) -> None:
        """Nothing can happen without waiting: the next thing that only time keeps back."""
        ticks = [trigger.tick for event in self.events for trigger in event.triggers if trigger.tick is not None]
        offers = [
            run.offered_at + wait for run in self._offered() if (wait := self.stages[run.ref].choose_after) is not None
        ]
        later = [tick for tick in [*ticks, *offers] if tick > self.now]
        late = [run for run in self._offered() if self._chooses_itself(run)]
        if late:
            self._choose(self.random.choice(late))
            self._after()
            return
        if not later:
            raise StuckError("nothing can move")
        self.now = min(later)
        self._look_at_triggers()

    def _chooses_itself(self, run: Run) -> bool:
        wait = self.stages[run.ref].choose_after
        return wait is not None and run.offered_at + wait <= self.now

    # -- threads -------------------------------------------------------------------------------------------------------

    def _tick(self) -> int:
        self.clock += 1
        return self.clock

    def _offered(self) -> list[Run]:
        return [run for run in self.runs if run.is_live and run.offer]

    def _enable(self, ref: str) -> Run:
        run = Run(ref, self._tick())
        self.runs.append(run)
        return run

    def _offer_or_enable(self, refs: list[str], threads: int) -> None:
        groups: dict[str, list[str]] = {}
        for ref in refs:
            group = self.stages[ref].deferred_choice_group
            if group is not None:
                groups.setdefault(group, []).append(ref)
            else:
                for _ in range(threads):
                    self._enable(ref)
        for members in groups.values():
            for _ in range(threads):
                offer = self._tick()
                for ref in members:
                    run = self._enable(ref)
                    run.status, run.offer, run.offered_at = "BUFFERED", offer, self.now

    def _choose(self, chosen: Run) -> None:
        for run in self._offered():
            if run.offer == chosen.offer and run is not chosen:
                self._end_run(run, "SKIPPED")
        chosen.status, chosen.offer = "NOT_STARTED", 0

    def _waits_for_milestone(self, run: Run) -> bool:
        return self._milestone(run) == "wait"

    def _milestone(self, run: Run) -> str:
        stage = self.stages[run.ref]
        if stage.milestone_ref_id is None:
            return "holds"
        ref = stage.milestone_ref_id
        status = self.stage_status(ref)
        if stage.milestone_status in (status, SAME.get(status)):
            return "holds"
        is_active = any(other.ref == ref and other.is_live for other in self.runs)
        return "wait" if is_active or ref in self._passable(None) else "gone"

    def _key_is_free(self, run: Run) -> bool:
        stage = self.stages[run.ref]
        if stage.mutex_key is None:
            return True
        holders = [self.stages[other.ref] for other in self.runs if other.is_live and other.started]
        holders += [one for one in self.stages.values() if one.mutex_section in self.sections]
        section = stage.mutex_section
        return all(one.mutex_key != stage.mutex_key or (section and one.mutex_section == section) for one in holders)

    def _close_sections(self) -> None:
        """Give back the keys of sections in which there is nothing any more."""
        present = {run.ref for run in self.runs if run.is_live}
        present |= {ref for ref, join in self.joins.items() if sum(join.waiting)}
        self.sections &= {self.stages[ref].mutex_section for ref in present}

    def _may_try(self, run: Run) -> bool:
        verdict = self._milestone(run)
        return verdict == "gone" or (verdict == "holds" and self._key_is_free(run))

    def _try_to_start(self, run: Run) -> None:
        if self._milestone(run) == "gone":
            self._end_run(run, "SKIPPED")
            return
        stage = self.stages[run.ref]
        try:
            if not self._is_enabled(stage):
                self._complete(run, "SKIPPED")
                return
        except ConditionError:
            self._fail(run, "TERMINAL")
            return
        self.started[run.ref] += 1
        run.status, run.started = "RUNNING", self.started[run.ref]
        if stage.mutex_section is not None:
            self.sections.add(stage.mutex_section)
        if stage.mi_config is not None:
            self._begin_instances(run)
        elif stage.tasks:
            run.works = [Work()]
        else:
            self._complete(run, "SUCCEEDED")

    def _is_enabled(self, stage: StageScript) -> bool:
        switch = stage.context.get("stageEnabled", True)
        return (
            evaluate_condition(switch["expression"], self._names(stage)) if isinstance(switch, dict) else bool(switch)
        )

    def _names(self, stage: StageScript) -> dict[str, Any]:
        return {**self.scenario.main.context, **self.outputs, **stage.context}

    def _work_names(self, run: Run, work: Work) -> dict[str, Any]:
        seen = {"attempt": work.attempt, "instance_index": work.index}
        return {**self._names(self.stages[run.ref]), **seen, **work.names}

    # -- instances -----------------------------------------------------------------------------------------------------

    def _begin_instances(self, run: Run) -> None:
        stage = self.stages[run.ref]
        config = stage.mi_config
        assert config is not None
        count: Any = config.count
        names = self._names(stage)
        if config.count_from_context:
            count = names.get(config.count_from_context)
        elif config.collection_from_context:
            items = names.get(config.collection_from_context)
            count = len(items) if isinstance(items, list) else None
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            self._fail(run, "TERMINAL")
            return
        self._add(run, count)
        if count == 0:
            self._complete(run, "SUCCEEDED")
        elif not config.sync_on_complete:
            self._pass_on(run)

    def _add(self, run: Run, count: int) -> None:
        self.instances[run.ref][0] += count
        run.works += [Work(len(run.works) + number) for number in range(count)]

    def _takes_more(self, run: Run) -> bool:
        config = self.stages[run.ref].mi_config
        is_open = run.is_live and run.started and not run.passed_on and any(w.status == "RUNNING" for w in run.works)
        return bool(config and config.allow_dynamic and is_open)

    def _count_instance(self, run: Run, work: Work) -> None:
        """Those that are done together are judged together, and one by one, in the order of their ends."""
        self.instances[run.ref][1] += 1
        run.unjudged.append(work)

    def _judge_instances(self, run: Run) -> None:
        run.unjudged.clear()
        self._instances_are_done(run)

    def _instances_are_done(self, run: Run) -> None:
        stage = self.stages[run.ref]
        config = stage.mi_config
        assert config is not None
        done = sum(work.status in WELL for work in run.works)
        total = len(run.works)
        try:
            enough = bool(config.join_threshold and done >= config.join_threshold)
            if config.completion_condition is not None and not run.passed_on:
                for seen in range(run.judged + 1, done + 1):
                    counts = {"completed": seen, "total": total, "active": total - seen}
                    enough |= evaluate_condition(config.completion_condition, {**self._names(stage), **counts})
                run.judged = done
        except ConditionError:
            self._fail(run, "TERMINAL")
            return
        if enough and not run.passed_on and done < total:
            if config.cancel_remaining:
                self._complete(run, self._done_status(run))
                return
            self._pass_on(run)
        if done == total and run.is_live:
            status = self._done_status(run)
            self._end_run(run, status) if run.passed_on else self._complete(run, status)

    @staticmethod
    def _done_status(run: Run) -> str:
        return "FAILED_CONTINUE" if any(w.is_soft or w.status == "FAILED_CONTINUE" for w in run.works) else "SUCCEEDED"

    def _pass_on(self, run: Run) -> None:
        try:
            taken = self._taken(run.ref)
        except ConditionError:
            self._fail(run, "TERMINAL")
            return
        run.passed_on = True
        self._go_on(run, taken)

    # -- work ----------------------------------------------------------------------------------------------------------

    def _work(self, run: Run, work: Work) -> None:
        task = self.stages[run.ref].tasks[work.task]
        key = (run.ref, work.task)
        if work.step == 0:
            self.counts["attempt", *key] += 1
            work.attempt = self.counts["attempt", *key]
        while work.step < len(task.steps):
            step = task.steps[work.step]
            work.step += 1
            over = self._act(run, work, step, key)
            if over is not None:
                return
        self._end_task(run, work, "SUCCEEDED")

    def _act(self, run: Run, work: Work, step: Step, key: Any) -> bool | None:  # noqa: PLR0912 - a case per action
        match step.verb:
            case "succeed" | "skip":
                self._end_task(run, work, "SUCCEEDED")
            case "fail":
                self._end_task(run, work, "TERMINAL")
            case "fail_continue":
                self._end_task(run, work, "FAILED_CONTINUE")
            case "retry":
                if work.attempt > step.argument:
                    return None
                work.step = 0
            case "sleep":
                return True if step.argument else None
            case "wait_for":
                kept = self.kept[run.ref]
                if step.argument in kept:
                    kept.remove(step.argument)
                    return None
                work.waits = step.argument
            case "outputs":
                values = {name: self._value(given, run, work) for name, given in step.argument.items()}
                work.names |= values
                self.outputs |= values
                return None
            case "jump_to":
                if "if" in step.argument and not evaluate_condition(step.argument["if"], self._work_names(run, work)):
                    return None
                self.counts["jump", *key, work.step] += 1
                if self.counts["jump", *key, work.step] > step.argument.get("times", 1 << 30):
                    return None
                self._jump(run, step.argument["target"])
            case "add_instance":
                if self._takes_more(run):
                    self._add(run, 1)
                return None
            case "if":
                if not evaluate_condition(step.argument, self._work_names(run, work)):
                    work.step = step.otherwise
                return None
            case _:
                return None
        return True

    def _value(self, given: Any, run: Run, work: Work) -> Any:
        is_expression = isinstance(given, dict) and set(given) == {"expr"}
        return evaluate(given["expr"], self._work_names(run, work)) if is_expression else given

    def _end_task(self, run: Run, work: Work, status: str) -> None:
        if status == "TERMINAL":
            self._work_failed(run, work)
            return
        work.is_soft |= status == "FAILED_CONTINUE"
        work.task, work.step = work.task + 1, 0
        if work.task < len(self.stages[run.ref].tasks):
            return
        work.status = "FAILED_CONTINUE" if work.is_soft else "SUCCEEDED"
        if work.index is None:
            self._complete(run, work.status)
        else:
            self._count_instance(run, work)

    def _work_failed(self, run: Run, work: Work) -> None:
        status = self._failure_status(self.stages[run.ref])
        work.status = status
        if work.index is not None and status == "FAILED_CONTINUE":
            self._count_instance(run, work)
        elif status == "FAILED_CONTINUE":
            self._complete(run, status)
        else:
            self._fail(run, status)

    @staticmethod
    def _failure_status(stage: StageScript) -> str:
        if stage.context.get("continuePipelineOnFailure"):
            return "FAILED_CONTINUE"
        return "TERMINAL" if stage.context.get("failPipeline", True) else "STOPPED"

    def _jump(self, run: Run, target: str) -> None:
        stage = self.stages[run.ref]
        if stage.mi_config is not None or target not in stage.jump_targets:
            self._fail(run, "TERMINAL" if stage.mi_config is None else self._failure_status(stage))
            return
        if self.counts["jumps"] >= self.scenario.main.max_jumps:
            self._fail(run, "TERMINAL")
            return
        self.counts["jumps"] += 1
        self._end_run(run, "SUCCEEDED")
        self._enable(target)

    # -- ends ----------------------------------------------------------------------------------------------------------

    @staticmethod
    def _end_run(run: Run, status: str) -> None:
        run.status, run.offer = status, 0

    def _complete(self, run: Run, status: str) -> None:
        try:
            taken = self._taken(run.ref)
        except ConditionError:
            self._fail(run, "TERMINAL")
            return
        self._end_run(run, status)
        self._go_on(run, taken, is_bypassed=status == "SKIPPED")

    def _taken(self, ref: str) -> list[str]:
        stage, targets = self.stages[ref], self.targets[ref]
        if stage.split_type == "AND" or not targets:
            return targets
        names, taken = self._names(stage), set[str]()
        for target, expression in stage.split_conditions.items():
            if evaluate_condition(expression, names):
                taken.add(target)
                if stage.split_type == "XOR":
                    break
        if stage.split_type == "OR":
            taken |= {t for t in targets if t not in stage.split_conditions and t != stage.split_default}
        if not taken and stage.split_default is None:
            raise ConditionError("no branch")
        return [t for t in targets if t in (taken or {stage.split_default})]

    def _go_on(self, run: Run, taken: list[str], *, is_bypassed: bool = False) -> None:
        stage = self.stages[run.ref]
        if not is_bypassed:
            if stage.terminates_workflow:
                self._finish("TERMINAL" if self.failure_put_off else "SUCCEEDED")
                return
            self._cancel([r for r, s in self.stages.items() if s.cancel_region in stage.cancels_regions], spare=run)
        direct = []
        for target in taken:
            if self._is_direct(target):
                direct.append(target)
            else:
                self.joins[target].waiting[self.sources[target].index(run.ref)] += stage.thread_split
        self._offer_or_enable(direct, stage.thread_split)

    def _is_direct(self, ref: str) -> bool:
        stage = self.stages[ref]
        return not stage.thread_merge and (len(self.sources[ref]) < 2 or stage.join_type == "MULTI_MERGE")

    def _fail(self, run: Run, status: str) -> None:
        stage = self.stages[run.ref]
        self._end_run(run, status)
        if status == "TERMINAL" and not stage.context.get("allowSiblingStagesToContinueOnFailure"):
            self._finish("TERMINAL")
        elif status == "TERMINAL" or stage.context.get("completeOtherBranchesThenFail"):
            self.failure_put_off = True

    def _finish(self, status: str) -> None:
        self.status = status
        self._cancel(list(self.stages))

    def _cancel(self, refs: list[str], spare: Run | None = None) -> bool:
        found = False
        for ref in refs:
            for run in self.runs:
                if run.ref == ref and run.is_live and run is not spare:
                    self._end_run(run, "CANCELED")
                    found = True
            found |= self._drop(ref)
        return found

    def _drop(self, ref: str) -> bool:
        join = self.joins[ref]
        dropped = sum(join.waiting) + (0 if join.has_fired else len(join.counted))
        join.waiting = [0] * len(join.waiting)
        if not join.has_fired:
            join.counted = set()
        if dropped:
            self.runs.append(Run(ref, self._tick(), "CANCELED"))
        return bool(dropped)

    def _end_if_nothing_is_left(self) -> None:
        is_empty = not any(sum(join.waiting) for join in self.joins.values())
        if self.status == "RUNNING" and is_empty and not any(run.is_live for run in self.runs):
            self.status = "TERMINAL" if self.failure_put_off else "SUCCEEDED"

    # -- joins ---------------------------------------------------------------------------------------------------------

    def _passable(self, judged: str | None) -> set[str]:
        """Return the stages out of which a live thread may still come (1.5)."""
        found = {run.ref for run in self.runs if run.is_thread}
        while True:
            more = {ref for ref in self.stages if ref not in found and ref != judged and self._may_pass(ref, found)}
            if not more:
                return found
            found |= more

    def _may_pass(self, ref: str, found: set[str]) -> bool:
        if any(ref in self.stages[source].jump_targets for source in found):
            return True
        join, stage = self.joins[ref], self.stages[ref]
        filled = [
            at
            for at, source in enumerate(self.sources[ref])
            if join.waiting[at] or source in found or (at in join.counted and not join.has_fired)
        ]
        if self._is_direct(ref) or stage.thread_merge:
            return bool(filled)
        if stage.join_type == "AND":
            return len(filled) == len(join.waiting)
        if stage.join_type == "N_OF_M":
            return len(filled) >= (stage.join_threshold or len(join.waiting))
        return bool(filled)

    def _judge_joins(self) -> None:
        is_changed = True
        while is_changed and self.status == "RUNNING":
            is_changed = False
            for ref in self.stages:
                if not self._is_direct(ref) and self.stages[ref].join_mode != "CANCELLING" and self._judge(ref):
                    is_changed = True

    def _judge(self, ref: str) -> bool:
        join, stage = self.joins[ref], self.stages[ref]
        found = self._passable(ref)
        is_open = [at for at, source in enumerate(self.sources[ref]) if source in found]
        filled = [at for at, count in enumerate(join.waiting) if count]
        if stage.thread_merge:
            return self._merge(ref, join, stage.thread_merge, is_open=bool(is_open))
        if stage.join_type in ("DISCRIMINATOR", "N_OF_M"):
            return self._judge_cycle(ref, join, stage, is_open)
        if not filled:
            return False
        if stage.join_type == "OR":
            return self._fire(ref, filled) if not set(is_open) - set(filled) else False
        if len(filled) == len(join.waiting):
            return self._fire(ref, filled)
        if any(at not in filled and at not in is_open for at in range(len(join.waiting))):
            join.waiting = [0] * len(join.waiting)
            return True
        return False

    def _merge(self, ref: str, join: Join, group: int, *, is_open: bool) -> bool:
        if join.waiting[0] >= group:
            join.waiting[0] -= group
            self._enable(ref)
            return True
        if join.waiting[0] and not is_open:
            join.waiting[0] = 0
            return True
        return False

    def _fire(self, ref: str, edges: list[int]) -> bool:
        for at in edges:
            self.joins[ref].waiting[at] -= 1
        self._enable(ref)
        return True

    def _judge_cycle(self, ref: str, join: Join, stage: StageScript, is_open: list[int]) -> bool:
        size = len(join.waiting)
        need = 1 if stage.join_type == "DISCRIMINATOR" else (stage.join_threshold or size)
        for at in range(size):
            if join.waiting[at] and at not in join.counted:
                join.waiting[at] -= 1
                join.counted.add(at)
                if not join.has_fired and len(join.counted) >= need:
                    join.has_fired = True
                    self._enable(ref)
                    if stage.join_mode == "CANCELLING":
                        join.waiting, join.counted, join.has_fired = [0] * size, set(), False
                        self._cancel(self._upstream(ref))
                return True
        to_come = [at for at in is_open if at not in join.counted]
        is_doomed = not join.has_fired and len(join.counted) + len(to_come) < need
        if join.counted and (is_doomed or (join.has_fired and not to_come)):
            join.counted, join.has_fired = set(), False
            return True
        return False

    def _upstream(self, ref: str) -> list[str]:
        found: set[str] = set()
        left = [ref]
        while left:
            fresh = set(self.sources[left.pop()]) - found
            found |= fresh
            left += fresh
        return sorted(found)

    def _order(self) -> list[str]:
        order: list[str] = []
        while len(order) < len(self.stages):
            order.append(next(r for r in self.stages if r not in order and set(self.sources[r]) <= set(order)))
        return order

    def _untie(self) -> None:
        """Break a standstill (1.6): an OR-join, else a held run, else what is left over."""
        for ref in self._order():
            filled = [at for at, count in enumerate(self.joins[ref].waiting) if count]
            if filled and self.stages[ref].join_type == "OR" and not self._is_direct(ref):
                self._fire(ref, filled)
                return
        held = [run for ref in self._order() for run in self.runs if run.ref == ref and run.is_live]
        if held:
            self._end_run(held[0], "SKIPPED")
            return
        for join in self.joins.values():
            join.waiting = [0] * len(join.waiting)

    # -- outside -------------------------------------------------------------------------------------------------------

    def _look_at_triggers(self) -> None:
        for event in list(self.events):
            if all(self._holds(trigger) for trigger in event.triggers):
                self.events.remove(event)
                self.due.append(event)

    def _holds(self, trigger: Trigger) -> bool:
        if trigger.tick is not None:
            return trigger.tick <= self.now
        if trigger.event is not None:
            return trigger.event in self.delivered
        if trigger.ended is not None:
            return self.status != "RUNNING"
        ref = trigger.stage or ""
        of_stage = [run for run in self.runs if run.ref == ref]
        match trigger.kind:
            case "started":
                return self.started[ref] >= trigger.count
            case "completed":
                return sum(bool(run.started) and run.status in WELL for run in of_stage) >= trigger.count
            case "suspended":
                return sum(bool(work.waits) for run in of_stage if run.is_live for work in run.works) >= trigger.count
            case "instances_completed":
                return self.instances[ref][1] >= trigger.count
            case "offered":
                return any(run.offer for run in of_stage)
            case "held":
                return any(run.is_live and (run.offer or not self._may_try(run)) for run in of_stage if not run.started)
            case status:
                return self.stage_status(ref) == status.upper()

    def _deliver(self, event: EventScript) -> None:
        self.due.remove(event)
        if event.id:
            self.delivered.add(event.id)
        if self.status == "RUNNING":
            self._do(event.do)

    def _do(self, effect: Effect) -> None:  # noqa: PLR0912 - a case per event
        ref = (effect.target or "").rpartition("/")[2]
        live = sorted((run for run in self.runs if run.ref == ref and run.is_live), key=lambda run: run.created)
        match effect.verb:
            case "signal":
                self._signal(ref, effect)
            case "cancel_workflow":
                self._finish("CANCELED")
            case "cancel_stage":
                self._cancel([ref])
            case "cancel_region":
                self._cancel([r for r, s in self.stages.items() if s.cancel_region == effect.cancel_region])
            case "skip_stage":
                if live:
                    self._skip(live[0])
            case "choose":
                offered = [run for run in live if run.offer]
                if offered:
                    self._choose(offered[0])
            case "add_instances":
                for run in [run for run in live if self._takes_more(run)][:1]:
                    self._add(run, effect.add_instances or 0)
            case "complete_mi":
                for run in [run for run in live if run.started and self.stages[ref].mi_config][:1]:
                    self._end_run(run, "SUCCEEDED") if run.passed_on else self._complete(run, "SUCCEEDED")

    def _skip(self, run: Run) -> None:
        if run.offer:
            self._choose(run)
        if run.passed_on:
            self._end_run(run, "SKIPPED")
        else:
            self._complete(run, "SKIPPED")

    def _signal(self, ref: str, effect: Effect) -> None:
        name = effect.signal or ""
        waiting = [
            (run.started, work.index or 0, work)
            for run in self.runs
            if run.ref == ref and run.is_live
            for work in run.works
            if work.waits == name and effect.instance in (None, work.index)
        ]
        if waiting:
            min(waiting, key=lambda found: found[:2])[2].waits = ""
        elif effect.persistent:
            self.kept[ref].append(name)

    # -- what became of it ---------------------------------------------------------------------------------------------

    def stage_status(self, ref: str) -> str:
        of_stage = [run for run in self.runs if run.ref == ref]
        newest = [run for run in of_stage if run.is_live] or of_stage
        if not newest:
            is_over = self.status != "RUNNING" or not self._may_come(ref)
            return "SKIPPED" if is_over else "NOT_STARTED"
        run = max(newest, key=lambda run: run.created)
        return self._work_status(run) if run.status == "RUNNING" else run.status

    def _may_come(self, ref: str) -> bool:
        return ref in self._passable(None)

    @staticmethod
    def _work_status(run: Run) -> str:
        unfinished = [work for work in run.works if work.status == "RUNNING"]
        return "SUSPENDED" if unfinished and all(work.waits for work in unfinished) else "RUNNING"

    def result(self) -> Result:
        return Result(
            self.status,
            tuple((ref, self.stage_status(ref)) for ref in self.stages),
            tuple((ref, self.started[ref]) for ref in self.stages),
            tuple((ref, started, done) for ref, (started, done) in self.instances.items()),
        )


def play(scenario: Scenario, seed: int) -> Result:
    """Return what becomes of a scenario's main workflow in one order of steps. Raises StuckError."""
    return Oracle(scenario, Random(seed)).play()
