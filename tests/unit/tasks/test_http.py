"""The http task against a real server on this machine."""

import base64
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from stabilize_celery.errors import ContextError, TransientError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.status import WorkflowStatus
from stabilize_celery.tasks import http_guard
from stabilize_celery.tasks.call import bind_call
from stabilize_celery.tasks.cancellation import CancellationToken, TaskCancelledError, bind_token
from stabilize_celery.tasks.http import HTTPTask
from tests.unit.tasks.support import call_with, stage_with


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    status: int = 200
    body: bytes = b"hello"
    headers: dict[str, str] = field(default_factory=dict)


class Server(ThreadingHTTPServer):
    """Answers by path as told, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: dict[str, Reply] = {}
        self.seen: list[Seen] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.seen.append(Seen(self.command, self.path, dict(self.headers.items()), body))
        reply = self.server.replies.get(self.path.partition("?")[0], Reply())
        self.send_response(reply.status)
        self.send_header("Content-Length", str(len(reply.body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = answer

    @override
    def log_message(self, format: str, *args: Any) -> None:
        return None


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(url: str, **context: Any) -> TaskResult:
    return HTTPTask().execute(stage_with(url=url, **{"allow_private": True, **context}))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_a_request_gives_status_headers_and_body(server: Server) -> None:
    """The outputs are those that upstream programs read."""
    server.replies["/x"] = Reply(
        headers={"Content-Type": "text/plain; charset=utf-8", "X-Order": "7"}, body="grüße".encode()
    )

    result = ask(f"{server.url}/x")

    outputs = result.outputs
    assert result.status is WorkflowStatus.SUCCEEDED
    assert (outputs["status_code"], outputs["body"], outputs["url"]) == (200, "grüße", f"{server.url}/x")
    assert (outputs["content_type"], outputs["content_length"]) == ("text/plain; charset=utf-8", 7)
    assert outputs["headers"]["X-Order"] == "7"
    assert outputs["elapsed_ms"] >= 0
    assert server.seen[0].method == "GET"


def test_a_body_in_another_charset_is_decoded(server: Server) -> None:
    """As the content type says; an unknown charset is read as UTF-8."""
    server.replies["/latin"] = Reply(headers={"Content-Type": "text/plain; charset=latin-1"}, body=b"gr\xfc\xdfe")
    server.replies["/odd"] = Reply(headers={"Content-Type": "text/plain; charset=nonsense"}, body=b"plain")

    assert ask(f"{server.url}/latin").outputs["body"] == "grüße"
    assert ask(f"{server.url}/odd").outputs["body"] == "plain"


@pytest.mark.parametrize(
    ("context", "content_type", "body"),
    [
        ({"json": {"id": "{order}", "n": [1]}}, "application/json", b'{"id": "a b&c", "n": [1]}'),
        ({"form": {"id": "{order}", "n": [1, 2]}}, "application/x-www-form-urlencoded", b"id=a+b%26c&n=1&n=2"),
        ({"body": "<id>{order}</id>"}, "text/plain; charset=utf-8", b"<id>a b&c</id>"),
        ({"body": "<x/>", "headers": {"content-type": "text/xml"}}, "text/xml", b"<x/>"),
        ({}, None, b""),
    ],
)
def test_a_body_is_sent_as_what_it_is(
    server: Server, context: dict[str, Any], content_type: str | None, body: bytes
) -> None:
    """JSON, form or text, each with its content type, placeholders filled."""
    ask(server.url, method="post", order="a b&c", **context)

    [seen] = server.seen
    sent_type = {name.lower(): value for name, value in seen.headers.items()}.get("content-type")
    assert (seen.method, sent_type, seen.body) == ("POST", content_type, body)
    assert seen.headers["Content-Length"] == str(len(body))


def test_a_file_is_uploaded_with_its_fields(server: Server, tmp_path: Path) -> None:
    """As multipart/form-data, the name and the field chosen by the stage."""
    path = tmp_path / "report.pdf"
    path.write_bytes(b"%PDF\x00" * 30_000)

    ask(
        server.url, method="PUT", upload_file=str(path), upload_field="doc", upload_form={"n": 3}, upload_filename='a"b'
    )

    [seen] = server.seen
    assert seen.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert b'name="n"\r\n\r\n3\r\n' in seen.body
    assert b'name="doc"; filename="a%22b"\r\nContent-Type: application/octet-stream\r\n\r\n%PDF' in seen.body
    assert path.read_bytes() in seen.body


def test_values_in_a_url_are_encoded_and_a_base_is_not(server: Server) -> None:
    """A placeholder that begins the URL is its base; one further on can't break out of its place."""
    ask("{base}/orders/{order}?q={query}", base=server.url, order="../7", query="a&admin=1 ü")

    assert server.seen[0].path == "/orders/..%2F7?q=a%26admin%3D1%20%C3%BC"


def test_credentials_are_sent_as_the_server_expects(server: Server) -> None:
    """Basic from [user, password], bearer from a token; both may be placeholders."""
    ask(server.url, auth=["ann", "{word}"], word="pass")
    ask(server.url, bearer_token="{token}", token="t0ken")

    basic, bearer = (seen.headers["Authorization"] for seen in server.seen)
    assert basic == f"Basic {base64.b64encode(b'ann:pass').decode()}"
    assert bearer == "Bearer t0ken"


@pytest.mark.parametrize(
    ("status", "expected", "ends"),
    [
        (204, None, "SUCCEEDED"),
        (404, None, "TERMINAL"),
        (404, 404, "SUCCEEDED"),
        (200, [201, 202], "TERMINAL"),
        (503, [503], "SUCCEEDED"),
    ],
)
def test_the_expected_status_is_a_success(server: Server, status: int, expected: Any, ends: str) -> None:
    """Without one, any 2xx is; what is not expected fails and keeps the answer."""
    server.replies["/"] = Reply(status, body=b"" if status == 204 else b"why")

    result = ask(f"{server.url}/", expected_status=expected)

    assert (result.status.name, result.outputs["status_code"]) == (ends, status)
    if ends == "TERMINAL":
        assert f"GET {server.url}/: unexpected status {status}, expected" in result.context["error"]
        assert result.outputs["body"] == "why"


def test_json_is_parsed_on_request(server: Server) -> None:
    """An empty answer is None; an answer that should be JSON and is not fails, with its text kept."""
    server.replies |= {"/ok": Reply(body=b'{"id": 7}'), "/none": Reply(204, b""), "/bad": Reply(body=b"<html>")}

    assert ask(f"{server.url}/ok", parse_json=True).outputs["body_json"] == {"id": 7}
    assert ask(f"{server.url}/none", parse_json=True).outputs["body_json"] is None
    bad = ask(f"{server.url}/bad", parse_json=True)
    assert (bad.status, bad.outputs["body"]) == (WorkflowStatus.TERMINAL, "<html>")
    assert "the answer is not JSON" in bad.context["error"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(server: Server, status: int) -> None:
    """429 and every 5xx are transient; the server's Retry-After is honoured."""
    server.replies["/"] = Reply(status, headers={"Retry-After": "7"})

    with pytest.raises(TransientError, match=f"unexpected status {status}") as caught:
        ask(f"{server.url}/", retry_delay=2)
    assert caught.value.retry_after == 7


def test_the_statuses_to_retry_and_the_pause_are_the_stages(server: Server) -> None:
    """retry_on_status replaces the default, retry_delay the engine's back-off."""
    server.replies |= {"/gone": Reply(404), "/broken": Reply(500)}

    with pytest.raises(TransientError) as caught:
        ask(f"{server.url}/gone", retry_on_status=[404], retry_delay=2)
    assert caught.value.retry_after == 2
    assert ask(f"{server.url}/broken", retry_on_status=[404]).status is WorkflowStatus.TERMINAL


@pytest.mark.parametrize(("attempt", "again"), [(1, True), (2, True), (3, False)])
def test_after_its_retries_the_task_fails_itself(server: Server, attempt: int, again: bool) -> None:
    """retries: 2 makes three tries; the last keeps its answer and lets the pipeline go on where it may."""
    server.replies["/"] = Reply(500)
    with bind_call(call_with(attempt=attempt)):
        if again:
            with pytest.raises(TransientError):
                ask(f"{server.url}/", retries=2)
            return
        result = ask(f"{server.url}/", retries=2, continue_on_failure=True)

    assert (result.status, result.outputs["status_code"]) == (WorkflowStatus.FAILED_CONTINUE, 500)


@pytest.mark.parametrize(
    ("method", "tries"), [("GET", 4), ("HEAD", 4), ("PUT", 4), ("DELETE", 4), ("OPTIONS", 4), ("POST", 1), ("PATCH", 1)]
)
def test_what_may_not_be_repeated_is_asked_once(server: Server, method: str, tries: int) -> None:
    """Nobody is charged twice because the shop's answer was lost, unless `retries` says that this is no harm."""
    server.replies["/"] = Reply(503)
    for attempt in range(1, tries):
        with bind_call(call_with(attempt=attempt)), pytest.raises(TransientError):
            ask(f"{server.url}/", method=method)
    with bind_call(call_with(attempt=tries)):
        assert ask(f"{server.url}/", method=method).status is WorkflowStatus.TERMINAL
    with pytest.raises(TransientError):
        ask(f"{server.url}/", method=method, retries=1)


def test_no_answer_is_tried_again() -> None:
    """A refused connection is transient, without a pause of its own."""
    with pytest.raises(TransientError, match="no answer: ConnectionRefusedError") as caught:
        ask(f"http://127.0.0.1:{free_port()}/")
    assert caught.value.retry_after is None


def test_a_silent_server_is_tried_again() -> None:
    """A server that takes the connection and says nothing runs into the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(TransientError, match="no answer: Timeout"):
        ask(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=0.2)


def test_a_download_is_a_file_that_appears_whole(server: Server, tmp_path: Path) -> None:
    """The body is the path; there is no limit but one asked for; a page that explains an error is no download."""
    server.replies |= {"/big": Reply(body=b"x" * 3_000_000), "/no": Reply(404, b"gone")}
    target = tmp_path / "big.bin"

    result = ask(f"{server.url}/big", download_to=str(target))
    refused = ask(f"{server.url}/no", download_to=str(tmp_path / "no.bin"))
    too_big = ask(f"{server.url}/big", download_to=str(tmp_path / "limited.bin"), max_response_size=1000)

    assert (result.outputs["body"], result.outputs["content_length"]) == (str(target), 3_000_000)
    assert target.read_bytes() == b"x" * 3_000_000
    assert refused.outputs["body"] == "gone"
    assert "beyond the max size of 1000 bytes" in too_big.context["error"]
    assert [path.name for path in tmp_path.iterdir()] == ["big.bin"]


def test_a_download_to_nowhere_says_so(server: Server, tmp_path: Path) -> None:
    """Trying again would not make the folder."""
    result = ask(server.url, download_to=str(tmp_path / "missing" / "file"))

    assert "`download_to`" in result.context["error"]


def test_an_answer_beyond_the_limit_fails(server: Server) -> None:
    """It is never cut to something that looks whole; a body fits 1 MiB by default."""
    server.replies["/"] = Reply(body=b"x" * 1_048_577)

    result = ask(f"{server.url}/")

    assert result.status is WorkflowStatus.TERMINAL
    assert "beyond the max size of 1048576 bytes; raise `max_response_size`" in result.context["error"]


@pytest.mark.parametrize(
    ("status", "method", "sent"),
    [
        (302, "POST", ("GET", b"")),
        (303, "PUT", ("GET", b"")),
        (307, "POST", ("POST", b"data")),
        (301, "GET", ("GET", b"")),
    ],
)
def test_redirects_are_followed(server: Server, status: int, method: str, sent: tuple[str, bytes]) -> None:
    """With the method and body that the status asks for; the last URL is an output."""
    server.replies["/from"] = Reply(status, headers={"Location": "/to?x=1"})

    result = ask(f"{server.url}/from", method=method, **({"body": "data"} if method != "GET" else {}))

    assert result.outputs["url"] == f"{server.url}/to?x=1"
    assert (server.seen[1].method, server.seen[1].body) == sent


def test_redirects_in_a_circle_end(server: Server) -> None:
    """Ten are followed."""
    server.replies["/"] = Reply(302, headers={"Location": "/"})

    assert "more than 10 redirects" in ask(f"{server.url}/").context["error"]
    assert len(server.seen) == 11


def test_credentials_stay_with_their_origin(server: Server) -> None:
    """Another host gets neither Authorization nor cookies nor a header with a secret; the same one gets them."""
    server.replies["/near"] = Reply(302, headers={"Location": "/last"})
    server.replies["/far"] = Reply(302, headers={"Location": f"http://localhost:{server.server_port}/last"})
    settings: dict[str, Any] = {"bearer_token": "t", "key": "k3y", "secrets": ["key"]}
    settings["headers"] = {"Cookie": "a=b", "X-Key": "{key}", "X-Plain": "p"}

    ask(f"{server.url}/near", **settings)
    ask(f"{server.url}/far", **settings)

    near, far = (seen.headers for seen in server.seen if seen.path == "/last")
    names = ("Authorization", "Cookie", "X-Key", "X-Plain")
    assert [name in near for name in names] == [True] * 4
    assert [name in far for name in names] == [False, False, False, True]


def test_secrets_do_not_show_in_errors(server: Server) -> None:
    """Neither as a part of the URL nor in the reason."""
    server.replies["/s3cret"] = Reply(404)

    result = ask(f"{server.url}/{{key}}", key="s3cret", secrets=["key"])

    assert "/***: unexpected status 404" in result.context["error"]
    assert "s3cret" not in str(result)


def test_the_url_that_is_put_out_hides_declared_secrets_and_nothing_else(server: Server) -> None:
    """Not the host, nor what happens to equal a password or a token; a value is hidden as it was encoded, too."""
    plain = ask(f"{server.url}/t/users?at=http", bearer_token="t")
    hidden = ask(f"{server.url}/{{key}}/a?k={{other}}", key="a b", other="1", secrets=["key", "other"])

    assert plain.outputs["url"] == f"{server.url}/t/users?at=http"
    assert hidden.outputs["url"] == f"{server.url}/***/a?k=***"


def test_a_cancellation_stops_reading(server: Server) -> None:
    """The body stops at the next piece of the answer."""
    token = CancellationToken()
    token.cancel("workflow canceled")

    with bind_token(token), pytest.raises(TaskCancelledError, match="workflow canceled"):
        ask(server.url)


def test_private_addresses_are_refused(server: Server) -> None:
    """By number and by name, before anything is sent; the error says how to allow it."""
    for host in ("127.0.0.1", "localhost", "[::1]"):
        result = ask(f"http://{host}:{server.server_port}/", allow_private=False)
        assert result.status is WorkflowStatus.TERMINAL
        assert "is not public; if this stage may talk to it, set `allow_private: true`" in result.context["error"]
    assert server.seen == []


def test_a_redirect_to_a_private_address_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every hop is looked at, not the first only."""
    monkeypatch.setattr(http_guard, "is_public", lambda address: address == "127.0.0.1")
    server.replies["/"] = Reply(302, headers={"Location": f"http://127.0.0.2:{server.server_port}/inside"})

    result = ask(f"{server.url}/", allow_private=False)

    assert "127.0.0.2 has the address 127.0.0.2, which is not public" in result.context["error"]
    assert len(server.seen) == 1


def test_an_operator_may_forbid_private_addresses() -> None:
    """No stage can switch the guard off then."""
    task = HTTPTask(may_allow_private=False)

    with pytest.raises(ContextError, match="this worker does not let stages set `allow_private`"):
        task.execute(stage_with(url="http://127.0.0.1/", allow_private=True))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("2002:7f00:1::", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b::5db8:d822", True),
    ],
)
def test_the_table_of_public_addresses(address: str, public: bool) -> None:
    """Loopback, private, link-local, shared, multicast and reserved are not; nor IPv4 ones dressed as IPv6."""
    assert http_guard.is_public(address) is public


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://example.org/", "it must start with http:// or https:// and a host"),
        ("file:///etc/passwd", "it must start with"),
        ("http:///x", "it must start with"),
        ("http://host:port/", "is not a URL that can be asked"),
        ("http://ann:secret@example.org/", "has a user name in it"),
    ],
)
def test_what_is_no_url_is_a_failure_with_a_reason(url: str, problem: str) -> None:
    """Not an exception: trying again would not help."""
    result = ask(url)

    assert result.status is WorkflowStatus.TERMINAL
    assert problem in result.context["error"]


@pytest.mark.parametrize(
    ("context", "problem"),
    [
        ({"url": ""}, "`url` must be a text that is not empty"),
        ({"method": "BREW"}, "unsupported method 'BREW'; known are DELETE, GET"),
        ({"json": {}, "body": "x"}, "give one body, not `body` and `json`"),
        ({"auth": ["ann"]}, r"`auth` must be \[user name, password\]"),
        ({"auth": ["ann", "x"], "bearer_token": "t"}, "give `auth` or `bearer_token`, not both"),
        ({"headers": {"X": "a\r\nInjected: b"}}, "the header 'X' has a line break or a character"),
        ({"upload_file": "/no/such/file"}, "`upload_file`: file not found: '/no/such/file'"),
        ({"upload_file": "/\0"}, "`upload_file` can't be read"),
        ({"ca_cert": "/no/such/file"}, "a certificate can't be used"),
        ({"expected_status": "200"}, "`expected_status` must be a whole number"),
    ],
)
def test_wrong_settings_are_named(context: dict[str, Any], problem: str) -> None:
    """The error has the stage, the task, and what is wrong; nothing is sent."""
    with pytest.raises(ContextError, match=f"stage 'a': http task: {problem}"):
        HTTPTask().execute(stage_with(**{"url": "http://127.0.0.1:1/", **context}))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program to make a certificate")
def test_certificates_are_verified_unless_told_otherwise(server: Server, tmp_path: Path) -> None:
    """A certificate that nobody vouches for fails for good; `ca_cert` vouches, `verify_ssl: false` does not ask."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    extension = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *extension], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    url = f"https://localhost:{server.server_port}/"

    assert "CERTIFICATE_VERIFY_FAILED" in ask(url).context["error"]
    assert ask(url, ca_cert=str(certificate)).status is WorkflowStatus.SUCCEEDED
    assert ask(url, verify_ssl=False).status is WorkflowStatus.SUCCEEDED


def test_outputs_are_json(server: Server) -> None:
    """What a task outputs must be storable."""
    json.dumps(ask(server.url, parse_json=False).outputs)
