"""A canvas has the results that Celery gives: each is run by Celery and by us, on the same worker."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import importlib
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from celery import chain, chord, group
from celery.canvas import Signature
from celery.canvas import _chain as Chain  # the class: it leaves its steps as they are written

from stabilize_celery import AsyncClient, InvalidWorkflowError, WorkflowFailedError
from stabilize_celery.cli.program import run
from tests.integration.fleet import Worker, eventually
from tests.pages import blocks, execute
from tests.servers import RedisServer

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The app's module, with a worker that serves it."""
    folder = tmp_path_factory.mktemp("canvas")
    here = Path(__file__).parent
    with RedisServer() as server:
        base = server.url.rsplit("/", 1)[0]
        names = {
            "CANVAS_BROKER": f"{base}/0",
            "CANVAS_STATE": f"{base}/1",
            "CANVAS_BACKEND": f"{base}/2",
            "CANVAS_JOURNAL": str(folder / "journal"),
        }
        env = {**os.environ, **names, "PYTHONPATH": f"{here.parents[1]}{os.pathsep}{here}"}
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "canvas_app",
            "worker",
            "-P",
            "threads",
            "-c",
            "4",
            "-l",
            "INFO",
        ]
        (folder / "journal").touch()
        worker = Worker(command, folder, env, 0)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in names.items():
                patch.setenv(name, value)
            patch.syspath_prepend(str(here))
            try:
                eventually(worker.is_ready, 60)
                yield importlib.import_module("canvas_app")
            finally:
                worker.kill_group()
                sys.modules.pop("canvas_app", None)


Make = Callable[[Any], Signature]


def stamped(signature: Signature) -> Signature:
    signature.stamp(who="me")
    return signature


CANVASES: dict[str, Make] = {
    "a task": lambda s: s.add.s(1, 2),
    "keyword arguments": lambda s: s.add.s(1, 2, times=3),
    "a task that returns nothing": lambda s: s.nothing.s(1),
    "chain": lambda s: chain(s.add.s(1, 2), s.add.s(3), s.double.s()),
    "chain by operator": lambda s: s.add.s(1, 2) | s.add.s(3) | s.double.s(),
    "chain of a None": lambda s: chain(s.nothing.s(), s.pair.s(1)),
    "partial with keywords": lambda s: chain(s.add.s(1, 2), s.pair.s("x", key="k")),
    "immutable in a chain": lambda s: chain(s.add.s(1, 2), s.seven.si(), s.add.s(1)),
    "immutable by set": lambda s: chain(s.add.s(1, 2), s.pair.s(5).set(immutable=True)),
    "chain in a chain": lambda s: chain(s.add.s(1, 2), chain(s.add.s(3), s.double.s()), s.add.s(1)),
    "group": lambda s: group(s.add.s(n, n) for n in range(5)),
    "group of one": lambda s: group([s.add.s(1, 1)]),
    "group of none": lambda s: group([]),
    "group of groups of none": lambda s: group(group([]), group([])),
    "group in a group": lambda s: group(s.add.s(1, 1), group(s.add.s(2, 2), s.add.s(3, 3)), s.add.s(4, 4)),
    "group of chains": lambda s: group(chain(s.add.s(1, 1), s.double.s()), s.add.s(2, 2)),
    "group at the end of a chain": lambda s: chain(s.add.s(1, 1), group(s.add.s(n) for n in range(3))),
    "group of one at the end": lambda s: chain(s.add.s(1, 1), group([s.add.s(5)])),
    "group in the middle": lambda s: chain(s.add.s(1, 1), group(s.add.s(n) for n in range(3)), s.total.s()),
    "group of one in the middle": lambda s: chain(s.add.s(1, 1), group([s.add.s(5)]), s.double.s()),
    "group of none in the middle": lambda s: chain(s.add.s(1, 1), group([]), s.double.s()),
    "group then group": lambda s: chain(group(s.add.s(1, 1), s.add.s(2, 2)), group(s.pair.s(1), s.pair.s(2))),
    "group, group, task": lambda s: chain(
        group(s.seven.s(), s.seven.s()), group(s.total.s(1), s.total.s(2)), s.total.s()
    ),
    "chain of one that ends in a group, in a group": lambda s: group(
        chain(s.add.s(1, 1), group(s.add.s(1), s.add.s(2)))
    ),
    "chord": lambda s: chord([s.add.s(n, n) for n in range(10)], s.total.s()),
    "chord of one": lambda s: chord([s.add.s(2, 2)], s.total.s()),
    "chord of none": lambda s: chord([], s.total.s()),
    "chord with a partial body": lambda s: chord([s.seven.s(), s.seven.s()], s.total.s(more=3)),
    "chord with an immutable body": lambda s: chord([s.add.s(1, 1), s.add.s(2, 2)], s.seven.si()),
    "chord with a chain as body": lambda s: chord([s.seven.s(), s.seven.s()], chain(s.total.s(), s.add.s(1))),
    "chord with a group as body": lambda s: chord([s.seven.s(), s.seven.s()], group(s.total.s(1), s.total.s(2))),
    "chord with chains in its header": lambda s: chord([chain(s.seven.s(), s.add.s(1)), s.seven.s()], s.total.s()),
    "chord in a chord": lambda s: chord([chord([s.seven.s(), s.seven.s()], s.total.s()), s.seven.s()], s.total.s()),
    "chord in a chain": lambda s: chain(s.add.s(1, 1), chord([s.add.s(1), s.add.s(2)], s.total.s()), s.double.s()),
    "chain of chords": lambda s: chain(
        chord([s.seven.s(), s.seven.s()], s.total.s()), chord([s.add.s(1), s.add.s(2)], s.total.s())
    ),
    "map": lambda s: s.double.map([1, 2, 3]),
    "starmap": lambda s: s.add.starmap([(1, 2), (3, 4)]),
    "chunks": lambda s: s.add.chunks(zip(range(7), range(7), strict=True), 3),
    "chunks as a group": lambda s: s.add.chunks(zip(range(7), range(7), strict=True), 3).group(),
    "map in a group": lambda s: group(s.double.map([1, 2]), s.seven.s()),
    "starmap in a chord": lambda s: chord([s.add.starmap([(1, 2), (3, 4)])], s.pair.s()),
    "chunks in a chord": lambda s: chord(s.add.chunks([(1, 1), (2, 2), (3, 3)], 2).group(), s.pair.s()),
    "a bound task": lambda s: chain(s.seven.s(), s.bound.s()),
    "a retry": lambda s: chain(s.seven.s(), s.second_try.s(), s.pair.s()),
    "a retry with other arguments": lambda s: chain(s.seven.s(), s.other_arguments.s(), s.pair.s()),
    "a task in its place": lambda s: chain(s.replaced.s(1, "task"), s.double.s()),
    "others in their places": lambda s: group(s.replaced.s(1, "chain"), s.replaced.s(1, "chord"), s.seven.s()),
    "a group in its place": lambda s: chain(s.replaced.s(1, "group"), s.pair.s()),
    "one that replaces itself": lambda s: chain(s.seven.s(), s.down.si(150, raises=False), s.pair.s()),
    "one that replaces itself by raise": lambda s: chain(s.down.si(3, raises=True), s.pair.s()),
    "map of an iterator": lambda s: s.double.map(range(3)),
    "results of many types": lambda s: s.many_types.s(),
    "arguments of many types": lambda s: chain(
        s.many_types.s(),
        s.seen.s(dt.datetime(2026, 1, 1), k=(decimal.Decimal("0.1"), b"k", {1: uuid.UUID(int=1)})),
    ),
    "a chord with arguments of its own": lambda s: chord([s.add.s(1), s.add.s(2)], s.total.s()).clone(args=(5,)),
    "stamped": lambda s: stamped(chain(s.seven.s(), s.add.s(1))),
    "a request": lambda s: s.asked.s(),
    "a request with headers": lambda s: chain(s.seven.s(), s.asked.s().set(headers={"tenant": "t"})),
    "a request with headers in headers": lambda s: s.asked.s().set(headers={"headers": {"tenant": "t"}}),
    "a request with a shadow and a priority": lambda s: group(s.asked.s().set(shadow="s", priority=3), s.seven.s()),
    "a request with stamps": lambda s: stamped(chain(s.seven.s(), s.asked.s())),
    "the request of what takes a place": lambda s: s.replaced.s(1, "headers"),
    "from what JSON kept": lambda s: Signature.from_dict(
        json.loads(json.dumps(chain(s.seven.s(), group(s.add.s(1), s.add.s(2)), s.total.s()))), app=s.app
    ),
    "groups by operator": lambda s: group(s.seven.s(), s.seven.s()) | group(s.total.s(1), s.total.s(2)) | s.total.s(),
    "a countdown": lambda s: chain(s.seven.s(), s.double.s().set(countdown=0.3), s.add.s(1)),
}


def by_celery(signature: Signature) -> Any:
    result = signature.apply_async()
    # Not by `get` alone: it has been seen to miss the news of a result that was there.
    eventually(result.ready)
    return result.get(timeout=10)


@pytest.mark.parametrize("name", CANVASES)
def test_the_result_is_celerys(sums: ModuleType, name: str) -> None:
    """Whatever it is made of."""
    make = CANVASES[name]
    expected = by_celery(make(sums))

    assert sums.stabilize.start_canvas(make(sums)).result(timeout_s=30) == expected


@pytest.mark.parametrize(
    ("make", "args", "kwargs"),
    [
        (lambda s: s.add.s(1), (2,), {}),
        (lambda s: s.add.si(1, 2), (2,), {}),
        (lambda s: s.pair.s(1, a=1), (2,), {"a": 2, "b": 3}),
        (lambda s: chain(s.add.s(1), s.double.s()), (2,), {}),
        (lambda s: group(s.add.s(1), s.add.s(2)), (2,), {}),
        (lambda s: chord([s.add.s(1), s.add.s(2)], s.total.s()), (2,), {}),
        (lambda s: chain(group(s.add.s(1), s.add.s(2)), s.total.s()), (2,), {}),
    ],
)
def test_arguments_of_the_call_go_where_celery_puts_them(
    sums: ModuleType, make: Make, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    expected = make(sums).apply_async(args, kwargs).get(timeout=30)

    assert sums.stabilize.start_canvas(make(sums), args, kwargs).result(timeout_s=30) == expected


def lines(sums: ModuleType, run: Callable[[], Any], count: int) -> list[str]:
    """What errbacks and links write down in one run."""
    sums.journal.write_text("")
    run()
    eventually(lambda: len(sums.journal.read_text().splitlines()) >= count, 20)
    return sorted(sums.journal.read_text().splitlines())


FAILING: dict[str, tuple[Make, int]] = {
    "an errback": (lambda s: s.fail.s().on_error(s.on_error.s()), 1),
    "an errback of the old style": (lambda s: s.fail.s().on_error(s.on_error_id.s()), 1),
    "in a chain": (lambda s: chain(s.seven.s(), s.fail.s(), s.double.s()).on_error(s.on_error.s()), 1),
    "of one step": (lambda s: chain(s.seven.s(), s.fail.s().on_error(s.on_error.s()), s.double.s()), 1),
    "of what took a task's place": (lambda s: s.replaced_by_a_failure.s().on_error(s.on_error.s()), 1),
    "in a group": (lambda s: group(s.fail.s().on_error(s.on_error.s()), s.seven.s()), 1),
}


@pytest.mark.parametrize("name", FAILING)
def test_errbacks_are_called_as_celery_calls_them(sums: ModuleType, name: str) -> None:
    """And the workflow fails with the error's text."""
    make, count = FAILING[name]
    expected = lines(sums, lambda: make(sums).apply_async(), count)
    handle = None

    def run() -> None:
        nonlocal handle
        handle = sums.stabilize.start_canvas(make(sums))

    assert lines(sums, run, count) == expected
    with pytest.raises(WorkflowFailedError, match="ConnectionError: no more numbers"):
        handle.result(timeout_s=30)


def told(s: Any, signature: Signature, who: str) -> Signature:
    return signature.on_error(s.told.s(who))


def failing_chord(s: Any, body: Signature) -> Signature:
    return chord([s.fail.s(), s.nothing.s()], body)


def body_and_next(s: Any) -> tuple[Signature, Signature]:
    return told(s, s.total.s(), "body"), told(s, s.double.s(), "next")


def one_and_two(s: Any) -> Signature:
    return group(told(s, s.total.s(1), "one"), told(s, s.total.s(2), "two"))


FAILING_HEADERS: dict[str, tuple[Make, list[str]]] = {
    "a chord": (lambda s: failing_chord(s, told(s, s.total.s(), "body")), ["body"]),
    "a chord in a chain": (lambda s: chain(s.seven.s(), failing_chord(s, told(s, s.total.s(), "body"))), ["body"]),
    "a chord and what follows": (lambda s: failing_chord(s, body_and_next(s)[0]) | body_and_next(s)[1], []),
    "a chain that is a body": (lambda s: failing_chord(s, told(s, chain(*body_and_next(s)), "chain")), ["chain"]),
    "a chain that starts with a chord": (
        lambda s: chain(failing_chord(s, body_and_next(s)[0]), body_and_next(s)[1]),
        ["body"],
    ),
    "a chain with a chord in the middle": (
        lambda s: chain(s.seven.s(), failing_chord(s, body_and_next(s)[0]), body_and_next(s)[1]),
        ["body"],
    ),
    "a chain with a group in the middle": (
        lambda s: chain(s.seven.s(), group(s.fail.s(), s.double.s()), *body_and_next(s)),
        ["body"],
    ),
    "a chain of a group and more, as it is written": (
        lambda s: Chain(group(s.fail.s(), s.seven.s()), *body_and_next(s), app=s.app),
        ["body"],
    ),
    "a chain with a chord, in the body of a chord": (
        lambda s: chord([s.seven.s()], chain(s.total.s(), failing_chord(s, body_and_next(s)[0]), body_and_next(s)[1])),
        ["body"],
    ),
    "a chain with a chord, in the header of a chord": (
        lambda s: chord(
            [chain(s.seven.s(), failing_chord(s, body_and_next(s)[0]), body_and_next(s)[1]), s.seven.s()],
            told(s, s.total.s(), "outer"),
        ),
        ["body", "outer"],
    ),
    "a body of a chord in the header of a chord": (
        lambda s: chord([chord([s.seven.s()], told(s, s.fail.s(), "inner")), s.seven.s()], told(s, s.total.s(), "out")),
        ["inner", "out"],
    ),
    "a chord whose body is a group": (lambda s: failing_chord(s, one_and_two(s)), ["one", "two"]),
    "a group after a group": (lambda s: chain(group(s.fail.s(), s.seven.s()), one_and_two(s)), ["one", "two"]),
    "a chord whose body is a group of a chain and a chord": (
        lambda s: failing_chord(
            s,
            group(
                chain(told(s, s.total.s(), "first"), s.double.s()),
                chord([told(s, s.total.s(), "header")], told(s, s.total.s(), "body")),
            ),
        ),
        ["body"],
    ),
}


@pytest.mark.parametrize("name", FAILING_HEADERS)
def test_a_failed_header_calls_the_errbacks_of_what_celery_takes_for_the_body(sums: ModuleType, name: str) -> None:
    """That depends on where the chord stands: only within a chain is a chain's first task the body."""
    make, called = FAILING_HEADERS[name]

    def by_celery_until_it_failed() -> None:
        result = make(sums).apply_async()
        eventually(result.ready)

    def by_us() -> None:
        with pytest.raises(WorkflowFailedError, match="no more numbers"):
            sums.stabilize.start_canvas(make(sums)).result(timeout_s=30)

    expected = [f"told {who}" for who in called]
    assert lines(sums, by_celery_until_it_failed, len(called)) == expected
    assert lines(sums, by_us, len(called)) == expected


def test_a_failed_header_within_a_header_is_told_to_both_bodies(sums: ModuleType) -> None:
    """Celery never tells the outer chord: it waits for ever."""
    inner = failing_chord(sums, told(sums, sums.total.s(), "inner"))
    canvas = chord([inner, sums.seven.s()], told(sums, sums.total.s(), "outer"))

    def run_it() -> None:
        with pytest.raises(WorkflowFailedError, match="no more numbers"):
            sums.stabilize.start_canvas(canvas).result(timeout_s=30)

    assert lines(sums, run_it, 2) == ["told inner", "told outer"]


def test_links_get_the_result_and_their_failure_is_nobodys(sums: ModuleType) -> None:
    def make() -> Signature:
        step = sums.add.s(1, 2)
        step.link(sums.noted.s())
        step.link(sums.fail.s())
        return chain(step, sums.double.s())

    expected = lines(sums, lambda: by_celery(make()), 1)
    seen: list[Any] = []

    assert lines(sums, lambda: seen.append(sums.stabilize.start_canvas(make()).result(30)), 1) == expected
    assert seen == [6]


def test_the_others_of_a_group_go_on_when_one_fails(sums: ModuleType) -> None:
    """As Celery's do."""
    canvas = group(sums.fail.s(), chain(sums.seven.s(), sums.noted.si("on"), sums.noted.si("and on")))

    assert lines(sums, lambda: sums.stabilize.start_canvas(canvas), 2) == ["noted and on", "noted on"]


def test_what_has_no_counterpart_is_refused_by_its_place(sums: ModuleType) -> None:
    """All of it in one error; nothing is started."""
    late = sums.add.s(1, {2}).set(expires=3)
    chained = sums.fail.s().on_error(sums.seven.s())
    chained.options["link_error"] = [chain(sums.noted.s(1), sums.noted.s(2))]
    canvas = group(chain(sums.seven.s(), late), sums.seven.s().set(queue="fast"), chained)

    with pytest.raises(InvalidWorkflowError) as refused:
        sums.stabilize.start_canvas(canvas)

    paths = {problem.path for problem in refused.value.problems}
    assert paths == {"group[0][1]", "group[1]", "group[2].link_error"}
    assert "'queue'" in str(refused.value)
    assert "Object of type set is not JSON serializable" in str(refused.value)


def test_a_key_starts_a_canvas_once(sums: ModuleType) -> None:
    first = sums.stabilize.start_canvas(sums.add.s(1, 2), idempotency_key="sum of today")
    again = sums.stabilize.start_canvas(sums.add.s(1, 2), idempotency_key="sum of today")

    assert first == again
    assert again.result(timeout_s=30) == 3


def test_a_wide_chord_keeps_its_order(sums: ModuleType) -> None:
    canvas = chord([sums.double.s(n) for n in range(200)], sums.pair.s())

    assert sums.stabilize.start_canvas(canvas).result(timeout_s=60) == [[[n * 2 for n in range(200)]], {}]


def test_the_page_shows_what_works(sums: ModuleType) -> None:
    """Its app is made as it stands; its canvas then runs on the tests' app."""
    made, started = blocks("docs/canvas.md")
    names = execute([made])
    names["app"].close()
    tasks = {"add": sums.add, "total": sums.total, "stabilize": sums.stabilize}

    handle = execute([started], **{**names, **tasks})["handle"]

    assert handle.get().name == "report"
    assert asyncio.run(_result_in_a_loop(sums, handle.id)) == 91


async def _result_in_a_loop(sums: ModuleType, workflow_id: str) -> Any:
    async with AsyncClient(os.environ["CANVAS_STATE"], os.environ["CANVAS_BROKER"]) as client:
        return await client.handle(workflow_id).result(30)


def test_the_command_prints_the_result(sums: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """And says why there is none."""
    done = sums.stabilize.start_canvas(sums.pair.s(1, a=dt.date(2026, 1, 2)))
    failed = sums.stabilize.start_canvas(sums.fail.s())
    urls = ["--redis-url", os.environ["CANVAS_STATE"], "--broker-url", os.environ["CANVAS_BROKER"]]

    assert run(["result", done.id, "--timeout", "30", *urls]) == 0
    assert json.loads(capsys.readouterr().out) == [[1], {"a": {"__type__": "date", "__value__": "2026-01-02"}}]
    assert run(["result", failed.id, "--timeout", "30", *urls]) == 1
    assert "no more numbers" in capsys.readouterr().err
