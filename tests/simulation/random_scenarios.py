"""Random scenarios of the conformance format, small and dense: every pattern meets every other one sooner or later."""

from random import Random
from typing import Any

import msgspec

from stabilize_celery.testing.conformance.scenario import Scenario

__all__ = ["FEATURES", "random_scenario", "scenario_of"]

FAILURES: list[dict[str, Any]] = [
    {},
    {"continuePipelineOnFailure": True},
    {"failPipeline": False},
    {"failPipeline": False, "completeOtherBranchesThenFail": True},
    {"allowSiblingStagesToContinueOnFailure": True},
]
CONDITIONS = ["True", "False", "n > 1", "n == 1", "not n", "n % 2 == 0"]
ACTIONS: list[list[Any]] = [
    ["succeed"],
    [],
    [{"sleep": 1}],
    [{"sleep": 3}],
    [{"wait_for": "go"}],
    [{"wait_for": "go"}, {"sleep": 1}],
    [{"retry": 1}],
    ["skip"],
    ["fail_continue"],
    ["fail"],
]
MILESTONES = ("NOT_STARTED", "RUNNING", "SUCCEEDED", "SKIPPED", "SUSPENDED", "STOPPED", "CANCELED")
FEATURES = (
    "splits", "jumps", "threads", "merges", "instances", "milestones", "regions", "ends", "keys", "sections",
    "choices", "cancelling", "switches", "failures", "events", "outputs", "around", "calls",
)  # fmt: skip
"""What a scenario may have; each has about a third of them."""


def scenario_of(document: dict[str, Any]) -> Scenario:
    """Return a scenario as if it had been read from a file."""
    return msgspec.convert(document, Scenario)


def random_scenario(seed: int) -> dict[str, Any]:
    """Return the document of a scenario; the same seed gives the same one."""
    return _Maker(Random(seed)).make(seed)


INNER = frozenset({"splits", "jumps", "threads", "instances", "failures", "switches", "outputs", "ends"})
"""What an inner workflow may have: nothing that waits for the outside, no key that its caller may hold."""


class _Maker:
    def __init__(self, random: Random, has: frozenset[str] | None = None) -> None:
        self.random = random
        self.has = {feature for feature in FEATURES if random.random() < 0.35 and (has is None or feature in has)}
        self.actions = ACTIONS if has is None else [one for one in ACTIONS if {"wait_for": "go"} not in one]
        self.stages: list[dict[str, Any]] = []

    def make(self, seed: int) -> dict[str, Any]:
        workflows = [self.workflow("main", self.random.randint(2, 7))]
        if "calls" in self.has:
            workflows.append(self._inner())
        return {
            "id": f"random-{seed}",
            "pattern": 1,
            "title": ", ".join(sorted(self.has)) or "plain",
            "workflows": workflows,
            "events": [*self._signals(), *self._events()],
            "expect": {},
        }

    def workflow(self, name: str, size: int) -> dict[str, Any]:
        """Return a workflow of so many stages, and those around them."""
        for at in range(size):
            self.stages.append(self._stage(at))
        for stage in self.stages:
            self._split(stage)
        if "jumps" in self.has:
            for _ in range(self.random.randint(1, 2)):
                self._jump()
        for stage in self.stages:
            self._more(stage)
        if "choices" in self.has:
            self._choice()
        for stage in list(self.stages):
            self._call(stage)
        around = [part for stage in self.stages for part in self._around(stage)]
        for stage in self.stages:
            if "milestone_ref_id" in stage and around and self.random.random() < 0.3:
                stage["milestone_ref_id"] = self.random.choice(around)["ref_id"]
        return {"name": name, "context": {"n": self.random.randint(0, 3), "m": 0}, "stages": [*self.stages, *around]}

    def _inner(self) -> dict[str, Any]:
        """Return a workflow that is called; it may call itself, as deep as it goes."""
        maker = _Maker(self.random, INNER)
        workflow = maker.workflow("in", self.random.randint(1, 3))
        last = workflow["stages"][-1]
        if self.random.random() < 0.4 and "mi_config" not in last and "jump_targets" not in last:
            maker.call(last)
        return {**workflow, "start": "called", "max_depth": self.random.randint(1, 3)}

    def _call(self, stage: dict[str, Any]) -> None:
        if self._maybe("calls", 0.4) and not {"jump_targets", "mi_config", "mutex_key"} & set(stage):
            self.call(stage)

    def call(self, stage: dict[str, Any]) -> None:
        """Let a stage call the inner workflow."""
        stage |= {"type": "sub_workflow", "sub_workflow": "in", "tasks": []}
        if self.random.random() < 0.5:
            stage["sub_context"] = {"n": self.random.choice(("n", "n - 1", "2"))}

    def _around(self, stage: dict[str, Any]) -> list[dict[str, Any]]:
        """Return a few stages before and after one."""
        parts: list[dict[str, Any]] = []
        if not self._maybe("around", 0.35):
            return parts
        for at in range(self.random.randint(1, 3)):
            part: dict[str, Any] = {"ref_id": f"{stage['ref_id']}.{at}", "parent_stage_id": stage["ref_id"]}
            part["synthetic_stage_owner"] = owner = self.random.choice(("STAGE_BEFORE", "STAGE_AFTER"))
            part["tasks"] = [{"name": "t", "does": self._does(signalled=False)}]
            beside = [one["ref_id"] for one in parts if one["synthetic_stage_owner"] == owner]
            part["requisite_stage_ref_ids"] = self.random.sample(beside, k=min(len(beside), self.random.randint(0, 2)))
            if "failures" in self.has and self.random.random() < 0.3:
                part["context"] = {"continuePipelineOnFailure": True}
            parts.append(part)
        return parts

    def _maybe(self, feature: str, chance: float) -> bool:
        return feature in self.has and self.random.random() < chance

    def _stage(self, at: int) -> dict[str, Any]:
        above = self.random.sample(range(at), k=min(at, self.random.choice((1, 1, 1, 2, 2, 3)))) if at else []
        if self.random.random() < 0.1:
            above = []
        stage: dict[str, Any] = {"ref_id": f"s{at}", "requisite_stage_ref_ids": [f"s{one}" for one in sorted(above)]}
        stage["tasks"] = [{"name": "t", "does": self._does()} for _ in range(self.random.choice((1, 1, 2)))]
        if len(above) > 1:
            stage["join_type"] = self.random.choice(("AND", "OR", "OR", "MULTI_MERGE", "DISCRIMINATOR", "N_OF_M"))
            if stage["join_type"] == "N_OF_M":
                stage["join_threshold"] = self.random.randint(0, len(above))
            if stage["join_type"] in ("DISCRIMINATOR", "N_OF_M") and self._maybe("cancelling", 0.7):
                stage["join_mode"] = "CANCELLING"
            if self._maybe("outputs", 0.4):
                stage["output_reducers"] = {self.random.choice("nm"): self.random.choice(("first", "last", "append"))}
        return stage

    def _does(self, *, signalled: bool = True) -> list[Any]:
        actions = [one for one in self.actions if "failures" in self.has or "fail" not in one]
        if not signalled:
            actions = [one for one in actions if {"wait_for": "go"} not in one]
        does = list(self.random.choice(actions))
        if self._maybe("outputs", 0.4):
            does.insert(0, {"outputs": {"n": self.random.choice((0, 2, {"expr": "n + 1"}))}})
        if self._maybe("outputs", 0.3):
            does.insert(0, {"outputs": {"m": {"expr": "[n, attempt]"}}})
        if self._maybe("outputs", 0.4):
            does.insert(0, {"record": {"expr": "[n, m]"}})
        return does

    def _below(self, ref: str) -> list[str]:
        return [one["ref_id"] for one in self.stages if ref in one["requisite_stage_ref_ids"]]

    def _split(self, stage: dict[str, Any]) -> None:
        below = self._below(stage["ref_id"])
        if not below or not self._maybe("splits", 0.6):
            return
        stage["split_type"] = self.random.choice(("XOR", "OR"))
        stage["split_conditions"] = {ref: self.random.choice(CONDITIONS) for ref in below}
        if self.random.random() < 0.9:
            stage["split_default"] = self.random.choice(below)
            if self.random.random() < 0.5:
                stage["split_conditions"].pop(stage["split_default"])

    def _jump(self) -> None:
        stage, target = self.random.choice(self.stages), self.random.choice(self.stages)
        stage["jump_targets"] = [*stage.get("jump_targets", []), target["ref_id"]]
        jump = {"jump_to": {"target": target["ref_id"], "times": self.random.randint(1, 2)}}
        stage["tasks"][-1]["does"] = [*self.random.choice(([], [{"sleep": 1}], [{"wait_for": "go"}])), jump]

    def _more(self, stage: dict[str, Any]) -> None:  # noqa: PLR0912 - one case per feature
        others = [one["ref_id"] for one in self.stages if one is not stage]
        if "failures" in self.has:
            stage["context"] = dict(self.random.choice(FAILURES))
        if self._maybe("switches", 0.2):
            switch: Any = self.random.choice((False, {"type": "expression", "expression": "n > 1"}))
            stage["context"] = {**stage.get("context", {}), "stageEnabled": switch}
        if self._maybe("milestones", 0.3):
            stage["milestone_ref_id"] = self.random.choice(others)
            stage["milestone_status"] = self.random.choice(MILESTONES)
        if self._maybe("threads", 0.3):
            stage["thread_split"] = self.random.randint(2, 3)
        if self._maybe("merges", 0.3) and len(stage["requisite_stage_ref_ids"]) == 1:
            stage["thread_merge"] = self.random.randint(1, 3)
        if self._maybe("instances", 0.4) and "jump_targets" not in stage:
            self._instances(stage)
        if self._maybe("regions", 0.4):
            stage["cancel_region"] = "region"
        if self._maybe("regions", 0.2) and any(one.get("cancel_region") for one in self.stages):
            stage["cancels_regions"] = ["region"]
        if self._maybe("ends", 0.15):
            stage["terminates_workflow"] = True
        if self._maybe("sections", 0.4):
            stage["mutex_key"] = "section"
            stage["mutex_section"] = "section"
        elif self._maybe("keys", 0.5):
            stage["mutex_key"] = "key"

    def _instances(self, stage: dict[str, Any]) -> None:
        config: dict[str, Any] = {"count": self.random.randint(0, 3)}
        match self.random.randint(0, 3):
            case 0:
                config["sync_on_complete"] = False
            case 1:
                config["join_threshold"] = self.random.randint(1, 3)
                config["cancel_remaining"] = self.random.random() < 0.5
            case 2:
                config["completion_condition"] = self.random.choice(("completed >= 1", "completed * 2 >= total"))
                config["cancel_remaining"] = self.random.random() < 0.5
        if config.get("sync_on_complete", True) and self.random.random() < 0.4:
            config["allow_dynamic"] = True
            extra = {"if": "attempt == 1", "do": [{"add_instance": {}}]}
            stage["tasks"][0]["does"] = [extra, *stage["tasks"][0]["does"]]
        stage["mi_config"] = config

    def _choice(self) -> None:
        above = self.random.choice(self.stages)["requisite_stage_ref_ids"][:1]
        members = [s for s in self.stages if s["requisite_stage_ref_ids"] == above and not s.get("thread_merge")]
        if len(members) > 1:
            for at, stage in enumerate(members):
                stage["deferred_choice_group"] = "choice"
                if at == 0 or self.random.random() < 0.3:
                    stage["choose_after"] = self.random.randint(1, 3)
            if self.random.random() < 0.5:
                members[0].pop("choose_after")

    def _signals(self) -> list[dict[str, Any]]:
        """As many as may be waited for: a scenario must end."""
        waiting = [s["ref_id"] for s in self.stages if any({"wait_for": "go"} in task["does"] for task in s["tasks"])]
        return [
            {"when": {"tick": 10 + number}, "do": {"signal": "go", "stage": ref, "persistent": True}}
            for number in range(12)
            for ref in waiting
        ] + [
            {"when": {"tick": 30 + number}, "do": {"choose": one["ref_id"]}}
            for number in range(4)
            for one in self.stages
            if one.get("deferred_choice_group")
        ]

    def _events(self) -> list[dict[str, Any]]:
        if "events" not in self.has:
            return []
        refs = [stage["ref_id"] for stage in self.stages]
        found = []
        for number in range(self.random.randint(1, 3)):
            ref, other = self.random.choice(refs), self.random.choice(refs)
            verb = self.random.choice(("cancel_stage", "skip_stage", "complete_mi", "choose", "signal", "add", "clear"))
            does: dict[str, Any] = {verb: ref}
            if "calls" in self.has and self.random.random() < 0.15:
                does = {"cancel_workflow": "in"}
            elif verb == "signal":
                does = {"signal": "go", "stage": ref, "persistent": self.random.random() < 0.5}
            elif verb == "add":
                does = {"add_instances": 1, "stage": ref}
            elif verb == "clear":
                does = {"cancel_region": "region"}
            kind = self.random.choice(("suspended", "suspended", "completed", "started"))
            found.append({"id": f"e{number}", "when": {kind: other}, "do": does})
        return found
