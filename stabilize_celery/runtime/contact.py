"""For how long a keeper has been in touch with a server: only so long can it tell who has been silent. No clock."""

__all__ = ["Contact"]


class Contact:
    """One keeper's contact with the server of one partition. Times are that server's (ms), so its jumps are gaps, too.

    A worker extends its leases every third of a lease, and when it was cut off soon after it no longer is. A keeper
    that was cut off with it, or has just begun, sees leases that ran out and cannot tell the living from the lost.
    """

    __slots__ = ("_last_ms", "_longest_gap_ms", "_since_ms", "_trial_ms")

    def __init__(self, lease_ms: int) -> None:
        self._longest_gap_ms = lease_ms // 2
        # Two heartbeats; also enough for a worker whose try was under way, and timed out, when the server came back.
        self._trial_ms = lease_ms * 2 // 3
        self._since_ms = self._last_ms = 0

    def seen(self, now_ms: int) -> None:
        """Know that the server has answered."""
        if not 0 <= now_ms - self._last_ms <= self._longest_gap_ms:
            self._since_ms = now_ms
        self._last_ms = now_ms

    def seen_meanwhile(self, for_ms: int) -> None:
        """Know that the server has gone on to answer for so long, though nobody asked."""
        self._last_ms += for_ms

    @property
    def vouches_from_ms(self) -> int:
        """From when on whoever lives has had the time to extend its leases."""
        return self._since_ms + self._trial_ms
