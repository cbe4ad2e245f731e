"""The manifests for Kubernetes: as its API wants them, whole, and true to the product."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from stabilize_celery.settings import Settings
from stabilize_celery.store.redis_url import read_url
from stabilize_celery.telemetry.catalogue import CATALOGUE
from tests.unit.deploy.commands import SETTINGS, check_command

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy/kubernetes"
SCHEMAS: dict[str, Any] = json.loads((Path(__file__).parent / "schemas/kubernetes.json").read_text())
KUSTOMIZATION: dict[str, Any] = YAML(typ="safe").load(FOLDER / "kustomization.yaml")
OBJECTS: list[dict[str, Any]] = [
    found for name in KUSTOMIZATION["resources"] for found in YAML(typ="safe").load_all(FOLDER / name)
]
DEPLOYMENTS = {found["metadata"]["name"]: found["spec"] for found in OBJECTS if found["kind"] == "Deployment"}
WORKERS = {name: spec for name, spec in DEPLOYMENTS.items() if name != "stabilize-web"}
OURS = {"ScaledObject"}
"""A kind of KEDA's, which Kubernetes' own schemas do not have."""


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [found for found in OBJECTS if found["kind"] == kind]


def pod(spec: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec["template"]["spec"]
    return found


def container(spec: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod(spec)["containers"]
    return dict(found)


def labels(spec: dict[str, Any]) -> set[tuple[str, str]]:
    return set(spec["template"]["metadata"]["labels"].items())


def name_of(found: dict[str, Any]) -> str:
    return f"{found['kind']}/{found['metadata']['name']}"


@pytest.mark.parametrize("found", [found for found in OBJECTS if found["kind"] not in OURS], ids=name_of)
def test_an_object_is_as_the_api_wants_it(found: dict[str, Any]) -> None:
    """By the strict schema: no field that it does not know, none missing."""
    schema = {**SCHEMAS["kinds"][found["kind"]], "definitions": SCHEMAS["definitions"]}

    jsonschema.Draft202012Validator(schema).validate(found)


def test_all_files_are_in_the_kustomization() -> None:
    """What is not listed is not applied."""
    assert {path.name for path in FOLDER.glob("*.yaml")} == {"kustomization.yaml", *KUSTOMIZATION["resources"]}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_what_a_deployment_runs_exists(name: str) -> None:
    """The command with its options, and each environment variable."""
    found = container(DEPLOYMENTS[name])
    check_command(found["command"])

    assert {one["name"] for one in found["env"]} <= SETTINGS
    assert found["image"] == KUSTOMIZATION["images"][0]["name"]


def test_workers_and_the_page_have_the_same_settings() -> None:
    """A page of another namespace, or without the keys, shows nothing; with other patterns it shows secrets."""
    (generated,) = KUSTOMIZATION["configMapGenerator"]
    common, *others = [container(spec)["envFrom"] for spec in DEPLOYMENTS.values()]

    assert {"configMapRef": {"name": generated["name"]}} in common
    assert others == [common, common]


def test_the_page_reaches_every_redis_that_a_url_names_without_a_port() -> None:
    """The server itself, and its sentinels."""
    (policy,) = [found for found in of_kind("NetworkPolicy") if found["metadata"]["name"] == "stabilize-web"]
    reached = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    places = map(read_url, ("redis+cluster://node", "sentinel://node/0?master=main"))

    assert {port for place in places for _, port in place.nodes} <= reached


def test_settings_exist() -> None:
    """A misspelt one would do nothing, silently."""
    (generated,) = KUSTOMIZATION["configMapGenerator"]

    assert {literal.partition("=")[0] for literal in generated["literals"]} <= SETTINGS


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_has_probes_that_do_not_ask_redis(name: str) -> None:
    """A Redis that is away must not make Kubernetes kill the workers that wait for it."""
    found = container(WORKERS[name])
    (generated,) = KUSTOMIZATION["configMapGenerator"]

    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        check_command(found[probe]["exec"]["command"])
        assert found[probe]["exec"]["command"][-1] == "workers.alive"
    assert found["livenessProbe"]["periodSeconds"] * found["livenessProbe"]["failureThreshold"] >= 60
    alive = next(text for text in generated["literals"] if text.startswith("STABILIZE_ALIVE_FILE=")).partition("=")[2]
    assert any(alive.startswith(mount["mountPath"] + "/") for mount in found["volumeMounts"])


@pytest.mark.parametrize(("name", "service"), [("stabilize-control", "control"), ("stabilize-tasks", "tasks")])
def test_a_worker_has_the_time_that_a_warm_stop_takes(name: str, service: str) -> None:
    """Task workers as long as compose gives them, or longer; Celery's remap to a cold stop is not switched on."""
    compose = YAML(typ="safe").load(ROOT / "docker-compose.yml")["services"][service]
    minutes = int(re.fullmatch(r"(\d+)m", compose["stop_grace_period"])[1])  # type: ignore[index]
    grace_s = pod(WORKERS[name])["terminationGracePeriodSeconds"]

    assert grace_s >= (minutes * 60 if service == "tasks" else 60)
    assert not any(one["name"] == "REMAP_SIGTERM" for one in container(WORKERS[name])["env"])


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_pod_has_no_rights(name: str) -> None:
    """No root, no capabilities, no token of Kubernetes, nothing written but in /tmp; its memory is bounded."""
    found, spec = container(DEPLOYMENTS[name]), pod(DEPLOYMENTS[name])

    assert spec["securityContext"]["runAsNonRoot"] is True
    assert f"{spec['securityContext']['runAsUser']}:" in (ROOT / "deploy/Dockerfile").read_text()
    assert spec["automountServiceAccountToken"] is False
    assert found["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in found["resources"]["limits"]
    assert [mount["mountPath"] for mount in found["volumeMounts"]] == ["/tmp"]


@pytest.mark.parametrize("kind", ["PodDisruptionBudget", "NetworkPolicy"])
def test_selectors_find_pods(kind: str) -> None:
    """A selector that is misspelt protects nothing."""
    for found in of_kind(kind):
        chosen = (found["spec"].get("selector") or found["spec"]["podSelector"])["matchLabels"]
        assert [name for name, spec in DEPLOYMENTS.items() if set(chosen.items()) <= labels(spec)]


def test_every_pod_is_behind_a_network_policy() -> None:
    """In both directions."""
    for spec in DEPLOYMENTS.values():
        policies = [
            found
            for found in of_kind("NetworkPolicy")
            if set(found["spec"]["podSelector"]["matchLabels"].items()) <= labels(spec)
        ]
        assert [found["spec"]["policyTypes"] for found in policies] == [["Ingress", "Egress"]]


def test_the_service_leads_to_the_page() -> None:
    """By label and by the name of its port."""
    (service,) = of_kind("Service")
    page = DEPLOYMENTS["stabilize-web"]

    assert set(service["spec"]["selector"].items()) <= labels(page)
    assert service["spec"]["ports"][0]["targetPort"] in {port["name"] for port in container(page)["ports"]}


def test_task_workers_are_scaled_by_queue_length_and_age() -> None:
    """Of the queue that they take from, by metrics: in Redis it is a list for each step of priority, not one."""
    (scaled,) = of_kind("ScaledObject")
    length, age = (trigger["metadata"] for trigger in scaled["spec"]["triggers"])
    metric, label, queue = re.fullmatch(r'max\((\w+)\{(\w+)="(.+)"\}\)', length["query"]).groups()  # type: ignore[union-attr]

    assert scaled["spec"]["scaleTargetRef"]["name"] in DEPLOYMENTS
    assert "replicas" not in DEPLOYMENTS[scaled["spec"]["scaleTargetRef"]["name"]]
    assert 1 <= scaled["spec"]["minReplicaCount"] < scaled["spec"]["maxReplicaCount"]
    assert {trigger["type"] for trigger in scaled["spec"]["triggers"]} == {"prometheus"}
    assert CATALOGUE[metric].labels == (label,)
    assert queue == Settings().work_queue
    assert set(re.findall(r"stabilize_\w+", age["query"])) <= set(CATALOGUE)
    assert all(isinstance(value, str) for told in (length, age) for value in told.values())


def test_the_keys_of_the_secret_are_those_that_the_documentation_makes() -> None:
    """Who follows the page has all of them."""
    text = "\n".join(path.read_text() for path in FOLDER.glob("*.yaml"))
    page = (ROOT / "docs/deploying.md").read_text()
    used = set(re.findall(r"name: stabilize-redis, key: ([\w-]+)", text))

    assert used == set(re.findall(r"--from-literal=([\w-]+)=", page))
