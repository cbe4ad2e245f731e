"""A stage's context read as the settings of one HTTP request."""

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from stabilize_celery.tasks.http_body import read_body
from stabilize_celery.tasks.http_client import Request
from stabilize_celery.tasks.inputs import InputReader
from stabilize_celery.tasks.placeholders import fill, mask

__all__ = ["HTTPSettings", "read_settings"]

_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"})
_DEFAULT_TIMEOUT_S = 30.0
_REPEATABLE = frozenset({"GET", "PUT", "DELETE", "HEAD", "OPTIONS"})
"""Idempotent by RFC 9110 (9.2.2): doing it twice is as good as once."""
_DEFAULT_RETRIES = 3
"""Of a request that may be repeated; any other is made once."""
_DEFAULT_MAX_RESPONSE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPSettings:
    """What to send, and what to make of the answer. Sizes in bytes; None as a size: no limit."""

    request: Request
    expected_status: frozenset[int] | None
    retry_on_status: frozenset[int] | None
    retries: int
    retry_delay_s: float | None
    max_response_size: int | None
    parse_json: bool
    download_to: Path | None
    continue_on_failure: bool
    secrets: tuple[str, ...]
    """What no error shows: the values of the context's `secrets`, and what the request authenticates with."""
    declared_secrets: tuple[str, ...]
    """Those of the context's `secrets` alone."""

    def shown(self, url: str) -> str:
        """Return a URL with `***` for the declared secrets behind its host, as they are or percent-encoded."""
        parts = urlsplit(url)
        behind_host = len(f"{parts.scheme}://{parts.netloc}")
        forms = tuple(form for secret in self.declared_secrets for form in (quote(secret, safe=""), secret))
        return url[:behind_host] + mask(url[behind_host:], forms)


def read_settings(inputs: InputReader, *, may_allow_private: bool) -> HTTPSettings:
    """Return the settings of the request.

    Raises:
        ContextError: a value is missing or wrong, or `allow_private` is not allowed on this worker.

    """
    request = _request(inputs, secrets := _secrets(inputs), may_allow_private=may_allow_private)
    download_to = inputs.text("download_to")
    limit = inputs.number("max_response_size", None if download_to else _DEFAULT_MAX_RESPONSE)
    return HTTPSettings(
        request=request,
        expected_status=inputs.numbers("expected_status"),
        retry_on_status=inputs.numbers("retry_on_status"),
        retries=int(inputs.number("retries", _DEFAULT_RETRIES if request.method in _REPEATABLE else 0)),
        retry_delay_s=inputs.number("retry_delay"),
        max_response_size=None if limit is None else int(limit),
        parse_json=inputs.flag("parse_json"),
        download_to=Path(download_to) if download_to else None,
        continue_on_failure=inputs.flag("continue_on_failure"),
        secrets=secrets,
        declared_secrets=inputs.secret_values(),
    )


def _request(inputs: InputReader, secrets: tuple[str, ...], *, may_allow_private: bool) -> Request:
    method = (inputs.text("method") or "GET").upper()
    if method not in _METHODS:
        raise inputs.refusal(f"unsupported method {method!r}; known are {', '.join(sorted(_METHODS))}", "method")
    allow_private = inputs.flag("allow_private") or inputs.flag("allow_private_urls")
    if allow_private and not may_allow_private:
        raise inputs.refusal("this worker does not let stages set `allow_private`", "allow_private")
    return Request(
        method=method,
        url=_url(inputs),
        headers=_headers(inputs),
        body=read_body(inputs),
        timeout_s=inputs.number("timeout", _DEFAULT_TIMEOUT_S, above_zero=True),
        tls=_tls(inputs),
        allow_private=allow_private,
        secrets=secrets,
    )


def _url(inputs: InputReader) -> str:
    # A placeholder at the very beginning is a whole URL or its base; one further on is a value within it.
    return fill(
        inputs.required_text("url"),
        inputs.context,
        lambda value, position: quote(value, safe="") if position else value,
    )


def _headers(inputs: InputReader) -> dict[str, str]:
    headers = {name: _plain(value, inputs.context) for name, value in inputs.text_mapping("headers").items()}
    token = inputs.text("bearer_token")
    user = _basic_auth(inputs)
    if token is not None and user is not None:
        raise inputs.refusal("give `auth` or `bearer_token`, not both", "auth")
    if token is not None:
        headers["Authorization"] = f"Bearer {_plain(token, inputs.context)}"
    if user is not None:
        headers["Authorization"] = f"Basic {base64.b64encode(':'.join(user).encode()).decode('ascii')}"
    for name, value in headers.items():
        # Checked here because the library's own error would show the value.
        if not _sendable(name) or not _sendable(value):
            raise inputs.refusal(f"the header {name!r} has a line break or a character that can't be sent", "headers")
    return headers


def _basic_auth(inputs: InputReader) -> tuple[str, str] | None:
    words = inputs.texts("auth")
    if not words:
        return None
    if len(words) != 2:  # noqa: PLR2004 -- a user and a password
        raise inputs.refusal("`auth` must be [user name, password]", "auth")
    return _plain(words[0], inputs.context), _plain(words[1], inputs.context)


def _plain(template: str, context: Mapping[str, object]) -> str:
    return fill(template, context, lambda value, _: value)


def _sendable(text: str) -> bool:
    return text.isprintable() and all(ord(character) < 256 for character in text)  # noqa: PLR2004 -- latin-1


def _secrets(inputs: InputReader) -> tuple[str, ...]:
    found = set(inputs.secret_values())
    credentials = [inputs.text("bearer_token") or "", *inputs.texts("auth")[1:]]
    found.update(_plain(one, inputs.context) for one in credentials if one)
    return tuple(sorted(found, key=len, reverse=True))


def _tls(inputs: InputReader) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=inputs.text("ca_cert"))
        certificate = inputs.text("client_cert")
        if certificate:
            context.load_cert_chain(certificate, inputs.text("client_key"))
    except OSError as error:
        raise inputs.refusal(f"a certificate can't be used: {error}", "ca_cert") from None
    if not inputs.flag("verify_ssl", default=True):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
