"""Texts of errors: no passwords in them, and no more of them than can be stored."""

from urllib.parse import urlsplit, urlunsplit

__all__ = ["MAX_ERROR_BYTES", "redact_url", "truncate_error"]

MAX_ERROR_BYTES = 100_000
"""How much of an error's text is kept (bytes of UTF-8)."""

_MARKER = " [TRUNCATED]"


def redact_url(url: str) -> str:
    """Return `url` with its password replaced by `***`; several URLs separated by `;` are each redacted."""
    return ";".join(_redact_one(part) for part in url.split(";"))


def _redact_one(url: str) -> str:
    try:
        parts = urlsplit(url)
        credentials, at, host = parts.netloc.rpartition("@")
        if not at:
            # Where there seems to be a port that is none, it is the start of a password that is not escaped.
            _ = parts.port
    except ValueError:
        scheme, _, rest = url.partition("://")
        return f"{scheme}://***@{rest.rpartition('@')[2]}" if "@" in rest else url
    if not at or ":" not in credentials:
        return url
    user = credentials.partition(":")[0]
    return urlunsplit(parts._replace(netloc=f"{user}:***@{host}"))


def truncate_error(message: str, max_bytes: int = MAX_ERROR_BYTES) -> str:
    """Return `message` cut to `max_bytes` bytes of UTF-8, with ` [TRUNCATED]` at the end if it was cut.

    Half a surrogate pair, which can't be stored, becomes a question mark.
    """
    encoded = message.encode("utf-8", errors="replace")
    if len(encoded) <= max_bytes:
        return encoded.decode()
    kept = max_bytes - len(_MARKER)
    if kept <= 0:
        return _MARKER.strip()
    return encoded[:kept].decode("utf-8", errors="ignore") + _MARKER
