"""The answer of an HTTP request as a stage's outputs: its body bounded, decoded, parsed, or written to a file."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from stabilize_celery.errors import PermanentError
from stabilize_celery.tasks.cancellation import raise_if_cancellation_requested
from stabilize_celery.tasks.http_client import Answer

__all__ = ["download", "parse_json_body", "read_text"]


def read_text(answer: Answer, limit: int | None) -> dict[str, Any]:
    """Return `body` (decoded as the answer's content type says) and `content_length` (bytes).

    Raises:
        PermanentError: the body is larger than `limit` bytes.

    """
    content = b"".join(_bounded(answer, limit))
    charset = answer.headers.get_content_charset() or "utf-8"
    try:
        text = content.decode(charset, errors="replace")
    except LookupError:
        text = content.decode("utf-8", errors="replace")
    return {"body": text, "content_length": len(content)}


def download(answer: Answer, path: Path, limit: int | None) -> dict[str, Any]:
    """Write the body to `path`, which appears whole or not at all; return the path as `body`, and `content_length`.

    Raises:
        PermanentError: the body is larger than `limit` bytes, or the file can't be written.

    """
    try:
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise PermanentError(f"`download_to` {str(path)!r} can't be written: {error}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            size = sum(file.write(chunk) for chunk in _bounded(answer, limit))
        Path(part).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(part).unlink()
        raise
    return {"body": str(path), "content_length": size}


def parse_json_body(body: str) -> tuple[Any, str | None]:
    """Return the value of a JSON text and no problem, or None and what is wrong with it; an empty text is None."""
    if not body.strip():
        return None, None
    try:
        return json.loads(body), None
    except ValueError as error:
        return None, f"the answer is not JSON: {error}"


def _bounded(answer: Answer, limit: int | None) -> Iterator[bytes]:
    size = 0
    for chunk in answer.chunks:
        raise_if_cancellation_requested()
        size += len(chunk)
        if limit is not None and size > limit:
            raise PermanentError(
                f"the answer is beyond the max size of {limit} bytes; raise `max_response_size`, or use "
                "`download_to` for a file"
            )
        yield chunk
