"""HTTP API and web page over a client (extra `web`): lists, one workflow as a living graph, locks, the fleet."""

from stabilize_celery.web.app import make_web_app
from stabilize_celery.web.settings import WebSettings, check_exposure, is_loopback

__all__ = ["WebSettings", "check_exposure", "is_loopback", "make_web_app"]
