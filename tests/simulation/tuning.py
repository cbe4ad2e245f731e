"""How long the random tests look: `STABILIZE_TEST_SCALE=20` multiplies their seeds and examples."""

import os

SCALE = max(1, int(os.environ.get("STABILIZE_TEST_SCALE", "1")))


def seeds(count: int) -> range:
    """That many seeds, times the scale."""
    return range(count * SCALE)
