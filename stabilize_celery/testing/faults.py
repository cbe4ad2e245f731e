"""What goes wrong in a simulated fleet, and how often."""

from dataclasses import dataclass

__all__ = ["Faults"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How often things go wrong, as probabilities per delivery or step.

    Attributes:
        duplicate: A message is delivered twice.
        lose: A message is never delivered.
        preempt: Between two steps of a handler another delivery is handled.
        die: Between two steps of a handler its worker dies.
        max_delay_ms: How late a message may come (milliseconds); within that, in any order.

    Raises:
        ValueError: a probability is not within 0 to 1, or the delay is negative.

    """

    duplicate: float = 0.1
    lose: float = 0.05
    preempt: float = 0.2
    die: float = 0.02
    max_delay_ms: int = 40

    def __post_init__(self) -> None:
        """Refuse what is no probability."""
        for name in ("duplicate", "lose", "preempt", "die"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} is not a probability: give a number from 0 to 1")
        if self.max_delay_ms < 0:
            raise ValueError(f"max_delay_ms={self.max_delay_ms} is negative: give milliseconds, 0 or more")

    @classmethod
    def none(cls) -> "Faults":
        """Return a world in which deliveries are only reordered."""
        return cls(duplicate=0, lose=0, preempt=0, die=0)
