"""The package's own names."""

import subprocess
import sys

import pytest

import stabilize_celery


@pytest.mark.parametrize("name", stabilize_celery.__all__)
def test_every_name_is_there(name):
    """What `__all__` promises can be imported, and `dir` shows it."""
    assert getattr(stabilize_celery, name) is not None
    assert name in dir(stabilize_celery)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        stabilize_celery.no_such_name  # noqa: B018 - the access is the test


def test_the_model_comes_without_celery_and_redis():
    """Importing the package, or a model name from it, loads neither Celery nor Redis."""
    program = (
        "import sys; from stabilize_celery import Workflow, TaskResult, WorkflowStatus;"
        "print([name for name in ('celery', 'kombu', 'redis') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
