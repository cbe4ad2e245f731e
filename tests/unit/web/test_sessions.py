"""Who asks: the token, a cookie that stands for it, or a user that a proxy has checked."""

import pytest
from starlette.datastructures import Headers

from stabilize_celery.errors import ConfigurationError
from stabilize_celery.web.sessions import Caller, Sessions
from stabilize_celery.web.settings import WebSettings, check_exposure

TOKEN = "a token that is long enough"
NOW_S = 1_000_000.0
HERE = "127.0.0.1"


def caller(sessions: Sessions, now_s: float = NOW_S, peer: str = HERE, **headers: str) -> Caller | None:
    return sessions.caller(Headers({name.replace("_", "-"): value for name, value in headers.items()}), peer, now_s)


def test_without_settings_everybody_who_gets_here_is_local() -> None:
    """The page listens on this machine only, so nobody is asked."""
    assert caller(Sessions(WebSettings())) == Caller("local")


def test_the_token_opens_and_nothing_else_does() -> None:
    """A bearer token is compared whole; without one nobody is known."""
    sessions = Sessions(WebSettings(token=TOKEN))

    assert caller(sessions, authorization=f"Bearer {TOKEN}") == Caller("token", is_ambient=False)
    assert caller(sessions, authorization=f"Bearer {TOKEN}x") is None
    assert caller(sessions, authorization="Bearer ") is None
    assert caller(sessions) is None


def test_a_cookie_stands_for_the_token_until_its_time_is_over() -> None:
    """It does not show the token, and ends by itself."""
    settings = WebSettings(token=TOKEN, session_s=60)
    sessions = Sessions(settings)
    cookie = f"{sessions.cookie}={sessions.made(NOW_S)}"

    assert TOKEN not in cookie
    assert caller(sessions, cookie=cookie) == Caller("token", ends_at_s=int(NOW_S) + 60)
    assert caller(sessions, NOW_S + 61, cookie=cookie) is None


def test_a_cookie_that_was_changed_or_made_under_another_token_is_none() -> None:
    """Nobody can lengthen a session, and a new token ends all of them."""
    sessions, others = Sessions(WebSettings(token=TOKEN)), Sessions(WebSettings(token=TOKEN + "!"))
    end, _, mac = sessions.made(NOW_S).partition(".")

    assert caller(sessions, cookie=f"{sessions.cookie}={int(end) + 1}.{mac}") is None
    assert caller(sessions, cookie=f"{sessions.cookie}={others.made(NOW_S)}") is None
    assert caller(sessions, cookie=f"{sessions.cookie}=nonsense") is None


def test_a_proxys_word_counts_only_from_the_proxy() -> None:
    """Anybody can send a header: it is believed from the proxy's address alone."""
    sessions = Sessions(WebSettings(user_header="X-Forwarded-User", trusted_proxies=("10.0.0.7",)))

    assert caller(sessions, peer="10.0.0.7", x_forwarded_user="ann") == Caller("ann")
    assert caller(sessions, peer="10.0.0.8", x_forwarded_user="ann") is None
    assert caller(sessions, peer="10.0.0.7") is None


def test_where_only_the_proxy_knows_people_no_token_and_no_session_opens() -> None:
    """An empty token would be shown by everybody, and anybody can make the cookie that stands for it."""
    sessions = Sessions(WebSettings(user_header="X-Forwarded-User", trusted_proxies=("10.0.0.7",)))

    assert not sessions.is_token("")
    assert caller(sessions, authorization="Bearer ") is None
    assert caller(sessions, authorization="Bearer") is None
    assert caller(sessions, cookie=f"{sessions.cookie}={sessions.made(NOW_S)}") is None


@pytest.mark.parametrize("raw", ["Jürgen".encode(), "Jürgen".encode("latin-1")])
def test_a_name_is_read_as_the_proxy_wrote_it(raw: bytes) -> None:
    sessions = Sessions(WebSettings(user_header="X-Forwarded-User"))
    headers = Headers(raw=[(b"x-forwarded-user", raw)])

    assert sessions.caller(headers, "127.0.0.1", NOW_S) == Caller("Jürgen")


def test_a_token_that_can_be_guessed_is_refused() -> None:
    """The error says how long it must be, and how to make one."""
    with pytest.raises(ConfigurationError, match="at least 16"):
        WebSettings(token="secret")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_this_machine_is_asked_for_nothing(host: str) -> None:
    """What only this machine reaches needs no token."""
    check_exposure(host, WebSettings())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "node7"])
def test_the_outside_needs_a_token_or_a_proxy(host: str) -> None:
    """It is not opened to others by accident; with a token it is by intent."""
    with pytest.raises(ConfigurationError, match="--token"):
        check_exposure(host, WebSettings())
    check_exposure(host, WebSettings(token=TOKEN))
    check_exposure(host, WebSettings(user_header="X-Forwarded-User"))
