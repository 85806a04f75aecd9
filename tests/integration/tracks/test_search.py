"""The list by name and by time."""

import unicodedata
from typing import Any

import pytest

from stems import naming
from stems.record import Track
from tests.servers import until
from tests.tracks_stack import Stack, problem

YEAR_MS = 1_700_000_000_000


def listed(stack: Stack, path: str) -> Any:
    answer = stack.get(path)
    assert answer.status == 200, answer.data
    return answer.json()


def names(stack: Stack, **query: str) -> list[str]:
    answer = stack.http.request("GET", f"{stack.url}/v1/tracks", fields=query)
    return [track["name"] for track in answer.json()["tracks"]]


def pages(stack: Stack, path: str | None) -> list[str]:
    """Follow the links of a list to its end; return the song hashes."""
    found: list[str] = []
    while path:
        body = listed(stack, path)
        found += [track["songhash"] for track in body["tracks"]]
        path = body["next"]
    return found


def fill(stack: Stack, *titles: str) -> list[Track]:
    tracks = [stack.put(n, name=title, created_ms=YEAR_MS + 1000 * n) for n, title in enumerate(titles)]
    for track in tracks:
        stack.index.add(track)
    return tracks


def test_a_search_finds_names_by_how_they_begin(empty: Stack) -> None:
    decomposed = unicodedata.normalize("NFD", "Été.mp3")
    fill(empty, "Hello.mp3", "help.mp3", "HELIUM.flac", "Shell.mp3", "Straße.mp3", decomposed, "100% [live].mp3")
    assert names(empty, q="hel") == ["HELIUM.flac", "Hello.mp3", "help.mp3"]
    assert names(empty, q="HELL") == ["Hello.mp3"]
    assert names(empty, q="STRASSE") == ["Straße.mp3"]
    assert names(empty, q="été") == [decomposed]
    assert names(empty, q="100% [") == ["100% [live].mp3"]
    assert names(empty, q="elp") == names(empty, q="*") == names(empty, q="hello.mp3x") == []
    assert len(names(empty, q="")) == 7


def test_a_search_has_pages(empty: Stack) -> None:
    tracks = fill(empty, *(["Song.mp3"] * 7), "Songbird.mp3", "Other.mp3")
    # Those of one name newest first.
    expected = [track.songhash for track in [*reversed(tracks[:7]), tracks[7]]]
    for limit in (1, 3, 4, 8, 9):
        assert pages(empty, f"/v1/tracks?q=SONG&limit={limit}") == expected
    answer = empty.get("/v1/tracks?q=song&limit=3")
    assert answer.headers["Link"] == f'<{answer.json()["next"]}>; rel="next"'


def test_only_what_is_new_enough(empty: Stack) -> None:
    tracks = fill(empty, *(["Song.mp3"] * 6))
    newer = [track.songhash for track in reversed(tracks[3:])]
    for q in ("", "&q=so"):
        for limit in (1, 2, 3, 50):
            assert pages(empty, f"/v1/tracks?since=2023-11-14T22:13:23Z&limit={limit}{q}") == newer
        assert pages(empty, f"/v1/tracks?since=2023-11-14T23:13:23%2B01:00{q}") == newer
        assert pages(empty, f"/v1/tracks?since=2030-01-01T00:00:00Z{q}") == []
    for wrong in ("yesterday", "2023-11-14", "2023-11-14T22:13:23", "1700000000"):
        problem(empty.get(f"/v1/tracks?since={wrong}"), 400, f"since={wrong}", "RFC 3339")


@pytest.mark.parametrize("cursor", ["x", "", "////", "AAAA", "1700000000000-" + "a" * 64])
def test_a_cursor_that_no_search_made_is_named(empty: Stack, cursor: str) -> None:
    fill(empty, "Song.mp3")
    problem(empty.get(f"/v1/tracks?q=s&cursor={cursor}"), 400, f"cursor={cursor}")


def test_a_track_that_gets_another_name_is_found_by_that_alone(empty: Stack) -> None:
    fill(empty, "Old.mp3")
    fill(empty, "New.mp3")
    assert (names(empty, q="old"), names(empty, q="new")) == ([], ["New.mp3"])
    assert empty.redis.zcard(naming.TRACK_NAMES) == 1


def test_the_search_comes_back_from_the_bucket(empty: Stack) -> None:
    fill(empty, "Song.mp3", "Other.mp3")
    empty.redis.flushall()
    assert names(empty, q="so") == ["Song.mp3"]
    assert empty.redis.xlen(naming.EVENTS) == 0  # nothing of it is news


def test_what_expired_leaves_the_list(empty: Stack) -> None:
    old = fill(empty, "Gone.mp3", "Here.mp3", "Gone too.mp3")
    fresh = [empty.put(n, name=f"{n}.mp3", created_ms=YEAR_MS + 10**6 + n) for n in range(100, 130)]
    for track in fresh:
        empty.index.add(track)
    for track in (old[0], old[2], fresh[29]):
        empty.s3.remove_object("output", naming.record_object(track.songhash))
    # A process looks for the same track once a minute.
    empty.kill("tracks")
    empty.start("tracks")
    # What is shown is looked for, and so are the oldest, where expiry begins: nobody has asked for them.
    assert len(listed(empty, "/v1/tracks?limit=5")["tracks"]) == 5
    until(lambda: empty.redis.zcard(naming.TRACKS) == empty.redis.zcard(naming.TRACK_NAMES) == 30)
    assert set(pages(empty, "/v1/tracks")) == {track.songhash for track in [old[1], *fresh[:29]]}
