"""Names of threads and inner workflows: hashes of what causes them, so that deciding twice names the same thing.

And names made of several: no two of them may come out the same.
"""

import base64
import hashlib

from stabilize_celery.engine.codec import pack

_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [first + second for first in _LETTERS for second in _LETTERS]

__all__ = ["keyed_workflow_id", "narrowed", "thread_id"]


def thread_id(*cause: str | int) -> str:
    """Return the 64-bit base32 name of a thread, from what causes it (e.g. thread, edge and number)."""
    # Packed, not joined: a stage may be named like anything, also "1" beside the number 1.
    number = int.from_bytes(hashlib.sha256(pack(cause)).digest()[:8], "big")
    # As base64.b32encode does, in a fifth of its time: 13 letters of 5 bits, of which the last has 4.
    pairs = [_PAIRS[number >> shift & 1023] for shift in range(54, 3, -10)]
    return "".join(pairs) + _LETTERS[(number & 15) << 1]


def keyed_workflow_id(*parts: str) -> str:
    """Return the 160-bit id of a workflow found by what it stands for: namespace and key."""
    digest = hashlib.sha256("\x00".join(parts).encode()).digest()
    return "k" + base64.b32encode(digest[:20]).decode().lower()


def narrowed(scope: str, to: str, name: str) -> str:
    """Return the full name of a lock or key, `SCOPE:to:name`, with `%` and `:` in `to` quoted as `%25` and `%3A`.

    Else application `a:b` with key `c` would share it with application `a` and key `b:c`.
    """
    return f"{scope}:{to.replace('%', '%25').replace(':', '%3A')}:{name}"
