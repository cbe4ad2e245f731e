"""The garbage collector held back, for as long as anybody wants that."""

import gc
import threading

import pytest

from stabilize_celery.web.collecting import without_collection


def test_it_is_off_inside_and_as_before_afterwards() -> None:
    """Also after an error, and where it was off before."""
    with without_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), without_collection():
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with without_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_it_comes_back_with_the_last_thread() -> None:
    """Not while another one is still inside."""
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with without_collection():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    thread.start()
    assert inside.wait(10)
    with without_collection():
        pass
    assert not gc.isenabled()
    leave.set()
    thread.join(10)

    assert gc.isenabled()
