"""A file within JSON, read in pieces: what comes out is what the parser of all JSON would have made of it."""

import base64
import io
import json
import random
import tracemalloc
from typing import Any

import pytest

from stems.tracks import envelope
from stems.tracks.envelope import Malformed, TooLong

SONG = random.Random(5).randbytes(1000)
BASE64 = base64.b64encode(SONG).decode()


class Pieces:
    """Gives a body in pieces of this size."""

    def __init__(self, body: bytes, size: int) -> None:
        self._file, self._size = io.BytesIO(body), size

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(self._size, size))


def read(body: str | bytes, piece: int = 65536, limit: int = 5000) -> tuple[dict[str, Any], bytes]:
    body, target = body.encode() if isinstance(body, str) else body, io.BytesIO()
    found, size = envelope.read(Pieces(body, piece), "mp3", target, limit)
    assert size == len(target.getvalue())
    return found, target.getvalue()


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64, 65536])
@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"mp3": BASE64, "model": "m", "callback": {"url": "http://x", "data": {"mp3": "a.mp3"}}}),
        json.dumps({"callback": {"mp3": "not this", "data": ["mp3", {"mp3": 1}]}, 'a"]}\\': 1, "mp3": BASE64}),
        json.dumps({"mp3": base64.encodebytes(SONG).decode()}, indent=3),
        json.dumps({"mp3": BASE64}).replace("/", "\\/").replace("+", "\\u002b"),
        json.dumps({"MP3": "x", "mp3": BASE64}).replace('"mp3"', '"m\\u00703"'),
        " \r\n" + json.dumps({"data": "mp3", "x": None, "mp3": BASE64, "y": [1.5, True]}).replace(":", " \n: ") + "\t",
        json.dumps({"ä": "ö", "mp3": BASE64}, ensure_ascii=False),
    ],
)
def test_a_song_comes_out_as_it_went_in(body: str, piece: int) -> None:
    expected = json.loads(body)
    found, song = read(body, piece)
    assert song == SONG
    assert found == {**expected, "mp3": ""}


@pytest.mark.parametrize("piece", [1, 65536])
@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("", "not JSON"),
        ("null", "not a JSON object"),
        ("[]", "not a JSON object but list"),
        (f'["mp3", "{BASE64}"]', "not a JSON object"),
        (f'[{{"mp3": "{BASE64}"}}]', "not a JSON object"),
        ('{"mp3": "', "not JSON"),
        ('{"mp3": "AAAA"', "not JSON"),
        ('{"mp3": "AAAA"}}', "not JSON"),
        ('{"mp3": "AAAA"} {}', "not JSON"),
        ('{"mp3" "AAAA"}', "not JSON"),
        ('{mp3: "AAAA"}', "not JSON"),
        ("{'mp3': 'AAAA'}", "not JSON"),
        ('{"mp3": "AAAA",}', "not JSON"),
        ('{"mp3": "AA\\x41A"}', "not JSON"),
        ('{"mp3": "AA\\u00zzAAAAAAAAAA"}', "not JSON"),
        ('{"model": "demo"}', "mp3 is missing"),
        ('{"mp3": null}', "mp3: must be a string"),
        ('{"mp3": 5}', "mp3: must be a string"),
        ('{"mp3": ["AAAA"]}', "mp3: must be a string"),
        ('{"mp3": {"py/b64": "AAAA"}}', "mp3: must be a string"),
        ('{"mp3": ""}', "mp3: empty"),
        ('{"mp3": "\\n "}', "mp3: empty"),
        ('{"mp3": "AAAA", "mp3": "AAAA"}', "mp3 is given twice"),
        ('{"mp3": "AAA"}', "mp3: not base64: its length"),
        ('{"mp3": "AA=A"}', "mp3: not base64"),
        ('{"mp3": "AA==AAAA"}', "mp3: not base64"),
        ('{"mp3": "A-_A"}', "mp3: not base64"),
        ('{"mp3": "A\\u00e4AA"}', "mp3: not base64"),
        ('{"mp3": "data:audio/mpeg;base64,AAAA"}', "mp3: not base64"),
    ],
)
def test_what_is_wrong_is_named(body: str, why: str, piece: int) -> None:
    with pytest.raises(Malformed, match=why):
        read(body, piece)


def test_limits() -> None:
    assert len(read(json.dumps({"mp3": BASE64}), limit=1000)[1]) == 1000
    with pytest.raises(TooLong, match="mp3: at most 999 bytes"):
        read(json.dumps({"mp3": BASE64}), limit=999)
    with pytest.raises(TooLong, match="more than 65536 bytes beside mp3"):
        read(json.dumps({"x": "y" * 70_000, "mp3": BASE64}))
    with pytest.raises(TooLong, match="mp3: at most 1000 bytes"):
        read('{"mp3": "' + " " * 500_000, limit=1000)
    with pytest.raises(Malformed, match="not JSON"):
        read("[" * 60_000)


@pytest.mark.parametrize("seed", range(3))
def test_mutations_are_read_as_the_parser_reads_them(seed: int) -> None:
    """Nothing that is no JSON passes, and nothing that is comes out as something else."""
    dice = random.Random(seed)
    for _ in range(1500):
        small = {
            "callback": {"url": 'h"\\', "data": ["mp3"]},
            "mp3": base64.b64encode(dice.randbytes(9)).decode(),
            "n": 1,
        }
        body = bytearray(json.dumps(small).encode())
        for _ in range(dice.randint(0, 3)):
            body[dice.randrange(len(body))] = dice.choice(b'{}[]",:\\mp3 AAA')
        try:
            found, song = read(bytes(body), dice.choice([1, 5, 65536]))
        except Malformed:
            continue
        expected = json.loads(body)
        assert found == {**expected, "mp3": ""}
        assert song == base64.b64decode(expected["mp3"])


def test_memory_does_not_grow_with_the_song() -> None:
    class Endless:
        def __init__(self) -> None:
            self.pieces = [b'{"mp3": "', *[b"A" * 65536] * 800, b'"}']

        def read(self, size: int, /) -> bytes:
            return self.pieces.pop(0) if self.pieces else b""

    class Nowhere:
        def write(self, data: bytes, /) -> None:
            pass

    source = Endless()
    tracemalloc.start()
    try:
        _, size = envelope.read(source, "mp3", Nowhere(), 1 << 30)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == 800 * 65536 // 4 * 3
    assert peak < 2_000_000
