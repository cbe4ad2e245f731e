"""What callers pass to outside events, looked at before it is written: what can't be read again spoils a workflow."""

from typing import Any

from stabilize_celery.engine.codec import pack
from stabilize_celery.errors import truncate_error
from stabilize_celery.models.json_values import copy_json
from stabilize_celery.models.problems import Problem, shown

__all__ = ["checked_name", "checked_number", "checked_text", "checked_value", "told_text"]

_TOLD_BYTES = 4_000


def told_text(value: object, what: str) -> str:
    """Return what people are told, such as a reason, cut to 4 kB; None is nothing. TypeError: it is no text."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"{what}: expected text, got {shown(value)}")
    return truncate_error(value, _TOLD_BYTES)


def checked_name(value: object, what: str, most: int) -> str:
    """Return a name as plain text. TypeError: it is no text. ValueError: it can't be stored, is empty or too long."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be text, not {shown(value)}")
    if not 0 < len(value) <= most:
        raise ValueError(f"{what} of {len(value)} characters; 1 to {most} are allowed")
    name: str = _plain(value, "name", what)
    return name


def checked_text(value: object, what: str) -> str:
    """Return a name of something that is there or not. TypeError: it is no text. ValueError: no text that could be."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be text, not {shown(value)}")
    text: str = _plain(value, "text", what)
    return text


def checked_number(value: object, what: str) -> int:
    """Return a whole number. TypeError: it is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be a whole number, not {shown(value)}")
    return int(value)


def checked_value(value: object, path: str, what: str, max_bytes: int) -> Any:
    """Return a value in plain types. ValueError: it is not JSON, or too large; the text has the path to what is not."""
    plain = _plain(value, path, what)
    if (size := len(pack(plain))) > max_bytes:
        raise ValueError(f"{what}: the {path} takes {size} bytes, at most {max_bytes} are stored")
    return plain


def _plain(value: object, path: str, what: str) -> Any:
    problems: list[Problem] = []
    plain = copy_json(value, path, problems)
    if problems:
        raise ValueError(f"{what}: {'; '.join(map(str, problems))}")
    return plain
