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
    """Who asks. `is_ambient`: the browser says so by itself, so another site's page could make it ask."""

    name: str
    is_ambient: bool = True


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
        if self._secret and self._is_session(cookies_of(headers).get(self.cookie, ""), now_s):
            return Caller("token")
        name = headers.get(self._settings.user_header, "").strip() if self._settings.user_header else ""
        if name and peer in self._settings.trusted_proxies:
            return Caller(name[:_LONGEST_NAME])
        return None

    def _is_session(self, value: str, now_s: float) -> bool:
        end, _, mac = value.partition(".")
        is_ours = hmac.compare_digest(mac.encode(), self._mac(f"session until {end}").encode())
        return is_ours and end.isdecimal() and now_s < int(end)

    def _mac(self, text: str) -> str:
        return hmac.new(self._secret or b"no token", text.encode(), hashlib.sha256).hexdigest()


def cookies_of(headers: Headers) -> Mapping[str, str]:
    """Return the cookies of a request."""
    return cookie_parser(headers.get("cookie", ""))
