"""What is left of songs that nobody needs any more goes; nothing else does."""

import asyncio
from collections.abc import Iterator
from io import BytesIO

import pytest
from minio import Minio
from minio.error import S3Error

from stems import naming
from stems.config import Settings
from stems.record import ModelInfo, Stem, Track
from stems.storage import Storage
from stems_relay.orphans import Orphans
from tests.relay_stack import SECRET, SWEEPER, Sink, Stack
from tests.servers import until

TIDY = f"from stems_relay import orphans; orphans.AGE_S = -60; {SWEEPER}"
ORPHAN, DONE, IN_WORK, BEGUN, ANEW, OLD = (digit * 64 for digit in "abcde0")


def put(stack: Stack, *names: str, **metadata: str) -> None:
    for name in names:
        stack.root.put_object("output", name, BytesIO(b"bytes"), 5, metadata=dict(metadata))


def names(stack: Stack) -> set[str]:
    return {item.object_name or "" for item in stack.root.list_objects("output", recursive=True)}


def stems(songhash: str, *, format: str = "mp3") -> set[str]:
    return {f"{songhash}-{stem}.{format}" for stem in ("bass", "no_bass")} | {naming.peaks_object(songhash)}


def record(stack: Stack, songhash: str) -> str:
    """Put the record of a song whose stems are MP3s, as the functions do, and return its name."""
    made = tuple(Stem("x", "mp3", name, 5, "e", 0.0) for name in stems(songhash) if name.endswith("mp3"))
    track = Track(
        songhash, "x", "queue", "x", "e", 1.0, 44100, 2, ModelInfo("x", "0", "exact"), 1, made,
        peaks=naming.peaks_object(songhash),
    )  # fmt: skip
    Storage(Settings.from_env({**stack.environ, "STEMS_S3_ACCESS_KEY": "separate"})).put_record(track)
    return naming.record_object(songhash)


@pytest.fixture(autouse=True)
def emptied(stack: Stack) -> Iterator[None]:
    yield
    for name in names(stack):
        stack.root.remove_object("output", name)


@pytest.fixture
def output(stack: Stack) -> set[str]:
    """Return what is in the bucket and is to stay."""
    others = {
        "readme.txt",
        f"{DONE}-lyrics.txt",
        f"{'a' * 63}-bass.mp3",
        naming.record_object(OLD),
        f"{naming.part_folder(ORPHAN, 'p')}join-bass.mp3",
    }
    alive = {*stems(DONE), *stems(IN_WORK), *stems(OLD), *stems(OLD, format="flac"), *stems(ANEW)}
    put(stack, *others, *alive)
    stack.redis.set(naming.lease_key(IN_WORK), "a worker's")
    return {*others, *alive, *(record(stack, songhash) for songhash in (DONE, ANEW))}


def test_stems_that_no_record_names_go_and_nothing_else_does(stack: Stack, sink: Sink, output: set[str]) -> None:
    left = stems(ORPHAN) | (stems(ANEW, format="flac") - stems(ANEW))
    put(stack, *left)
    stack.relay(TIDY)
    until(lambda: not left & names(stack))
    assert names(stack) == output


def test_what_was_made_since_the_listing_stays(stack: Stack, sink: Sink) -> None:
    """The song is made between the listing and the removal, while the relay asks Redis whether somebody is at it."""

    class Slow:
        async def hold(self, songhash: str, seconds: float) -> bool:
            put(stack, *stems(ORPHAN))
            record(stack, ORPHAN)
            return True

        async def let_go(self, songhash: str) -> None: ...

    put(stack, *stems(ORPHAN))
    orphans = Orphans(Settings.from_env(stack.environ))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stems_relay.orphans.AGE_S", -60)
        assert asyncio.run(orphans.tidy(Slow())) == 0  # type: ignore[arg-type]
    assert names(stack) == {naming.record_object(ORPHAN), *stems(ORPHAN)}


def test_the_young_stay(stack: Stack, sink: Sink) -> None:
    put(stack, *stems(BEGUN))
    before = (stack.folder / "relay.log").stat().st_size if (stack.folder / "relay.log").exists() else 0
    stack.relay(SWEEPER, STEMS_SWEEP_S="1")
    # The second sweep comes after the first one's look at the stems.
    until(lambda: (stack.folder / "relay.log").read_bytes()[before:].count(b"swept the bucket") > 1)
    assert names(stack) == stems(BEGUN)


def test_the_relay_may_remove_stems_and_no_record(stack: Stack) -> None:
    put(stack, naming.record_object(DONE), *stems(DONE))
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
