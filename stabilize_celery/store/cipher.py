"""AES-GCM under the user's keys; needs the extra `encryption`."""

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stabilize_celery.errors import ConfigurationError, PayloadError

__all__ = ["KeyRing"]

_NONCE_BYTES = 12
_KEY_BYTES = (16, 24, 32)
_MAX_NAME_BYTES = 255


class KeyRing:
    """Seals with the first key, opens with each. What is sealed names its key, and is bound to the place it stands in.

    Args:
        keys: Name to key of 16, 24 or 32 bytes; the first one seals.

    """

    def __init__(self, keys: dict[str, bytes]) -> None:
        self._ciphers = {name.encode(): AESGCM(key) for name, key in keys.items()}
        self._newest = next(iter(self._ciphers))

    @classmethod
    def parse(cls, text: str) -> "KeyRing":
        """Read `name:base64,name:base64`, the newest first.

        Raises:
            ConfigurationError: it is not like this; the text does not repeat any key.

        """
        keys: dict[str, bytes] = {}
        for number, one in enumerate(part.strip() for part in text.split(",")):
            name, _, encoded = one.partition(":")
            key = _decoded(encoded)
            if not name or len(name.encode()) > _MAX_NAME_BYTES or len(key) not in _KEY_BYTES:
                raise ConfigurationError(
                    f"STABILIZE_ENCRYPTION_KEYS, key {number + 1}: write name:key, the key as base64 of 16, 24 or 32 "
                    "bytes, such as `openssl rand -base64 32` prints; several with commas between, the newest first"
                )
            if name in keys:
                raise ConfigurationError(f"STABILIZE_ENCRYPTION_KEYS: two keys have the name {name!r}")
            keys[name] = key
        return cls(keys)

    @property
    def newest(self) -> str:
        """Name of the key that seals."""
        return self._newest.decode()

    def seal(self, value: bytes, place: str) -> bytes:
        """Return the sealed value."""
        nonce = os.urandom(_NONCE_BYTES)
        head = bytes([len(self._newest)]) + self._newest + nonce
        return head + self._ciphers[self._newest].encrypt(nonce, value, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """Return the value.

        Raises:
            PayloadError: this ring lacks its key, or it was not sealed with that for this place.

        """
        end = 1 + sealed[0] if sealed else 1
        name, nonce, rest = sealed[1:end], sealed[end : end + _NONCE_BYTES], sealed[end + _NONCE_BYTES :]
        cipher = self._ciphers.get(name)
        if cipher is None:
            shown = name.decode(errors="replace")
            raise PayloadError(
                f"{place} is encrypted with the key {shown!r}, which STABILIZE_ENCRYPTION_KEYS lacks here"
            )
        try:
            return cipher.decrypt(nonce, rest, place.encode())
        except (InvalidTag, ValueError) as error:
            raise PayloadError(
                f"{place} can't be decrypted: it was changed, moved, or sealed with another key of this name",
                cause=error,
            ) from error


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
