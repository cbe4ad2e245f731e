"""HTTP API and web page over a client (extra `web`): lists, one workflow as a living graph, locks, the fleet."""

from stabilize_celery.telemetry.optional import require_packages

require_packages("the page", "web", "starlette", "sse_starlette", "uvicorn")

from stabilize_celery.web.app import make_web_app  # noqa: E402 - it can be loaded only with them
from stabilize_celery.web.settings import WebSettings, check_exposure, is_loopback  # noqa: E402

__all__ = ["WebSettings", "check_exposure", "is_loopback", "make_web_app"]
