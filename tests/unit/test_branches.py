"""Two branches at once, or one after the other."""

import threading
from collections.abc import Iterator

import pytest
import torch

from stems.separate.branches import branches


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_work_that_has_begun_is_done_by_another_thread_in_the_same_mode() -> None:
    here = threading.current_thread()
    with torch.inference_mode(), branches(True) as begin:
        threads = torch.get_num_threads()
        found = begin(lambda: (threading.current_thread() is here, torch.is_inference_mode_enabled()))()
    assert (found, threads, torch.get_num_threads()) == ((False, True), 1, 2)


@pytest.mark.parametrize(("at_once", "cores"), [(False, 2), (True, 1)])
def test_otherwise_it_is_done_when_it_is_asked_for(at_once: bool, cores: int) -> None:
    torch.set_num_threads(cores)
    done: list[threading.Thread] = []
    with branches(at_once) as begin:
        wait = begin(lambda: done.append(threading.current_thread()))
        assert not done
        wait()
    assert done == [threading.current_thread()]
    assert torch.get_num_threads() == cores


def test_what_it_raises_is_raised_where_it_is_waited_for() -> None:
    def failing() -> None:
        raise ValueError("in the other thread")

    with branches(True) as begin:
        wait = begin(failing)
        with pytest.raises(ValueError, match="in the other thread"):
            wait()
