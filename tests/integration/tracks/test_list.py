"""The list of tracks, a track, and what is not found."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from stems import naming
from tests.tracks_stack import SONG, Stack, problem, url


def test_pages_show_each_track_once_while_others_arrive(empty: Stack) -> None:
    # Threes of one millisecond, so that the order within it matters, too.
    old = [empty.put(n, created_ms=1_700_000_000_000 + n // 3) for n in range(25)]
    expected = [t.songhash for t in sorted(old, key=lambda t: (t.created_ms, t.songhash), reverse=True)]
    seen: list[str] = []
    path, number = "/v1/tracks?limit=4", 100
    while path:
        answer = empty.get(path)
        body = json.loads(answer.data)
        seen += [track["songhash"] for track in body["tracks"]]
        assert answer.headers.get("Link") == (f'<{body["next"]}>; rel="next"' if body["next"] else None)
        path = body["next"]
        # Another song is separated, and the last one seen once more: both belong on the first page.
        empty.index.add(empty.put(number))
        number += 1
        last = next(t for t in old if t.songhash == seen[-1])
        empty.index.add(empty.put(old.index(last), created_ms=1_700_000_001_000 + number))
    assert seen == expected


def test_the_list_comes_back_from_the_bucket_when_redis_has_lost_it(empty: Stack) -> None:
    tracks = [empty.put(n, vocals_mp3=b"v") for n in range(5)]
    empty.put_object(naming.record_object("f" * 64), b"{damaged")
    empty.put_object("readme.txt", b"not ours")
    expected = [track.songhash for track in reversed(tracks)]
    for _ in range(2):
        body = json.loads(empty.get("/v1/tracks").data)
        assert [track["songhash"] for track in body["tracks"]] == expected
        assert body["next"] is None
        empty.redis.flushall()


def test_all_who_ask_at_once_for_a_list_that_was_lost_get_it(empty: Stack) -> None:
    for number in range(40):
        empty.put(number, vocals_mp3=b"v")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: empty.get("/v1/tracks"), range(8)))
    assert [(answer.status, len(answer.json()["tracks"])) for answer in answers] == [(200, 40)] * 8


def test_an_empty_list_is_a_list(empty: Stack) -> None:
    assert json.loads(empty.get("/v1/tracks").data) == {"tracks": [], "next": None}


@pytest.mark.parametrize(
    "wrong",
    ["limit=0", "limit=1001", "limit=-1", "limit=ten", "limit=", "limit=1_0", "cursor=", "cursor=abc", "cursor=1-z"],
)
def test_a_wrong_parameter_is_named(stack: Stack, wrong: str) -> None:
    problem(stack.get(f"/v1/tracks?{wrong}"), 400, wrong)


def test_a_track_has_all_that_a_player_needs(empty: Stack) -> None:
    track = empty.put(1, name="Später.mp3", created_ms=1_700_000_000_123, vocals_mp3=SONG, vocals_flac=b"flac")
    answer = empty.get(f"/v1/tracks/{track.songhash}")
    body = json.loads(answer.data)
    assert body == json.loads(empty.get("/v1/tracks").data)["tracks"][0]
    assert body["name"] == "Später.mp3"
    assert body["created"] == "2023-11-14T22:13:20.123Z"
    assert [stem["url"] for stem in body["stems"]] == [url(track), url(track, "vocals.flac")]
    assert [stem["size"] for stem in body["stems"]] == [1024, 4]
    for stem in body["stems"]:
        assert empty.get(stem["url"]).headers["ETag"] == f'"{stem["etag"]}"'
    unchanged = empty.get(f"/v1/tracks/{track.songhash}", {"If-None-Match": answer.headers["ETag"]})
    assert (unchanged.status, unchanged.data) == (304, b"")


def test_what_is_unknown_is_not_found(empty: Stack) -> None:
    track = empty.put(1, vocals_mp3=SONG)
    empty.put_object(naming.record_object("f" * 64), b"[]")
    for path in (f"/v1/tracks/{'0' * 64}", f"/v1/tracks/{'f' * 64}", f"/v1/tracks/{'0' * 64}/vocals.mp3"):
        problem(empty.get(path), 404, path.split("/")[3])
    for stem in ("drums", "vocals.flac", "vocals.", "vocals.mp3.mp3"):
        problem(empty.get(url(track, stem)), 404, stem, "vocals.mp3")
    for path in ("/v1/tracks/abc", f"/v1/tracks/{'A' * 64}", "/v1/tracks/abc/vocals"):
        problem(empty.get(path), 400, "songhash", path.split("/")[3])
    for path in ("/v1", "/v1/tracks/", "/favicon.ico"):
        problem(empty.get(path), 404)
    for path in ("/v1/tracks", "/v1/queue", url(track), "/"):
        refused = empty.get(path, method="PATCH")
        problem(refused, 405)
        assert "GET" in refused.headers["Allow"]
