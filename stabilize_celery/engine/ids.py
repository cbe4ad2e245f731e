"""Names of threads and inner workflows: hashes of what causes them, so that deciding twice names the same thing."""

import base64
import hashlib

__all__ = ["keyed_workflow_id", "thread_id"]


def thread_id(*cause: str | int) -> str:
    """Return the 64-bit base32 name of a thread, from what causes it (e.g. thread, edge and number)."""
    digest = hashlib.sha256("\x00".join(map(str, cause)).encode()).digest()
    return base64.b32encode(digest[:8]).decode().rstrip("=").lower()


def keyed_workflow_id(*parts: str) -> str:
    """Return the 160-bit id of a workflow found by what it stands for: namespace and key."""
    digest = hashlib.sha256("\x00".join(parts).encode()).digest()
    return "k" + base64.b32encode(digest[:20]).decode().lower()
