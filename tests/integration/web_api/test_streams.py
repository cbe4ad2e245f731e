"""The streams of the HTTP API: what happens is told as it happens, to as many as there are places for."""

from __future__ import annotations

import contextlib

import pytest

from stabilize_celery.client import Client
from stabilize_celery.web import WebSettings
from tests.integration.fleet import eventually
from tests.integration.site import API, Site, Stream, fits, flow, gate, served, stage, started

pytestmark = pytest.mark.real


def test_a_stream_tells_what_changes_as_it_happens(site: Site) -> None:
    """Stages with their new status, what happened in words; the whole is to be read again at the end."""
    run = started(site, flow(gate(), stage("after", "gate", context={"sleep_s": 0.5})), gate="SUSPENDED")
    position = site.get(f"/workflows/{run}")["position"]
    with Stream(site, f"/streams/workflows/{run}?from={position}") as stream:
        site.post(f"/workflows/{run}/stages/gate/signal", {"name": "approve"})

        def statuses() -> list[tuple[str, str]]:
            return [(line["ref_id"], line["status"]) for one in stream.of("change") for line in one["stages"]]

        eventually(lambda: ("after", "RUNNING") in statuses(), 60)
        eventually(lambda: stream.of("reload"), 60)
    assert ("gate", "SUCCEEDED") in statuses()
    assert any("got signal 'approve'" in line["told"] for one in stream.of("change") for line in one["told"])


def test_a_stream_that_broke_goes_on_behind_the_last_event(site: Site) -> None:
    """`Last-Event-ID` is what browsers send: nothing is told twice, nothing is left out."""
    run = started(site, flow(gate()), gate="SUSPENDED")
    events = site.get(f"/workflows/{run}/events")["items"]
    with Stream(site, f"/streams/workflows/{run}", **{"last-event-id": events[-2]["id"]}) as stream:
        [change] = eventually(lambda: stream.of("change"), 60)
    assert [one["id"] for one in change["told"]] == [events[-1]["id"]]
    assert stream.heard[0][2] == events[-1]["id"]


@pytest.mark.parametrize("last", ["x", "-1", "18446744073709551616-0"])
def test_who_goes_on_behind_no_event_is_told_so(site: Site, last: str) -> None:
    """Redis is not asked: it would refuse it to all who listen to that partition."""
    run = site.client.start(flow(gate()))
    answer = site.http.get(f"{API}/streams/workflows/{run.id}", headers={"last-event-id": last})

    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert "from" in fits(answer.json(), "Problem")["detail"]


def test_the_events_of_one_stage(site: Site) -> None:
    """Only its own, all of them, and none of a stage that there is not."""
    run = started(site, flow(gate(), stage("after", "gate")), gate="SUSPENDED")
    every = site.get(f"/workflows/{run}/events")["items"]

    of_gate = site.get(f"/workflows/{run}/events", ref="gate")

    assert of_gate == {"items": [one for one in every if one["ref_id"] == "gate"], "position": None}
    assert of_gate["items"]
    assert site.get(f"/workflows/{run}/events", ref="nobody")["items"] == []


def test_the_list_tells_of_new_workflows_and_of_those_in_sight(site: Site) -> None:
    """What is asked for by id is told, too, wherever in the list it stands."""
    old = started(site, flow(gate(), name="watched-old"))
    with Stream(site, f"/streams/workflows?name=watched-new&ids={old}") as stream:
        eventually(lambda: stream.of("lines"), 30)
        new = started(site, flow(gate(), name="watched-new"))
        eventually(lambda: any(line["id"] == new for one in stream.of("lines") for line in one["newest"]), 30)
        site.client.handle(old).cancel("test")
        eventually(lambda: any(one["status"] == "CANCELED" for told in stream.of("lines") for one in told["shown"]), 30)


def test_the_list_tells_only_of_those_that_are_asked_for(site: Site) -> None:
    """By status and time of start; one that comes into the status is told, however old it is."""
    old = started(site, flow(gate(), name="narrow"))
    since = site.get(f"/workflows/{started(site, flow(gate(), name='narrow'))}")["started_ms"]
    with (
        Stream(site, f"/streams/workflows?name=narrow&since_ms={since}") as late,
        Stream(site, "/streams/workflows?name=narrow&status=CANCELED") as ended,
    ):
        eventually(lambda: late.of("lines") and ended.of("lines"), 30)
        assert ended.of("lines")[0]["newest"] == []
        assert all(one["is_all"] for one in late.of("lines") + ended.of("lines"))
        site.client.handle(old).cancel("test")
        eventually(lambda: [one["id"] for told in ended.of("lines") for one in told["newest"]] == [old], 30)
    assert old not in [one["id"] for told in late.of("lines") for one in told["newest"]]


def test_a_stream_ends_with_the_session_of_who_asked(redis_url: str) -> None:
    """Then the browser asks again, and is told to sign in."""
    settings = WebSettings(token="a token that is long enough", session_s=2)
    with Client(redis_url, redis_url) as client, served(client, settings) as site:
        signed_in = site.post("/session", {"token": settings.token})
        del site.http.headers["authorization"]
        assert signed_in.status_code == 200
        with Stream(site, "/streams/locks") as stream:
            eventually(lambda: stream.of("locks"), 30)
            eventually(lambda: not stream.is_open, 30)
        assert site.http.get(f"{API}/streams/locks").status_code == 401


def test_locks_and_fleet_are_told_once_and_then_when_they_change(site: Site) -> None:
    """The first look comes at once; a lock that is taken is told within seconds."""
    with Stream(site, "/streams/locks") as locks, Stream(site, "/streams/fleet") as fleet:
        eventually(lambda: locks.of("locks") and fleet.of("fleet"), 30)
        run = started(site, flow(stage("held", does="approval", mutex_key="told-live", context={"signal": "x"})))
        eventually(lambda: any(lock["key"] == "told-live" for one in locks.of("locks") for lock in one["items"]), 30)
    assert fleet.of("fleet")[0]["workers"]
    site.client.handle(run).cancel("test")


def test_only_so_many_streams_are_open_at_once(redis_url: str) -> None:
    """One more is refused in words; a place is free again when one ends."""
    settings = WebSettings(max_streams=1)
    with Client(redis_url, redis_url) as client, served(client, settings) as site:
        with Stream(site, "/streams/locks") as first:
            eventually(lambda: first.of("locks"), 30)
            refused = site.http.get(f"{API}/streams/locks")
            assert refused.status_code == 503
            assert "live views" in refused.json()["detail"]

        def heard_again() -> bool:
            with Stream(site, "/streams/locks") as second, contextlib.suppress(AssertionError):
                return bool(eventually(lambda: second.of("locks"), 1))
            return False

        eventually(heard_again, 30)


def test_many_that_ask_at_once_get_no_more_places_than_there_are(redis_url: str) -> None:
    """As when a browser opens all its tabs again."""
    with Client(redis_url, redis_url) as client, served(client, WebSettings(max_streams=2)) as site:
        streams = [Stream(site, "/streams/locks") for _ in range(12)]
        with contextlib.ExitStack() as stack:
            for stream in streams:
                stack.enter_context(stream)

            statuses = [eventually(lambda s=stream: s.status, 30) for stream in streams]

        assert sorted(statuses) == [200] * 2 + [503] * 10
