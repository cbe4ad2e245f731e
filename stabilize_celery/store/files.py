"""Large values as files in a directory that all processes share."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from stabilize_celery.errors import PayloadError

__all__ = ["FileBlobs"]


class FileBlobs:
    """One directory per workflow, one file per value, named by what is in it: writing twice is harmless.

    Args:
        directory: Mounted at the same place for every worker and client.
        namespace: That of the store.

    """

    def __init__(self, directory: str, namespace: str) -> None:
        self._root = Path(directory) / namespace

    def put(self, workflow_id: str, value: bytes) -> str:
        """Keep a value, on disk before Redis is told of it.

        Raises:
            PayloadError: it can't be written.

        """
        if workflow_id in (".", ".."):
            raise PayloadError(f"workflow {workflow_id!r} can have no files: its id names a directory above")
        name = f"{workflow_id}/{hashlib.sha256(value).hexdigest()}"
        path = self._root / name
        try:
            if not path.exists():
                _write(path, value)
        except OSError as error:
            raise PayloadError(f"a payload of workflow {workflow_id} can't be written to {path}: {error}") from error
        return name

    def get(self, name: str) -> bytes:
        """Return a value.

        Raises:
            PayloadError: it can't be read, or is not what was written.

        """
        path = self._root / name
        try:
            value = path.read_bytes()
        except OSError as error:
            raise PayloadError(
                f"a payload can't be read from {path}: {error}. Is the directory mounted here?"
            ) from error
        if hashlib.sha256(value).hexdigest() != path.name:
            raise PayloadError(f"the payload in {path} is not what was written there")
        return value

    def forget(self, workflow_id: str) -> None:
        """Remove all values of a workflow."""
        if workflow_id in (".", ".."):
            return
        shutil.rmtree(self._root / workflow_id, ignore_errors=True)


def _write(path: Path, value: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: under its own name it appears only when all of it is on disk.
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError:
        # A full disk would else be fuller with each try.
        Path(temporary).unlink(missing_ok=True)
        raise
    _flush_names(path.parent)


def _flush_names(directory: Path) -> None:
    """Have the file's name on disk, too: Redis is told of it next."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
