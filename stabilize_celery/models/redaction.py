"""What is not shown of a workflow's data: values whose key says that they are secrets.

One rule for all places where people look: the command line, the web page and its API, Flower, and the texts of errors.
The data itself is stored as it is, and programs get it as it is. Pure.
"""

import json
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from fnmatch import translate
from typing import Any
from urllib.parse import quote, quote_plus

__all__ = ["HIDDEN", "KnownSecrets", "Redaction"]

HIDDEN = "***"
"""What is shown in place of a secret."""
_SHORTEST = 4
"""A secret with fewer characters, or digits, is not looked for in texts: it would be found amid words (count)."""
_SHORTEST_LINE = 8
"""A line of a secret with fewer characters is not looked for by itself (count)."""


class Redaction:
    """Hides what stands under keys that fit a pattern.

    Args:
        patterns: As a shell matches names (`*`, `?`), with a comma between them; case does not matter, `-` is `_`, and
            `accessToken` is `access_token`, too. Empty: nothing is hidden.

    """

    def __init__(self, patterns: str) -> None:
        names = {form for name in patterns.split(",") if name.strip() for form in _forms(name.strip())}
        self._fits = re.compile("|".join(map(translate, sorted(names)))) if names else None

    def hides(self, key: str) -> bool:
        """Return whether a key is one of a secret."""
        return self._fits is not None and any(self._fits.match(form) for form in _forms(key))

    def shown(self, value: Any) -> Any:
        """Return JSON-like data with `***` for whatever stands under a secret's key; null, true and false stay."""
        if self._fits is None:
            return value
        if isinstance(value, Mapping):
            return {key: self._under(str(key), below) for key, below in value.items()}
        if isinstance(value, list | tuple):
            return [self.shown(item) for item in value]
        return value

    def _under(self, key: str, value: Any) -> Any:
        if not self.hides(key):
            return self.shown(value)
        return value if value is None or isinstance(value, bool) else HIDDEN

    def known_to(self, context: Mapping[str, Any]) -> "KnownSecrets":
        """Return the secrets that a context holds, to hide them in texts."""
        return KnownSecrets(set(self._texts(context, is_secret=False)))

    def _texts(self, value: Any, *, is_secret: bool) -> Iterator[str]:
        if isinstance(value, Mapping):
            for key, below in value.items():
                yield from self._texts(below, is_secret=is_secret or self.hides(str(key)))
        elif isinstance(value, list | tuple):
            for item in value:
                yield from self._texts(item, is_secret=is_secret)
        elif is_secret and isinstance(value, str) and len(value) >= _SHORTEST:
            yield value
        elif is_secret and isinstance(value, int | float) and _has_digits(value):
            yield repr(value)


class KnownSecrets:
    """Values that no text may show, however it writes them: as Python or JSON quote them, as a URL does, by lines."""

    def __init__(self, values: Collection[str] = ()) -> None:
        written = {text for value in values for text in _written(value)}
        # The longest first: one may be part of another.
        self._values = sorted(written, key=len, reverse=True)

    def text_without(self, text: str) -> str:
        """Return one text without the secrets."""
        for secret in self._values:
            text = text.replace(secret, HIDDEN)
        return text

    def hidden_in(self, value: Any) -> Any:
        """Return texts, and what is made of texts, without the secrets."""
        if not self._values:
            return value
        if isinstance(value, str):
            return self.text_without(value)
        if isinstance(value, Mapping):
            return {key: self.hidden_in(below) for key, below in value.items()}
        if isinstance(value, list | tuple):
            return [self.hidden_in(item) for item in value]
        return value


def _has_digits(value: float) -> bool:
    # What is larger can't be stored, and Python refuses to write the largest out.
    return abs(value) < 2**64 and sum(map(str.isdigit, repr(value))) >= _SHORTEST


def _written(secret: str) -> Iterator[str]:
    """Yield the ways in which texts write a secret, and each longer line of it: tracebacks indent texts."""
    lines = [line.strip() for line in secret.splitlines()]
    for text in (secret, *(line for line in lines if len(line) >= _SHORTEST_LINE)):
        yield text
        yield repr(text)[1:-1]
        yield json.dumps(text)[1:-1]
        yield json.dumps(text, ensure_ascii=False)[1:-1]
        yield quote(text, errors="replace")
        yield quote(text, safe="", errors="replace")
        yield quote_plus(text, errors="replace")


_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def _forms(name: str) -> tuple[str, ...]:
    """Return a name in the forms in which names are compared: as one word, and with `_` at the humps of camelCase."""
    humps = _HUMP.sub("_", name)
    return tuple(_plain(one) for one in dict.fromkeys((name, humps)))


def _plain(name: str) -> str:
    # One letter may be written in several ways: ü as one character or as two, ß as ss.
    return unicodedata.normalize("NFKC", name).casefold().replace("-", "_")
