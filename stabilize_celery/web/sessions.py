"""Who asks: a bearer token, a browser's session cookie, or a user that a proxy has checked."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from stabilize_celery.web.settings import WebSettings

__all__ = ["Caller", "Sessions"]

_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `is_ambient`: the browser says so by itself, so another site's page could make it ask.

    `ends_at_s`: when that is over (epoch s); None: it is said with each request.
    """

    name: str
    is_ambient: bool = True
    ends_at_s: int | None = None


class Sessions:
    """Checks who asks, and makes cookies that stand for the token without showing it.

    A cookie is its end and an HMAC of that under the token: nothing is kept here, and another token ends all sessions.
    """

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._secret = settings.token.encode()
        # Cookies don't know ports: two pages on one host must not sign each other out.
        self.cookie = f"stabilize-{self._mac('cookie name')[:8]}"

    def made(self, now_s: float) -> str:
        """Return a cookie's value that is good from `now_s` (epoch s) on."""
        end = str(int(now_s) + self._settings.session_s)
        return f"{end}.{self._mac(f'session until {end}')}"

    def is_token(self, shown: str) -> bool:
        """Return whether it is the token; takes as long whatever is shown."""
        return bool(self._secret) and hmac.compare_digest(shown.encode(), self._secret)

    def caller(self, headers: Headers, peer: str, now_s: float) -> Caller | None:
        """Return who asks from the address `peer`; None: they have not said so, and must."""
        if not self._settings.asks_who:
            return Caller("local")
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return Caller("token", is_ambient=False) if self.is_token(shown.strip()) else None
        ends_at_s = self._session_until_s(cookies_of(headers).get(self.cookie, "")) if self._secret else 0
        if now_s < ends_at_s:
            return Caller("token", ends_at_s=ends_at_s)
        name = _text(headers.get(self._settings.user_header, "")).strip() if self._settings.user_header else ""
        if name and peer in self._settings.trusted_proxies:
            return Caller(name[:_LONGEST_NAME])
        return None

    def _session_until_s(self, value: str) -> int:
        """Return the end of the session that a cookie stands for (epoch s); 0: it is none of ours."""
        end, _, mac = value.partition(".")
        is_ours = hmac.compare_digest(mac.encode(), self._mac(f"session until {end}").encode())
        return int(end) if is_ours and end.isdecimal() else 0

    def _mac(self, text: str) -> str:
        return hmac.new(self._secret or b"no token", text.encode(), hashlib.sha256).hexdigest()


def cookies_of(headers: Headers) -> Mapping[str, str]:
    """Return the cookies of a request."""
    return cookie_parser(headers.get("cookie", ""))


def _text(header: str) -> str:
    """Return what a header says: proxies write names in UTF-8, and ASGI servers read them as Latin-1."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header
