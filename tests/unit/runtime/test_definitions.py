"""What a process knows of definitions is bounded."""

from stabilize_celery.runtime.definitions import MOST_WORKFLOWS, Definitions


def test_workflows_of_which_nothing_is_kept_are_forgotten_like_others() -> None:
    """Large stages, and those that a builder has planned, are never kept: what is known of such a workflow is empty."""
    definitions = Definitions()
    for number in range(2 * MOST_WORKFLOWS):
        definitions.of(f"w{number}", b"digest")

    known = sum(definitions.newest(f"w{number}")[0] == b"digest" for number in range(2 * MOST_WORKFLOWS))
    assert known == MOST_WORKFLOWS
