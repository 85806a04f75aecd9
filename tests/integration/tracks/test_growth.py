"""What must not grow: memory and open files of the function."""

import json
from pathlib import Path

from stems import naming
from tests.servers import until
from tests.tracks_stack import MB, Stack, url


def test_a_big_stem_takes_no_memory(stack: Stack, tmp_path: Path) -> None:
    track, size = stack.put(1, vocals_wav=b""), 200 * MB
    sparse = tmp_path / "big"
    with sparse.open("wb") as file:
        file.truncate(size)
    name = track.stems[0].object
    etag = stack.s3.fput_object("output", name, str(sparse), part_size=64 * MB).etag or ""
    record = track.to_dict() | {
        "stems": [{"stem": "vocals", "format": "wav", "object": name, "size": size, "etag": etag, "gain_db": 0.0}]
    }
    stack.put_object(naming.record_object(track.songhash), json.dumps(record).encode())
    before = stack.rss_mb()
    most, length = before, 0
    with stack.open(url(track, "vocals.wav")) as response:
        for number, chunk in enumerate(response.stream(MB)):
            length += len(chunk)
            if number % 20 == 0:
                most = max(most, stack.rss_mb())
    assert length == size
    assert most - before < 30
    assert "-" in etag  # put in parts, as encoders' big files are


def test_clients_that_go_away_leave_nothing_open(stack: Stack) -> None:
    track = stack.put(1, vocals_mp3=bytes(32 * MB))
    files = stack.worker() / "fd"

    def opened() -> int:
        return len(list(files.iterdir()))

    stack.get(url(track))
    before = opened()
    for number in range(100):
        response = stack.open(url(track))
        response.read(1 + number * 1000)
        response.close()
    # One connection to MinIO for each of the threads may be kept.
    until(lambda: opened() <= before + 64)
    answer = stack.get(url(track))
    assert (answer.status, answer.data == bytes(32 * MB)) == (200, True)
