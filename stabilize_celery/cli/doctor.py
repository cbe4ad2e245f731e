"""`doctor`: is everything there that workflows need? One line per check, with what to change."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from stabilize_celery.cli.commands import command
from stabilize_celery.cli.failures import DONE, FAILED
from stabilize_celery.cli.session import Session
from stabilize_celery.cli.unattended import unattended
from stabilize_celery.client import Client
from stabilize_celery.client.dead_letters import dead_letters
from stabilize_celery.client.words import duration, plural
from stabilize_celery.errors import PayloadError, QueueError, UnreachableError, WritesRefusedError, redact_url
from stabilize_celery.models.problems import Suggester
from stabilize_celery.runtime.findings import Finding
from stabilize_celery.runtime.fleet import Fleet
from stabilize_celery.runtime.schedule_book import KeptSchedule
from stabilize_celery.runtime.survey import survey, unreadable
from stabilize_celery.settings import Settings
from stabilize_celery.store.contract import DueEntry, Store
from stabilize_celery.store.errors import StoreError
from stabilize_celery.transport.broker_place import names_of_its_own
from stabilize_celery.transport.process import vault_of
from stabilize_celery.transport.producer import ProducerPublisher

__all__ = [
    "Check",
    "add_doctor",
    "check_attendance",
    "check_findings",
    "check_schedules",
    "check_server",
    "told_findings",
]

_NOBODY = "doctor"
"""A listener that does not exist: its bell is forgotten after a minute."""
_OVERDUE_MS = 5_000
_LOOKED_AT = 100
_OLDEST = (6, 2)
_SAME_KEYS = "Producers, workers and this command need the same STABILIZE_ENCRYPTION_KEYS and STABILIZE_PAYLOAD_DIR."
_NO_REPAIR = "no repair is known; `stabilize-celery why` says more, `stabilize-celery cancel` ends it"


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, whether it is well, and what to do if not."""

    name: str
    ok: bool
    told: str
    advice: str = ""


def add_doctor(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "doctor")(doctor)


def doctor(
    session: Session,
    repair: Annotated[bool, typer.Option("--repair", help="Repair what can be repaired.")] = False,
) -> int:
    """Check Redis, its settings, the broker, the workers, and what is overdue or lost. Exit code 1 on a problem.

    Checks every workflow, so it takes a while if there are many.
    """
    client = session.client()
    checks, findings = list(_checks(client)), list[Finding]()
    if not any(check.name == "unchecked" for check in checks):
        try:
            findings = _survey(client, mends=repair)
            checks.append(check_findings(findings, mends=repair))
        except PayloadError as error:
            checks.append(Check("repair", False, f"not all workflows could be inspected: {error}", _SAME_KEYS))
        except StoreError as error:
            checks.append(Check("repair", False, f"not all workflows could be inspected: {error}"))
    if session.as_json:
        details = {checks[-1].name: [finding.as_json() for finding in findings]}
        session.print_json([{**asdict(check), **_details(check, details)} for check in checks])
        return DONE if all(check.ok for check in checks) else FAILED
    for check in checks:
        style = "green" if check.ok else "red"
        session.out.print(f"{'✔' if check.ok else '✘'} {check.told}", markup=False, style=style, soft_wrap=True)
        if check.advice:
            session.out.print(f"    {check.advice}", markup=False, soft_wrap=True)
    for line in told_findings(findings):
        session.out.print(line, markup=False, soft_wrap=True)
    return DONE if all(check.ok for check in checks) else FAILED


def _checks(client: Client) -> Iterator[Check]:
    """Yield all checks but that of the workflows. Of a cluster that lacks a node, what needs all of them is left out.

    Raises:
        UnreachableError: no server answers.

    """
    store = client.store
    now_ms, due = store.first_due(range(store.partitions()), _LOOKED_AT, partly=True)
    yield from _check_reach(store, len(due))
    groups: Mapping[str, Callable[[], Iterable[Check]]] = {
        "the settings of Redis": lambda: check_server(store.health()),
        "whether writes are taken": lambda: _check_writes(store),
        "the workers": lambda: _check_fleet(client),
        "what is due": lambda: [_check_overdue(now_ms, due.values())],
        "the running workflows": lambda: [check_payloads(unreadable(store))],
        "schedules": lambda: check_schedules(client.schedules.all()),
        "dead letters": lambda: [_check_dead_letters(store)],
        "the broker": lambda: [_check_broker(client)],
    }
    unchecked = []
    for what, checked in groups.items():
        try:
            yield from checked()
        except PayloadError:
            raise
        except UnreachableError:
            unchecked.append(what)
        except StoreError as error:
            # The user of Redis may do only part of what the doctor does: the rest is looked at all the same.
            yield Check("refused", False, f"{what} can't be checked: {error}")
    if unchecked:
        yield Check("unchecked", False, f"not checked as long as that lasts: {', '.join(unchecked)}, repairs")


def _check_reach(store: Store, reached: int) -> Iterator[Check]:
    """Yield what is away of a cluster, if anything is; `reached`: how many partitions answered."""
    if reached == store.partitions():
        return
    try:
        # Asked for all of them, it says which node is away.
        store.first_due(range(store.partitions()), 1)
    except UnreachableError as error:
        told = f"{store.partitions() - reached} of {store.partitions()} partitions can't be reached: {error}"
        advice = "Their workflows wait, those of the others go on. Start that node, or let its replica take over."
        yield Check("partitions", False, told, advice)


def _details(check: Check, details: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    return {"findings": details[check.name]} if check.name in details else {}


def _survey(client: Client, *, mends: bool) -> list[Finding]:
    with closing(ProducerPublisher(client.settings.broker_url or client.settings.redis_url, client.settings)) as broker:
        return survey(client.store, broker, client.settings, mends=mends)


def check_findings(findings: Sequence[Finding], *, mends: bool) -> Check:
    """Return the check of what a survey found: well if nothing was wrong, or if all of it is mended."""
    if not findings:
        return Check("repair", True, "every workflow has a pending step or a reason to wait")
    left = [finding for finding in findings if not finding.is_mended]
    lost = "Writes were lost (a crash without its append-only log, a fail-over), or this is a bug: please report it."
    if not left:
        return Check("repair", True, f"{plural(len(findings), 'thing')} repaired", lost)
    mendable = any(finding.mends for finding in left)
    told = f"{plural(len(left), 'inconsistency', 'inconsistencies')} found"
    advice = f"{lost} `stabilize-celery doctor --repair` repairs it." if mendable and not mends else lost
    return Check("repair", False, told, advice)


def told_findings(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield what was found, with what was done about it or would be, a line each."""
    for finding in findings:
        done = f"{'done' if finding.is_mended else 'repair would'}: {finding.mends}"
        yield f"    {finding.workflow_id}: {finding.told} → {done if finding.mends else _NO_REPAIR}"


def check_server(health: Mapping[str, str]) -> Iterator[Check]:
    """Yield the checks of the state server from what it told."""
    version = health["redis_version"]
    found = re.match(r"(\d+)\.(\d+)", version)
    is_new = found is None or (int(found[1]), int(found[2])) >= _OLDEST
    told = f"Redis {version} at {health['url']} answers in {health['ping_ms']} ms"
    yield Check("version", is_new, told, "" if is_new else "Redis 6.2 or newer is needed.")
    appends, policy, sync = (health[name] for name in ("appendonly", "maxmemory_policy", "appendfsync"))
    if appends == "no":
        advice = "Set appendonly to yes (deploy/redis.conf): CONFIG SET appendonly yes, and in redis.conf."
        yield Check("appendonly", False, "appendonly is no: a crash of Redis loses workflows.", advice)
    else:
        yield Check("appendonly", True, f"appendonly {appends}, {sync}")
    if sync == "no":
        yield Check("appendfsync", False, "appendfsync is no: a crash loses the newest writes.", "Set it to everysec.")
    is_kept = policy in ("noeviction", "unknown")
    told = f"maxmemory-policy is {policy}" + ("" if is_kept else ": state can vanish.")
    yield Check("maxmemory_policy", is_kept, told, "" if is_kept else "Set it to noeviction (deploy/redis.conf).")


def _check_writes(store: Store) -> Iterator[Check]:
    """Yield whether every partition takes writes: a server that answers may be full, or miss its replicas."""
    refused = _refused_writes(store)
    if refused is None:
        return
    if not refused:
        yield Check("writes", True, "writes are taken")
        return
    count = store.partitions()
    where = "no workflow moves" if len(refused) == count else f"{len(refused)} of {count} partitions take no writes"
    yield Check("writes", False, f"{where}: {refused[0]}", "Workers go on by themselves afterwards.")


def _refused_writes(store: Store) -> list[WritesRefusedError] | None:
    """Return the refusal of each partition that takes no writes now; None: this user may only read, so nobody knows."""
    refused = []
    for number in range(store.partitions()):
        try:
            store.ring(number, _NOBODY)
        except WritesRefusedError as error:
            refused.append(error)
        except StoreError:
            return None
    return refused


def _check_fleet(client: Client) -> Iterator[Check]:
    fleet = Fleet(client.store.fleet(), client.store.time_ms())
    if not fleet.live:
        namespace = client.settings.namespace
        if _refused_writes(client.store):
            told = f"no worker is known in namespace {namespace!r}: while writes are refused, none can announce itself"
            yield Check("workers", False, told)
            return
        advice = "Start one: `celery -A APP worker` or `stabilize-celery worker -A APP`."
        yield Check("workers", False, f"no worker is running in namespace {namespace!r}", advice)
        return
    newest = min(worker.silent_ms for worker in fleet.live)
    yield Check("workers", True, f"{plural(len(fleet.live), 'worker')}, newest heard of {duration(newest)} ago")
    lines = client.store.fleet()
    yield from check_repairs(lines)
    yield from check_agreement({worker.node: lines[worker.id] for worker in fleet.live}, client.settings)
    yield from check_attendance(client, fleet)
    versions = sorted({worker.version for worker in fleet.live if worker.version})
    if len(versions) > 1:
        yield Check("versions", True, f"workers of several versions run side by side: {', '.join(versions)}")


def check_attendance(client: Client, fleet: Fleet) -> Iterator[Check]:
    """Yield which queues nobody listens on, ours and those where something waits, and which task types nobody knows."""
    found, settings = unattended(client.store, fleet), client.settings
    ours = [queue for queue in (settings.control_queue, settings.work_queue) if not fleet.listening(queue)]
    for queue in dict.fromkeys([*ours, *sorted(found.by_queue)]):
        waiting = found.by_queue[queue]
        told = f"no worker listens on queue {queue!r}" + (f": {plural(waiting, 'message')} in it" if waiting else "")
        yield Check("queues", False, told, f"Start one with -Q {queue}.")
    suggester = Suggester(fleet.types)
    for task_type, waiting in sorted(found.by_type.items()):
        told = f"{plural(waiting, 'task')} of type {task_type!r} waiting, which no running worker knows"
        advice = f"Start a worker of the app that has it{suggester.suggest(task_type) or '.'}"
        yield Check("task_types", False, told, advice)


def check_repairs(lines: Mapping[str, Mapping[str, bytes]]) -> Iterator[Check]:
    """Yield what the workers tell of their own repairs, if there were any: each stands in its workflow's events."""
    repaired, aside = (sum(int(line.get(name, b"0")) for line in lines.values()) for name in ("repaired", "set_aside"))
    if repaired or aside:
        told = f"the workers have repaired {plural(repaired, 'thing')} and set {aside} aside since they started"
        yield Check("repairs", True, told, "Normal is 0: did Redis lose writes? See `stabilize-celery events ID`.")


def check_agreement(lines: Mapping[str, Mapping[str, bytes]], settings: Settings) -> Iterator[Check]:
    """Yield which workers, by name, have other keys, or other names of queues, than a producer with `settings`."""
    vault, url = vault_of(settings), settings.broker_url or settings.redis_url
    with closing(ProducerPublisher(url, settings)) as producer:
        ours = json.dumps(names_of_its_own(producer.app), sort_keys=True)
    for node, line in lines.items():
        try:
            # A worker of an older version tells neither.
            vault.check_proof(line.get("keys", vault.proof()))
        except PayloadError as error:
            yield Check("keys", False, f"{node} has other encryption keys than this command: {error}", _SAME_KEYS)
        theirs = line.get("broker", ours.encode()).decode()
        if theirs != ours:
            told = f"{node} has the broker options {theirs}, this command {ours}: workers do not read what it sends"
            advice = (
                f"Set STABILIZE_BROKER_OPTIONS='{theirs}' for producers and this command, as the workers' app has it."
            )
            yield Check("broker_options", False, told, advice)


def _check_overdue(now_ms: int, due: Iterable[Sequence[DueEntry]]) -> Check:
    late = [now_ms - entry.due_ms for entries in due for entry in entries if entry.due_ms < now_ms - _OVERDUE_MS]
    if not late:
        return Check("overdue", True, "nothing is overdue by more than 5 s")
    told = f"{plural(len(late), 'message')} overdue, by up to {duration(max(late))}"
    return Check("overdue", False, told, "Keepers publish them: is a worker running, and not overloaded?")


def _check_dead_letters(store: Store) -> Check:
    found = dead_letters(store)
    newer = sum(letter.is_unknown for letter in found)
    told = plural(len(found) - newer, "dead letter") if len(found) > newer else "no dead letters"
    if newer:
        told += f", {plural(newer, 'message')} for a newer worker"
    return Check("dead_letters", not found, told, "Look at them: `stabilize-celery dead list`." if found else "")


def check_payloads(closed: Mapping[str, str]) -> Check:
    """Return the check of whether what was written can be read here."""
    if not closed:
        return Check("payloads", True, "every running workflow can be read here")
    first, why = next(iter(closed.items()))
    told = f"{plural(len(closed), 'running workflow')} can't be read here, such as {first}: {why}"
    return Check(
        "payloads", False, told, f"{_SAME_KEYS} What no worker can read waits; `stabilize-celery cancel` ends it."
    )


def check_schedules(kept: Sequence[KeptSchedule]) -> Iterator[Check]:
    """Yield whether the schedules can be read here, if there are any."""
    closed = [one for one in kept if one.unreadable]
    if closed:
        first = closed[0]
        told = f"{plural(len(closed), 'schedule')} can't be read here, such as {first.schedule.name!r}: "
        advice = f"{_SAME_KEYS} If the key is lost, add it anew (`stabilize-celery schedule add`), or remove it."
        yield Check("schedules", False, told + first.unreadable, advice)
    elif kept:
        yield Check("schedules", True, f"{plural(len(kept), 'schedule')}, all of which can be read here")


def _check_broker(client: Client) -> Check:
    url = client.settings.broker_url or client.settings.redis_url
    shown = redact_url(url)
    try:
        ProducerPublisher(url, client.settings).check()
    except QueueError as error:
        told = f"the broker at {shown} {str(error).removeprefix('the broker ')}"
        return Check("broker", False, told, "Start it, make room, or correct its URL.")
    return Check("broker", True, f"the broker at {shown} answers")
