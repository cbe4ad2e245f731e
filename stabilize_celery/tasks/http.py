"""The ready-made `http`: one request, over the standard library, with a guard against requests to the inside.

A stage may reach addresses that are not public only with `allow_private: true` in its context, and not at all where
the worker registers `HTTPTask(may_allow_private=False)`. Proxies from the environment are not used: behind one, the
guard would check the proxy and not the host.
"""

import http.client
import ssl
import time
from typing import Any

from typing_extensions import override

from stabilize_celery.errors import PermanentError, TransientError
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.call import bound_call
from stabilize_celery.tasks.http_answer import download, parse_json_body, read_text
from stabilize_celery.tasks.http_client import Answer, exchange
from stabilize_celery.tasks.http_settings import HTTPSettings, read_settings
from stabilize_celery.tasks.inputs import InputReader
from stabilize_celery.tasks.placeholders import mask
from stabilize_celery.tasks.results import failed
from stabilize_celery.tasks.task import Task

__all__ = ["HTTPTask"]

_TOO_MANY_REQUESTS = 429
_MAX_RETRY_AFTER_S = 3600.0


class HTTPTask(Task):
    """Makes one HTTP request; succeeds on `expected_status` (default: any 2xx).

    Context: `url`; `method` (GET); one of `json`, `form`, `body`, or `upload_file` with `upload_field`,
    `upload_filename`, `upload_form`; `headers`; `auth` ([user, password]) or `bearer_token`; `timeout` (s of silence,
    30); `expected_status` (a number or a list); `parse_json`; `download_to` (a path); `max_response_size` (bytes,
    1 MiB; no limit for a download); `retries` (3; of a POST or PATCH 0), `retry_delay` (s; default: the engine's
    back-off),
    `retry_on_status` (default: 429 and every 5xx); `verify_ssl`, `ca_cert`, `client_cert`, `client_key`;
    `allow_private` (or `allow_private_urls`); `secrets` (context keys whose values errors and `url` show as `***`);
    `continue_on_failure`.
    `{key}` placeholders are filled in the URL (percent-encoded, but for one that begins it), headers, and bodies.

    Outputs: `status_code`, `headers`, `body` (the path, for a download), `body_json` (with `parse_json`; an answer
    that should be JSON and is not fails), `elapsed_ms`, `url` (the last), `content_type`, `content_length`.

    Connection errors and the statuses to retry are tried again by the engine, so often at most. A POST or PATCH is
    made once unless `retries` says otherwise: a second one may do its work twice. Authorization and cookies are not
    sent on to another host.
    """

    def __init__(self, *, may_allow_private: bool = True) -> None:
        self._may_allow_private = may_allow_private

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        settings = read_settings(InputReader(stage, "http"), may_allow_private=self._may_allow_private)
        started = time.monotonic()
        try:
            with exchange(settings.request) as answer:
                outputs = _outputs(answer, settings)
        except (ssl.SSLCertVerificationError, http.client.InvalidURL, PermanentError) as error:
            return failed(_told(settings, str(error)), {}, go_on=settings.continue_on_failure)
        except (OSError, http.client.HTTPException) as error:
            problem = f"no answer: {type(error).__name__}: {error}"
            return _try_again_or_fail(settings, problem, {}, settings.retry_delay_s)
        outputs["elapsed_ms"] = round((time.monotonic() - started) * 1000)
        return _judged(settings, outputs)


def _outputs(answer: Answer, settings: HTTPSettings) -> dict[str, Any]:
    outputs: dict[str, Any] = {
        "status_code": answer.status,
        "headers": dict(answer.headers.items()),
        "url": settings.shown(answer.url),
        "content_type": answer.headers.get("Content-Type", ""),
    }
    # The page that explains an error does not belong into the file.
    if settings.download_to is not None and _is_expected(settings, answer.status):
        return outputs | download(answer, settings.download_to, settings.max_response_size)
    return outputs | read_text(answer, settings.max_response_size)


def _is_expected(settings: HTTPSettings, status: int) -> bool:
    if settings.expected_status is not None:
        return status in settings.expected_status
    return http.HTTPStatus.OK <= status < http.HTTPStatus.MULTIPLE_CHOICES


def _judged(settings: HTTPSettings, outputs: dict[str, Any]) -> TaskResult:
    status: int = outputs["status_code"]
    problem = None
    if settings.parse_json and settings.download_to is None:
        outputs["body_json"], problem = parse_json_body(outputs["body"])
    if not _is_expected(settings, status):
        return _unexpected(settings, status, outputs)
    if problem is not None:
        return failed(_told(settings, problem), outputs, go_on=settings.continue_on_failure)
    return TaskResult.success(outputs=outputs)


def _unexpected(settings: HTTPSettings, status: int, outputs: dict[str, Any]) -> TaskResult:
    expected = sorted(settings.expected_status) if settings.expected_status is not None else "2xx"
    problem = f"unexpected status {status}, expected {expected}"
    if not _is_worth_another_try(settings, status):
        return failed(_told(settings, problem), outputs, go_on=settings.continue_on_failure)
    return _try_again_or_fail(settings, problem, outputs, _retry_after_s(outputs["headers"]) or settings.retry_delay_s)


def _is_worth_another_try(settings: HTTPSettings, status: int) -> bool:
    if settings.retry_on_status is not None:
        return status in settings.retry_on_status
    return status == _TOO_MANY_REQUESTS or status >= http.HTTPStatus.INTERNAL_SERVER_ERROR


def _try_again_or_fail(
    settings: HTTPSettings, problem: str, outputs: dict[str, Any], retry_after_s: float | None
) -> TaskResult:
    call = bound_call()
    if (1 if call is None else call.attempt) > settings.retries:
        return failed(_told(settings, problem), outputs, go_on=settings.continue_on_failure)
    raise TransientError(_told(settings, problem), retry_after=retry_after_s)


def _retry_after_s(headers: dict[str, str]) -> float | None:
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    return min(float(text), _MAX_RETRY_AFTER_S) if text.isdecimal() else None


def _told(settings: HTTPSettings, problem: str) -> str:
    return mask(f"{settings.request.method} {settings.request.url}: {problem}", settings.secrets)
