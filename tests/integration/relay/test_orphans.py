"""What is left of songs that nobody needs any more goes; nothing else does."""

from io import BytesIO

import pytest
from minio import Minio
from minio.error import S3Error

from stems import naming
from tests.relay_stack import SECRET, SWEEPER, Sink, Stack
from tests.servers import until

TIDY = f"from stems_relay import orphans; orphans.AGE_S = -60; {SWEEPER}"
ORPHAN, DONE, IN_WORK, BEGUN = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)


def put(stack: Stack, *names: str) -> None:
    for name in names:
        stack.root.put_object("output", name, BytesIO(b"bytes"), 5)


def names(stack: Stack) -> set[str]:
    return {item.object_name or "" for item in stack.root.list_objects("output", recursive=True)}


def stems(songhash: str) -> set[str]:
    return {f"{songhash}-{stem}.mp3" for stem in ("bass", "no_bass")} | {naming.peaks_object(songhash)}


@pytest.fixture
def output(stack: Stack) -> set[str]:
    """Return what is in the bucket and is to stay."""
    others = {"readme.txt", f"parts/{ORPHAN}/0", f"{'a' * 63}-bass.mp3"}
    stay = {naming.record_object(DONE), *stems(DONE), *stems(IN_WORK), *others}
    put(stack, *stay, *stems(ORPHAN))
    stack.redis.set(naming.lease_key(IN_WORK), "a worker's")
    return stay


def test_stems_without_a_record_go_and_nothing_else_does(stack: Stack, sink: Sink, output: set[str]) -> None:
    try:
        stack.relay(TIDY)
        until(lambda: not stems(ORPHAN) & names(stack))
        assert names(stack) == output
    finally:
        for name in names(stack):
            stack.root.remove_object("output", name)


def test_the_young_stay(stack: Stack, sink: Sink) -> None:
    put(stack, *stems(BEGUN))
    try:
        stack.relay(SWEEPER, STEMS_SWEEP_S="1")
        until(lambda: "swept the bucket" in (stack.folder / "relay.log").read_text())
        stack.put("a.mp3")
        until(lambda: sink.deliveries and stack.idle())
        assert names(stack) == stems(BEGUN)
    finally:
        for name in names(stack):
            stack.root.remove_object("output", name)


def test_the_relay_may_remove_stems_and_no_record(stack: Stack) -> None:
    put(stack, naming.record_object(DONE), *stems(DONE))
    try:
        relay = Minio(
            f"127.0.0.1:{stack.ports['minio']}",
            "relay",
            SECRET,
            secure=False,
            region="us-east-1",
            http_client=stack.http,
        )
        for name in stems(DONE):
            relay.remove_object("output", name)
        with pytest.raises(S3Error, match="AccessDenied"):
            relay.remove_object("output", naming.record_object(DONE))
    finally:
        for name in names(stack):
            stack.root.remove_object("output", name)
