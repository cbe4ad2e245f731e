"""What may be written: every value and name is checked before MULTI, because EXEC does not roll back."""

from stabilize_celery.engine.steps import Value
from stabilize_celery.store.errors import StoreError

__all__ = ["MAX_SCORE", "name_of", "number_of", "score_of", "value_of"]

_MAX_INT = 2**63
MAX_SCORE = 2**53
"""Scores are doubles: larger whole numbers (ms) would be rounded."""


def name_of(name: object, what: str) -> str:
    """Return `name` if it can be a key, field or member: text that is not empty and can be encoded.

    Raises:
        StoreError: it can't; the text says `what` it was for.

    """
    if type(name) is str and name.isascii() and name:
        return name
    if not isinstance(name, str):
        raise StoreError(f"{what} {name!r} must be text, not {type(name).__name__}; nothing was written")
    if not name:
        raise StoreError(f"{what} is empty; nothing was written")
    _encoded(name, what)
    return name


def value_of(value: Value, what: str) -> bytes:
    """Return the stored form of text, a whole number of 64 bits, or bytes.

    Raises:
        StoreError: it is none of them; the text says `what` it was for.

    """
    kind = type(value)
    if kind is bytes:
        return value  # type: ignore[return-value]  # the type is told by hand: this is asked for each field
    if kind is str or isinstance(value, str):
        return _encoded(value, what)  # type: ignore[arg-type]
    return value if isinstance(value, bytes) else b"%d" % number_of(value, what)


def number_of(value: object, what: str) -> int:
    """Return a whole number of 64 bits (a bool is none).

    Raises:
        StoreError: it is none; the text says `what` it was for.

    """
    if type(value) is not int and (not isinstance(value, int) or isinstance(value, bool)):
        raise StoreError(f"{what} is a {type(value).__name__}; store text, whole numbers or bytes. Nothing was written")
    if not -_MAX_INT <= value < _MAX_INT:
        raise StoreError(f"{what} is {value}, which does not fit in 64 bits; nothing was written")
    return value


def score_of(score: object, what: str) -> str:
    """Return the text of a score: a finite number, exact as a double.

    Raises:
        StoreError: it is not; the text says `what` it was for.

    """
    is_number = type(score) is int or (isinstance(score, int | float) and not isinstance(score, bool))
    if not is_number or not -MAX_SCORE <= score <= MAX_SCORE:  # type: ignore[operator]
        raise StoreError(f"{what} is {score!r}; give a number within +-2**53. Nothing was written")
    return repr(score)


def _encoded(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise StoreError(f"{what} {text[:100]!r} has a lone surrogate in it; nothing was written") from None
