"""Alerts and dashboard name metrics that exist, and what to do about an alert is written where it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stabilize_celery.telemetry.catalogue import CATALOGUE
from tests.unit.test_docs import anchors

ROOT = Path(__file__).parents[2]
SHOWN = {name: metric for metric in CATALOGUE.values() for name in metric.shown}
RULES: list[dict[str, Any]] = [
    rule for group in YAML(typ="safe").load(ROOT / "deploy/prometheus/alerts.yml")["groups"] for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/stabilize.json").read_text())
EXPRESSIONS = [
    *(rule["expr"] for rule in RULES),
    *(target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())),
]
_NO_LABELS = {"le"}


def metrics_of(expression: str) -> set[str]:
    return set(re.findall(r"stabilize_\w+", expression))


def labels_of(expression: str) -> set[str]:
    """The labels that an expression groups by or selects."""
    grouped = [name.strip() for inside in re.findall(r"by \(([^)]*)\)", expression) for name in inside.split(",")]
    return {*grouped, *re.findall(r"[{,](\w+)[!=]?[=~]", expression)} - _NO_LABELS


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_metrics_that_are_asked_about_exist(expression: str) -> None:
    """With the labels that the expression selects or groups by; brackets are closed."""
    named = metrics_of(expression)
    known = {label for name in named for label in SHOWN[name].labels}

    assert named
    assert labels_of(expression) <= known
    assert all(expression.count(left) == expression.count(right) for left, right in ("()", "[]", "{}"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_names_its_section_of_the_runbook(rule: dict[str, Any]) -> None:
    """Which stands under its own name."""
    page, _, anchor = rule["annotations"]["runbook"].partition("#")

    assert anchor == rule["alert"].lower()
    assert anchor in anchors(ROOT / page)
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"].endswith(".")
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))


def test_the_runbook_has_no_alerts_that_nobody_raises() -> None:
    """It would mislead."""
    text = (ROOT / "docs/runbook.md").read_text()

    assert re.findall(r"^### (Stabilize\w+)$", text, re.MULTILINE) == [rule["alert"] for rule in RULES]


def test_every_metric_stands_on_the_dashboard_and_in_the_documentation() -> None:
    """What nobody looks at need not be counted."""
    drawn = set().union(*map(metrics_of, EXPRESSIONS))
    page = (ROOT / "docs/monitoring.md").read_text()

    assert {metric.name for metric in CATALOGUE.values() if not drawn & set(metric.shown)} == set()
    assert {name for metric in CATALOGUE.values() for name in metric.shown[:1] if metric.name not in page} == set()


def test_panels_do_not_cover_each_other() -> None:
    """Each has its own place on the grid of 24 columns, and an id of its own."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells

    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
