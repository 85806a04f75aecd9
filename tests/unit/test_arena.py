"""The stack of tensors of a segment."""

import threading
from contextlib import suppress

import torch

from stems.separate import arena


def test_what_a_scope_made_is_where_the_next_one_makes_its_own() -> None:
    with arena.scope():
        kept = arena.empty(3, 5, dtype=torch.float32).fill_(1)
        with arena.scope():
            first = arena.empty(7, dtype=torch.bfloat16).fill_(2)
        with arena.scope():
            second = arena.empty(7, dtype=torch.bfloat16).fill_(3)
        assert first.data_ptr() == second.data_ptr()
        assert first.data_ptr() % 64 == 0
        assert kept.eq(1).all()


def test_without_a_scope_a_tensor_is_one_like_any() -> None:
    one, other = (arena.empty(2, dtype=torch.float32) for _ in range(2))
    with arena.scope():
        within = arena.empty(2, dtype=torch.float32)
    assert len({each.data_ptr() for each in (one, other, within)}) == 3


def test_what_finds_no_room_is_one_like_any() -> None:
    with arena.scope():
        large = arena.empty(1 << 27, dtype=torch.float32)  # all of it
        small = arena.empty(4, dtype=torch.float32).fill_(1)
        assert large.shape == (1 << 27,)
        assert small.eq(1).all()


def test_a_scope_that_fails_frees_what_it_made() -> None:
    def failing() -> None:
        with arena.scope():
            arena.empty(100, dtype=torch.float32)
            raise ValueError

    with arena.scope():
        before = arena.empty(1, dtype=torch.float32)
        with suppress(ValueError):
            failing()
        assert arena.empty(1, dtype=torch.float32).data_ptr() == before.data_ptr() + 64


def test_memory_in_use_is_not_given_back_and_other_is() -> None:
    filled, go_on, found = threading.Event(), threading.Event(), []

    def compute() -> None:
        with arena.scope():
            used = arena.empty(1 << 20, dtype=torch.float32).fill_(5)
            filled.set()
            go_on.wait(60)
            found.append(bool(used.eq(5).all()))

    with arena.scope():
        free = arena.empty(1 << 20, dtype=torch.float32).fill_(6)
    thread = threading.Thread(target=compute)
    thread.start()
    assert filled.wait(60)
    arena.give_back()
    go_on.set()
    thread.join(60)
    assert found == [True]
    assert free.eq(0).all()  # new pages
