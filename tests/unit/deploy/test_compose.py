"""The deployment files say what the documentation promises."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from tests.unit.deploy.commands import SETTINGS, check_command

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")["services"]
    return loaded


def settings(file: Path) -> dict[str, str]:
    """Return `name value` lines, comments left out."""
    lines = (line.strip() for line in file.read_text().splitlines())
    return dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))


def instructions(file: Path) -> list[tuple[str, str]]:
    """Return (instruction, rest) of a Dockerfile, continued lines joined."""
    lines = (line.strip() for line in file.read_text().replace("\\\n", " ").splitlines())
    pairs = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in pairs]


def test_redis_keeps_what_it_acknowledged() -> None:
    """A log of every write, and no eviction: the engine's promises rest on both."""
    conf = settings(ROOT / "deploy/redis.conf")

    assert (conf["appendonly"], conf["appendfsync"], conf["maxmemory-policy"]) == ("yes", "everysec", "noeviction")


def test_the_fleet_is_redis_control_tasks_flower_and_the_page(services: dict[str, Any]) -> None:
    """Control work apart from task work, each with its entry point; monitoring only for who asks."""
    optional = {name for name, service in services.items() if service.get("profiles")}

    assert set(services) - optional == {"redis", "control", "tasks", "flower", "web"}
    assert optional == {"prometheus", "grafana"}


def test_the_file_is_as_compose_wants_it() -> None:
    """By a schema of the specification that is older than `name` and than secrets from the environment."""
    loaded = YAML(typ="safe").load(ROOT / "docker-compose.yml")
    schema = json.loads((Path(__file__).parent / "schemas/compose.json").read_text())
    known = {name: part for name, part in loaded.items() if name != "name" and not name.startswith("x-")}
    known["secrets"] = {name: {"file": name} for name in known["secrets"]}

    jsonschema.Draft201909Validator(schema).validate(known)


def test_task_workers_can_be_scaled(services: dict[str, Any]) -> None:
    """A fixed container name or a published port allows only one."""
    assert not {"container_name", "ports"} & set(services["tasks"])


@pytest.mark.parametrize("name", ["control", "tasks"])
def test_workers_stop_warm_and_come_back(services: dict[str, Any], name: str) -> None:
    """SIGTERM lets running tasks end; Celery's remap to a cold stop is not switched on."""
    worker = services[name]

    assert (worker["stop_signal"], worker["restart"], worker["init"]) == ("SIGTERM", "unless-stopped", True)
    assert re.fullmatch(r"\d+m", worker["stop_grace_period"])
    assert "REMAP_SIGTERM" not in worker["environment"]
    assert "-E" in worker["command"]


def test_workers_wait_for_a_redis_that_answers(services: dict[str, Any]) -> None:
    """A started server may still be reading its log."""
    assert services["tasks"]["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert "PONG" in services["redis"]["healthcheck"]["test"][1]
    assert services["redis"]["volumes"][1] == "redis-data:/data"
    assert tuple(services["redis"]["command"][2:4]) == ("--dir", "/data")


def test_nothing_is_open_to_other_machines_or_without_a_password(services: dict[str, Any]) -> None:
    """Ports on the loopback interface; passwords come from the environment and have no default."""
    ports = [port for service in services.values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert services["flower"]["environment"]["FLOWER_BASIC_AUTH"].startswith("${FLOWER_BASIC_AUTH:?")
    assert services["web"]["environment"]["STABILIZE_WEB_TOKEN"].startswith("${STABILIZE_WEB_TOKEN:?")
    assert "--requirepass" in services["redis"]["command"]


def test_every_variable_of_the_compose_file_is_in_the_example() -> None:
    """Who copies the example can set everything."""
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    offered = set(re.findall(r"^(\w+)=", (ROOT / "deploy/.env.example").read_text(), re.MULTILINE))

    assert used == offered


def test_files_that_the_compose_file_names_exist(services: dict[str, Any]) -> None:
    """Build file, configuration, entry points."""
    assert (ROOT / services["tasks"]["build"]["dockerfile"]).is_file()
    assert (ROOT / services["redis"]["volumes"][0].split(":")[0]).is_file()


def test_the_image_is_built_in_two_stages_and_runs_without_rights() -> None:
    """No pip cache and no build files in what is deployed; never root."""
    steps = instructions(ROOT / "deploy/Dockerfile")
    last = max(number for number, (name, _) in enumerate(steps) if name == "FROM")

    assert [name for name, _ in steps].count("FROM") == 2
    assert [rest for name, rest in steps[last:] if name == "USER"] == ["10001:10001"]
    assert ("STOPSIGNAL", "SIGTERM") in steps[last:]


def test_what_the_image_copies_is_let_through() -> None:
    """The ignore file lets nothing in but what the build names."""
    copied = [rest.split()[:-1] for name, rest in instructions(ROOT / "deploy/Dockerfile") if name == "COPY"]
    wanted = {source for sources in copied for source in sources if not source.startswith(("--", "/"))}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert wanted == allowed
    assert all((ROOT / name).exists() for name in wanted)


def test_what_services_run_exists(services: dict[str, Any]) -> None:
    """Commands with their options, probes, and each environment variable of ours."""
    ours = {name: service for name, service in services.items() if "build" in service}
    for service in ours.values():
        check_command(service["command"])
        if "healthcheck" in service:
            check_command(service["healthcheck"]["test"][1:])
        assert {name for name in service["environment"] if name.startswith("STABILIZE_")} <= SETTINGS

    assert set(ours) == {"control", "tasks", "flower", "web"}


def test_prometheus_asks_where_workers_tell() -> None:
    """The port that they are given, by the names of their services; Grafana asks Prometheus."""
    compose = YAML(typ="safe").load(ROOT / "docker-compose.yml")
    page, workers = YAML(typ="safe").load(ROOT / "deploy/prometheus/prometheus.yml")["scrape_configs"]
    (found,) = workers["dns_sd_configs"]
    (source,) = YAML(typ="safe").load(ROOT / "deploy/grafana/datasource.yml")["datasources"]

    assert str(found["port"]) == compose["services"]["tasks"]["environment"]["STABILIZE_METRICS_PORT"]
    assert set(found["names"]) == {"control", "tasks"}
    assert page["authorization"]["credentials_file"].rpartition("/")[2] in compose["services"]["prometheus"]["secrets"]
    assert page["static_configs"] == [{"targets": ["web:5556"]}]
    assert source["url"] == "http://prometheus:9090"


def test_the_image_has_a_probe() -> None:
    """And runs a worker where nothing else is said."""
    steps = instructions(ROOT / "deploy/Dockerfile")
    (probe,) = [rest for name, rest in steps if name == "HEALTHCHECK"]
    (run,) = [rest for name, rest in steps if name == "CMD"]

    check_command(json.loads(probe.partition("CMD ")[2]))
    check_command(json.loads(run))


@pytest.mark.parametrize(
    "file", [file for file in sorted((ROOT / "deploy").rglob("*")) if file.is_file()], ids=lambda file: file.name
)
def test_variables_that_a_file_names_exist(file: Path) -> None:
    """Also in its comments, which people follow."""
    assert set(re.findall(r"\bSTABILIZE_[A-Z_]+", file.read_text())) <= SETTINGS | {"STABILIZE_CODE"}


def test_what_is_installed_can_do_what_settings_ask_for() -> None:
    """All extras but those for a machine of one's own; on hosts, Flower is installed where it is wanted."""
    known = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    image, hosts = (
        set(re.findall(r"pip install .*\.\[(.+)\]", (ROOT / name).read_text())[0].split(","))
        for name in ("deploy/Dockerfile", "docs/deploying.md")
    )

    assert image == known - {"all", "dev", "embedded"}
    assert hosts == image - {"flower"}
