"""The bytes of stems: ranges, conditions, names, redirects."""

from urllib.parse import quote, urlsplit

import pytest

from stems.storage import Storage
from stems.tracks import app as tracks_app
from tests.tracks_stack import SONG, Stack, problem, url


@pytest.mark.parametrize(
    ("asked", "status", "first", "last"),
    [
        ("bytes=0-99", 206, 0, 99),
        ("bytes=1000-", 206, 1000, 1023),
        ("bytes=1000-5000", 206, 1000, 1023),
        ("bytes=1023-1023", 206, 1023, 1023),
        ("bytes=-24", 206, 1000, 1023),
        ("bytes=-5000", 206, 0, 1023),
        ("Bytes=7-7", 206, 7, 7),
        ("bytes=0-1,5-6", 200, 0, 1023),
        ("bytes=9-5", 200, 0, 1023),
        ("bytes=a-b", 200, 0, 1023),
        ("bytes=-", 200, 0, 1023),
        ("lines=0-1", 200, 0, 1023),
    ],
)
def test_ranges(stack: Stack, asked: str, status: int, first: int, last: int) -> None:
    answer = stack.get(url(stack.put(1, vocals_mp3=SONG)), {"Range": asked})
    assert answer.status == status
    assert answer.data == SONG[first : last + 1]
    assert answer.headers["Content-Length"] == str(len(answer.data))
    assert answer.headers.get("Content-Range") == (f"bytes {first}-{last}/1024" if status == 206 else None)


@pytest.mark.parametrize("asked", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_outside_the_stem(stack: Stack, asked: str) -> None:
    answer = stack.get(url(stack.put(1, vocals_mp3=SONG)), {"Range": asked})
    problem(answer, 416)
    assert answer.headers["Content-Range"] == "bytes */1024"


def test_an_interrupted_download_goes_on_unless_the_stem_has_changed(stack: Stack) -> None:
    path = url(stack.put(1, vocals_mp3=SONG))
    begun = stack.open(path)
    got = begun.read(300)
    begun.close()
    rest = stack.get(path, {"Range": f"bytes={len(got)}-", "If-Range": begun.headers["ETag"]})
    assert (rest.status, got + rest.data) == (206, SONG)
    stack.put(1, vocals_mp3=SONG[::-1])
    for condition in (begun.headers["ETag"], "Wed, 21 Oct 2015 07:28:00 GMT"):
        again = stack.get(path, {"Range": "bytes=300-", "If-Range": condition})
        assert (again.status, again.data) == (200, SONG[::-1])
    problem(stack.get(path, {"If-Match": begun.headers["ETag"]}), 412)


def test_head_says_what_get_would(stack: Stack) -> None:
    path = url(stack.put(1, vocals_mp3=SONG), "vocals")
    told, got = stack.get(path, {"Range": "bytes=0-1"}, "HEAD"), stack.get(path)
    assert (told.status, told.data) == (200, b"")
    for name in ("Content-Length", "Content-Type", "Content-Disposition", "ETag", "Accept-Ranges", "Cache-Control"):
        assert told.headers[name] == got.headers[name]
    assert got.headers["Content-Type"] == "audio/mpeg"
    assert got.headers["Accept-Ranges"] == "bytes"
    assert got.headers["Cache-Control"] == "no-cache"


def test_without_an_extension_the_first_format_is_served(stack: Stack) -> None:
    track = stack.put(1, vocals_flac=b"flac", vocals_wav=b"", vocals_mp3=b"mp3")
    kinds = {"vocals": "audio/flac", "vocals.flac": "audio/flac", "vocals.wav": "audio/wav", "vocals.mp3": "audio/mpeg"}
    for stem, kind in kinds.items():
        assert stack.get(url(track, stem)).headers["Content-Type"] == kind
    assert stack.get(url(track, "vocals.wav")).data == b""


def test_what_the_client_has_is_not_read_again(stack: Stack) -> None:
    track = stack.put(1, vocals_mp3=SONG)
    etag = track.stems[0].etag
    stack.s3.remove_object("output", track.stems[0].object)
    for condition in (f'"{etag}"', f'W/"{etag}"', f'"other", "{etag}"', "*"):
        answer = stack.get(url(track), {"If-None-Match": condition})
        assert (answer.status, answer.data, answer.headers["ETag"]) == (304, b"", f'"{etag}"')
    problem(stack.get(url(track), {"If-None-Match": '"other"'}), 404)


@pytest.mark.parametrize(
    ("name", "plain", "full"),
    [
        ("Song.mp3", "Song - vocals.mp3", None),
        ("Mr. Brightside", "Mr. Brightside - vocals.mp3", None),
        ("Take 1.5.m4a", "Take 1.5 - vocals.mp3", None),
        ("Motörhead – Ace.flac", "Motorhead  Ace - vocals.mp3", "Motörhead – Ace - vocals.mp3"),
        ("全日本🎵.mp3", "song - vocals.mp3", "全日本🎵 - vocals.mp3"),
        ('a"b\\c\r\nX-Evil: 1.mp3', "a_b_c__X-Evil: 1 - vocals.mp3", None),
    ],
)
def test_the_download_is_named_after_the_song(stack: Stack, name: str, plain: str, full: str | None) -> None:
    answer = stack.get(url(stack.put(1, name=name, vocals_mp3=SONG)))
    expected = f'attachment; filename="{plain}"' + (f"; filename*=UTF-8''{quote(full)}" if full else "")
    assert answer.headers["Content-Disposition"] == expected
    assert "X-Evil" not in answer.headers


def test_the_redirect_needs_no_credentials(stack: Stack) -> None:
    track = stack.put(1, name="Später.mp3", vocals_mp3=SONG)
    answer = stack.get(url(track) + "?redirect=1")
    location = answer.headers["Location"]
    assert answer.status == 307
    assert urlsplit(location).netloc == f"localhost:{stack.ports['minio']}"
    direct = stack.http.request("GET", location, headers={"Range": "bytes=-24"})
    assert (direct.status, direct.data) == (206, SONG[-24:])
    proxied = stack.get(url(track) + "?redirect=0")
    assert proxied.data == SONG
    for name in ("Content-Type", "Content-Disposition", "ETag"):
        assert direct.headers[name] == proxied.headers[name]
    problem(stack.get(url(track) + "?redirect=yes"), 400, "redirect=yes")


def test_the_bytes_are_those_of_the_record_or_none(stack: Stack) -> None:
    track = stack.put(1, vocals_mp3=SONG)
    stack.put_object(track.stems[0].object, SONG[::-1])
    problem(stack.get(url(track)), 404, "overwritten")
    stack.put(1, vocals_mp3=SONG[::-1])
    assert stack.get(url(track)).data == SONG[::-1]
    stack.s3.remove_object("output", track.stems[0].object)
    problem(stack.get(url(track)), 404)


def test_a_song_separated_again_during_the_request_is_served_anew(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [stack.put(1, vocals_mp3=SONG), stack.put(1, vocals_mp3=SONG[:100])]
    monkeypatch.setattr(Storage, "track", lambda self, songhash: records.pop(0))
    client = tracks_app.create_app(stack.settings).test_client()
    answer = client.get(f"/v1/tracks/{records[0].songhash}/vocals", headers={"Range": "bytes=-10"})
    assert (answer.status_code, answer.data) == (206, SONG[90:100])
    assert answer.headers["Content-Range"] == "bytes 90-99/100"
