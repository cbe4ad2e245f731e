"""Secrets are told by their keys, at any depth, and by their values in texts."""

import json
from textwrap import indent
from urllib.parse import quote, urlencode

import pytest

from stabilize_celery.models.redaction import HIDDEN, Redaction
from stabilize_celery.settings import SECRET_KEYS

DEFAULT = Redaction(SECRET_KEYS)


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "DB_PASSWORD",
        "api-key",
        "apiKey",
        "aws_secret_access_key",
        "Authorization",
        "token",
        "session_token",
        "accessToken",
        "privateKeyPem",
        "ApiKey",
    ],
)
def test_hides_what_is_named_like_a_secret(key: str) -> None:
    """In any case, with `-` for `_`."""
    assert DEFAULT.hides(key)


@pytest.mark.parametrize("key", ["tokens_used", "monkey", "key", "author", "pass", "host"])
def test_shows_what_only_sounds_alike(key: str) -> None:
    assert not DEFAULT.hides(key)


def test_hides_at_any_depth_and_keeps_the_rest() -> None:
    """A list of objects, an object under a secret's key, a number; what is not set, or a flag, is no secret."""
    data = {
        "items": [{"name": "a", "password": "x"}],
        "credentials": {"user": "u", "pin": 1},
        "token": 7,
        "secret": None,
        "has_secret": True,
    }

    shown = DEFAULT.shown(data)

    assert shown == {
        "items": [{"name": "a", "password": HIDDEN}],
        "credentials": HIDDEN,
        "token": HIDDEN,
        "secret": None,
        "has_secret": True,
    }
    assert data["items"] == [{"name": "a", "password": "x"}]


def test_without_patterns_all_is_shown() -> None:
    assert Redaction("").shown({"password": "x"}) == {"password": "x"}
    assert Redaction(" , ").shown({"password": "x"}) == {"password": "x"}


def test_ones_own_patterns_replace_the_default() -> None:
    """As a shell matches names."""
    mine = Redaction("iban, card_*")

    assert mine.shown({"IBAN": "DE1", "card-number": "4", "password": "x"}) == {
        "IBAN": HIDDEN,
        "card-number": HIDDEN,
        "password": "x",
    }


def test_texts_lose_the_values_that_stand_under_such_keys() -> None:
    """The longest first, as one may be part of another; short ones would be found in the middle of words."""
    secrets = DEFAULT.known_to({"password": "abcd", "more": [{"token": "abcdef"}], "secret": "ab", "host": "h.example"})

    told = secrets.hidden_in({"message": "abcdef, abcd and ab at h.example", "code": 3})

    assert told == {"message": "***, *** and ab at h.example", "code": 3}


@pytest.mark.parametrize(
    "key", ["Schlüssel", "SCHLU\u0308SSEL", "haus_schlu\u0308ssel", "Strasse", "STRASSE", "ПИН-код", "myField"]
)
def test_a_pattern_fits_however_its_letters_are_written(key: str) -> None:
    """As one character or as two, in any case of any alphabet."""
    assert Redaction("*schlüssel, straße, пин_код, MyField").hides(key)


def test_texts_lose_all_that_stands_below_such_a_key() -> None:
    """As deep as it may be: a secret may be a record of several values."""
    secrets = DEFAULT.known_to({"secret": {"login": "ann.doe", "rows": [{"value": "4711"}]}, "login": "bob.doe"})

    assert secrets.hidden_in("ann.doe asked for 4711, bob.doe did not") == "*** asked for ***, bob.doe did not"


def test_texts_in_lists_lose_them_too() -> None:
    known = Redaction("pin").known_to({"door": [{"pin": "4711-0815"}]})

    assert known.hidden_in({"tried": ["4711-0815", {"by": "key 4711-0815"}]}) == {"tried": ["***", {"by": "key ***"}]}


KEY_FILE = "-----BEGIN KEY-----\nMIIEvQIB+DANBg/\n-----END KEY-----\n"


@pytest.mark.parametrize("secret", [KEY_FILE, 'it\'s "q" a', "pässwörd-1", "a+b/c d=hunter", "C:\\keys\tmine"])
def test_texts_lose_secrets_however_they_write_them(secret: str) -> None:
    """As an object, JSON, a URL or indented text has them: an error tells contexts and requests as they are."""
    known, data = DEFAULT.known_to({"password": secret}), {"password": secret}
    texts = [
        f"{data!r}",
        json.dumps(data),
        json.dumps(data, ensure_ascii=False),
        f"/?token={quote(secret)}",
        f"/?token={quote(secret, safe='')}",
        f"/?{urlencode(data)}",
        indent(secret, "  | "),
    ]

    for text in texts:
        told = known.hidden_in(text)
        assert HIDDEN in told
        assert not any(part in told for part in ("MIIEvQIB", "BEGIN", "it", "rd-1", "hunter", "keys")), told


def test_texts_lose_numbers_that_are_secrets() -> None:
    """Short ones would be found in every other number; a flag is none."""
    known = DEFAULT.known_to({"secret_pin": 48151623, "token": 471, "secret_rate": 12.345, "secret": True})

    assert known.hidden_in("pin 48151623, 471, 12.345, True") == "pin ***, 471, ***, True"
