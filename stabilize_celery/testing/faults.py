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

    """

    duplicate: float = 0.1
    lose: float = 0.05
    preempt: float = 0.2
    die: float = 0.02
    max_delay_ms: int = 40

    @classmethod
    def none(cls) -> "Faults":
        """Return a world in which deliveries are only reordered."""
        return cls(duplicate=0, lose=0, preempt=0, die=0)
