"""What every request passes before anything is read or changed."""

import asyncio
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from stabilize_celery.client import Client
from stabilize_celery.errors import ConfigurationError
from stabilize_celery.store.memory import MemoryStore
from stabilize_celery.web import WebSettings, make_web_app
from stabilize_celery.web.guard import API, SECURITY_HEADERS

TOKEN = "a token that is long enough"
JSON = {"content-type": "application/json"}


class Nobody:
    """Publishes to nobody."""

    def publish(self, batch: object) -> None:
        """Drop it."""


def ask(settings: WebSettings, method: str, path: str, **given: Any) -> httpx.Response:
    """Ask an application that has a memory store behind it."""
    client = Client("redis://unused", store=MemoryStore(), publisher=Nobody())
    base, root = given.pop("base", "http://localhost:5556"), given.pop("root", "")
    app: Starlette = make_web_app(client, settings)
    if mount := given.pop("mount", ""):
        app = Starlette(routes=[Mount(mount, app)])

    async def asking() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, root_path=root)
        async with httpx.AsyncClient(transport=transport, base_url=base) as http:
            return await http.request(method, path, **given)

    return asyncio.run(asking())


def test_every_answer_forbids_frames_inline_code_and_other_sites() -> None:
    """The page, its files, the API and its errors."""
    for path in ("/", "/static/js/main.js", f"{API}/service", f"{API}/nothing", "/nothing"):
        headers = ask(WebSettings(), "GET", path).headers
        assert {name: headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS, path


def test_the_policy_allows_no_inline_code_and_the_page_has_none() -> None:
    """No script or style of the page needs what the policy forbids."""
    page = ask(WebSettings(), "GET", "/").text

    assert "unsafe" not in SECURITY_HEADERS["content-security-policy"]
    assert "<style" not in page
    assert "style=" not in page
    assert "onclick" not in page
    assert page.count("<script") == page.count("<script type=") == 1


def test_another_name_for_this_machine_is_refused_while_nobody_is_asked() -> None:
    """A site whose name suddenly stands for 127.0.0.1 (DNS rebinding) reads nothing."""
    answer = ask(WebSettings(), "GET", f"{API}/workflows", base="http://evil.example")

    assert answer.status_code == 421
    assert "evil.example" in answer.json()["detail"]
    assert ask(
        WebSettings(allowed_hosts=("ops.example",)), "GET", f"{API}/workflows", base="http://ops.example:80"
    ).is_success


@pytest.mark.parametrize("claim", ["localhost", "127.0.0.1", "localhost, evil.example"])
@pytest.mark.parametrize("settings", [WebSettings(), WebSettings(user_header="X-Forwarded-User")])
def test_a_page_of_another_name_does_not_talk_itself_in(settings: WebSettings, claim: str) -> None:
    """Once its name stands for this machine it is its own origin, and can send any header: a proxy's, too."""
    headers = {"x-forwarded-host": claim, "x-forwarded-user": "root", "sec-fetch-site": "same-origin"} | JSON

    assert ask(settings, "GET", f"{API}/workflows", base="http://evil.example", headers=headers).status_code == 421
    told = ask(settings, "POST", f"{API}/workflows/x/pause", base="http://evil.example", headers=headers, json={})
    assert told.status_code == 421


def test_behind_a_proxy_that_signs_people_in_both_names_must_be_allowed() -> None:
    """What the browser asked the proxy for, and what the proxy asks the page for."""
    settings = WebSettings(user_header="X-Forwarded-User", allowed_hosts=("Jobs.Example",))
    known = {"x-forwarded-user": "ann"}

    def status(base: str, **headers: str) -> int:
        given = known | {name.replace("_", "-"): value for name, value in headers.items()}
        return ask(settings, "GET", f"{API}/workflows", base=base, headers=given).status_code

    assert status("http://jobs.example") == 200
    assert status("http://JOBS.example:8080") == 200
    assert status("http://127.0.0.1:5556", x_forwarded_host="jobs.example, inner") == 200
    assert status("http://127.0.0.1:5556", x_forwarded_host="evil.example") == 421
    assert status("http://inner") == 421


@pytest.mark.parametrize("name", ["jobs.example:7823", "http://jobs.example", "", "jobs.example/ops"])
def test_an_allowed_host_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="without scheme and port"):
        WebSettings(allowed_hosts=(name,))


@pytest.mark.parametrize("host", ["[", "[::1", "a b", "", "[]:80"])
def test_a_host_that_is_none_is_no_defect(host: str) -> None:
    assert ask(WebSettings(), "GET", f"{API}/workflows", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("where", [{"mount": "/ops"}, {"root": "/ops"}, {"mount": "/api/v1"}, {"mount": "/static"}])
def test_the_api_is_closed_under_whatever_path_it_is_mounted(where: dict[str, str]) -> None:
    """Under one that looks like one of its own, too."""
    settings = WebSettings(token=TOKEN)
    known = {"authorization": f"Bearer {TOKEN}"}
    under = next(iter(where.values()))

    for path in (f"{API}/workflows", f"{API}/service", f"{API}/streams/fleet", f"{API}/nothing", "/metrics"):
        assert ask(settings, "GET", under + path, **where).status_code == 401, path
    assert ask(settings, "POST", f"{under}{API}/workflows", json={}, **where).status_code == 401
    assert ask(settings, "GET", f"{under}{API}/workflows", headers=known, **where).is_success
    for path in ("/", "/static/js/main.js", "/healthz", f"{API}/openapi.json"):
        assert ask(settings, "GET", under + path, **where).is_success, path
    assert ask(settings, "POST", f"{under}{API}/session", json={"token": TOKEN}, **where).is_success
    read_only = WebSettings(token=TOKEN, is_read_only=True)
    assert ask(read_only, "POST", f"{under}{API}/workflows", json={}, headers=known, **where).status_code == 403
    assert ask(read_only, "POST", f"{under}{API}/session", json={"token": TOKEN}, **where).is_success
    assert ask(WebSettings(), "GET", f"{under}/healthz", base="http://10.1.2.3", **where).is_success


def test_the_api_is_closed_without_the_token_and_the_shell_is_open() -> None:
    """Whoever opens the page can sign in; no data is there before."""
    settings = WebSettings(token=TOKEN)

    answer = ask(settings, "GET", f"{API}/workflows", base="http://any.example")
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert "Bearer" in answer.headers["www-authenticate"]
    assert ask(settings, "GET", "/").is_success
    assert ask(settings, "GET", f"{API}/workflows", headers={"authorization": f"Bearer {TOKEN}"}).is_success


def test_signing_in_gives_a_cookie_that_scripts_and_other_sites_do_not_get() -> None:
    """HttpOnly and SameSite=Strict; Secure where the proxy says that it speaks TLS."""
    settings = WebSettings(token=TOKEN)
    behind = {"x-forwarded-proto": "https"}

    plain = ask(settings, "POST", f"{API}/session", json={"token": TOKEN}).headers["set-cookie"].lower()
    secure = (
        ask(settings, "POST", f"{API}/session", json={"token": TOKEN}, headers=behind).headers["set-cookie"].lower()
    )
    assert "httponly" in plain
    assert "samesite=strict" in plain
    assert "secure" not in plain
    assert "secure" in secure
    assert ask(settings, "POST", f"{API}/session", json={"token": TOKEN + "x"}).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 404),
        ({"origin": "http://localhost:5556", "sec-fetch-site": "same-origin"}, 404),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:9999"}, 403),
        ({"origin": "http://["}, 403),
        ({"origin": "https://jobs.example", "x-forwarded-host": "jobs.example, inner"}, 404),
        ({"origin": "https://jobs.example", "sec-fetch-site": "same-origin"}, 404),
        ({"origin": "https://evil.example", "x-forwarded-host": "jobs.example"}, 403),
        ({"origin": "http://localhost:5556", "sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_what_another_site_made_the_browser_send_changes_nothing(headers: dict[str, str], status: int) -> None:
    """404 stands for what got through: there is no such workflow."""
    answer = ask(WebSettings(), "POST", f"{API}/workflows/x/cancel", content=b"{}", headers=JSON | headers)

    assert answer.status_code == status


@pytest.mark.parametrize("headers", [{}, JSON])
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", f"{API}/workflows/x", "GET"),
        ("PATCH", f"{API}/locks", "GET"),
        ("DELETE", f"{API}/workflows/x/cancel", "POST"),
        ("POST", f"{API}/locks", "GET"),
        ("POST", "/", "GET"),
    ],
)
def test_a_method_that_a_path_does_not_have_is_told_as_such(
    method: str, path: str, allowed: str, headers: dict[str, str]
) -> None:
    """Not as a lack of JSON: with it the answer would be the same."""
    answer = ask(WebSettings(), method, path, headers=headers)

    assert answer.status_code == 405
    assert allowed in answer.headers["allow"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", [f"{API}/workflows/", f"{API}/locks/", f"{API}/", "/healthz/", "/nothing"])
def test_an_address_that_is_nearly_right_is_not_found(method: str, path: str) -> None:
    """Nobody is sent on: a program that does not follow would take an empty answer for the real one."""
    answer = ask(WebSettings(), method, path)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_read_only_refuses_every_change_and_shows_everything() -> None:
    """Signing in is no change."""
    settings = WebSettings(token=TOKEN, is_read_only=True)
    known = {"authorization": f"Bearer {TOKEN}"}

    for path in ("/workflows", "/workflows/x/cancel", "/workflows/x/stages/a/signal", "/dead/x/y/drop"):
        assert ask(settings, "POST", API + path, json={}, headers=known).status_code == 403, path
    assert ask(settings, "GET", f"{API}/workflows", headers=known).is_success
    assert ask(settings, "POST", f"{API}/session", json={"token": TOKEN}).is_success


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_no_other_site_signs_a_browser_in_or_out(method: str) -> None:
    """Though the browser shows nothing yet: who is signed in as somebody else works, and looks, under that name."""
    settings = WebSettings(token=TOKEN)
    headers = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}

    answer = ask(settings, method, f"{API}/session", json={"token": TOKEN}, headers=headers)

    assert answer.status_code == 403
    assert "another site" in answer.text
    assert "set-cookie" not in answer.headers


def test_a_body_that_is_too_large_is_refused_before_it_is_kept() -> None:
    """Also where nobody said before how large it is."""
    settings = WebSettings(max_body_bytes=1000)

    async def parts() -> Any:
        for _ in range(100):
            yield b" " * 100

    whole = ask(settings, "POST", f"{API}/workflows", content=b" " * 5000, headers=JSON)
    assert whole.status_code == 413
    assert "1,000" in whole.json()["detail"]
    assert ask(settings, "POST", f"{API}/workflows", content=parts(), headers=JSON).status_code == 413


def test_no_path_leads_out_of_the_folder_of_files() -> None:
    """However it is written."""
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/js/..%2f..%2fapp.py"):
        assert ask(WebSettings(), "GET", path).status_code == 404


def test_whether_it_lives_is_told_to_whoever_asks() -> None:
    """A probe knows neither the token nor the name of the page."""
    assert ask(WebSettings(token=TOKEN), "GET", "/healthz", base="http://10.1.2.3").text == "ok\n"


def test_a_defect_tells_nothing_of_the_inside() -> None:
    """The traceback is for the log, not for who asks."""

    class Broken(MemoryStore):
        def time_ms(self) -> int:
            raise ZeroDivisionError("the secret")

    async def asking() -> httpx.Response:
        client = Client("redis://unused", store=Broken(), publisher=Nobody())
        transport = httpx.ASGITransport(make_web_app(client), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.get(f"{API}/workflows")

    answer = asyncio.run(asking())
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["content-security-policy"] == SECURITY_HEADERS["content-security-policy"]
