"""The body of a request, from a stage's context: raw, JSON, a form, or an uploaded file."""

import json
import uuid
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from stabilize_celery.tasks.http_client import Body
from stabilize_celery.tasks.inputs import InputReader
from stabilize_celery.tasks.placeholders import fill, value_text

__all__ = ["read_body"]

_KINDS = ("body", "json", "form", "upload_file")
_CHUNK = 65_536


def read_body(inputs: InputReader) -> Body | None:
    """Return the body that the context asks for: one of `body`, `json`, `form`, `upload_file`, or none.

    Raises:
        ContextError: more than one, or one of the wrong type, or the file can't be read.

    """
    given = [kind for kind in _KINDS if inputs.context.get(kind) is not None]
    if len(given) > 1:
        raise inputs.refusal(f"give one body, not {' and '.join(f'`{kind}`' for kind in given)}", given[1])
    if not given:
        return None
    if given[0] == "upload_file":
        return _upload(inputs)
    return _text_body(inputs, given[0])


def _text_body(inputs: InputReader, kind: str) -> Body:
    if kind == "json":
        content = json.dumps(_filled(inputs.context["json"], inputs.context), ensure_ascii=False)
        content_type = "application/json"
    elif kind == "form":
        content = urlencode(_filled(inputs.mapping("form"), inputs.context), doseq=True)
        content_type = "application/x-www-form-urlencoded"
    else:
        content = _filled(inputs.required_text("body"), inputs.context)
        content_type = "text/plain; charset=utf-8"
    encoded = content.encode()
    return Body(content_type, len(encoded), lambda: [encoded])


def _filled(value: Any, context: Mapping[str, Any]) -> Any:
    """Return a JSON value with the placeholders in all its texts filled."""
    if isinstance(value, str):
        return fill(value, context, lambda text, _: text)
    if isinstance(value, Mapping):
        return {name: _filled(one, context) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(one, context) for one in value]
    return value


def _upload(inputs: InputReader) -> Body:
    path = Path(inputs.required_text("upload_file"))
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise inputs.refusal(f"`upload_file`: file not found: {str(path)!r}", "upload_file") from None
    except (OSError, ValueError) as error:
        raise inputs.refusal(f"`upload_file` can't be read: {error}", "upload_file") from None
    boundary = uuid.uuid4().hex
    file_name = inputs.text("upload_filename") or path.name
    head = b"".join(_field(boundary, name, value_text(value)) for name, value in inputs.mapping("upload_form").items())
    head += _head(boundary, inputs.text("upload_field") or "file", file_name)
    tail = f"\r\n--{boundary}--\r\n".encode()
    chunks = partial(_file_chunks, path, size, head, tail)
    return Body(f"multipart/form-data; boundary={boundary}", len(head) + size + len(tail), chunks)


def _field(boundary: str, name: str, value: str) -> bytes:
    return _head(boundary, name, None) + value.encode() + b"\r\n"


def _head(boundary: str, name: str, file_name: str | None) -> bytes:
    disposition = f'form-data; name="{_escaped(name)}"'
    if file_name is None:
        return f"--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
    disposition += f'; filename="{_escaped(file_name)}"'
    return (
        f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
    )


def _escaped(name: str) -> str:
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _file_chunks(path: Path, size: int, head: bytes, tail: bytes) -> Iterator[bytes]:
    yield head
    left = size
    with path.open("rb") as file:
        # Only as many bytes as were announced, should the file be growing.
        while left and (chunk := file.read(min(_CHUNK, left))):
            left -= len(chunk)
            yield chunk
    yield tail
