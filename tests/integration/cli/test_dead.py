"""`stems dead`: dead letters."""

import json

from stems import naming
from tests.cli import KEY, Service, run


def test_dead_list(service: Service, letters: list[str]) -> None:
    lines = run("dead", "list").stdout.splitlines()
    assert lines[0].split() == ["ID", "SONG", "TRIES", "WHEN"]
    assert lines[1].split()[0] == letters[2][:8]  # the newest first
    assert lines[3].split()[:3] == [letters[1][:8], "other.mp3", "3"]
    assert lines[6].strip() == "422: not a song"
    given = json.loads(run("dead", "list", "--json").stdout)
    assert [letter["id"] for letter in given] == letters[::-1]
    assert given[2]["error"] == "422: not a song"


def test_dead_show(service: Service, letters: list[str]) -> None:
    shown = run("dead", "show", letters[0][:6]).stdout
    assert letters[0] in shown
    assert "422: not a song" in shown
    assert '"eventName": "s3:ObjectCreated:Put"' in shown
    assert f'"key": "{KEY}"' in shown
    assert "no JSON" in run("dead", "show", "ffff").stdout
    assert run("dead", "show", "zz", code=1).stderr == "Error: 0 dead letters have an id that starts with 'zz'\n"


def test_dead_retry_puts_back_in_line(service: Service, letters: list[str]) -> None:
    run("dead", "retry", letters[0][:8], "nothing", code=1)
    assert service.redis.zcard(naming.DEAD) == 3  # a wrong id changes nothing
    assert "back in line  in/夜に駆ける.mp3" in run("dead", "retry", letters[0][:8]).stdout
    assert service.redis.zrange(naming.WAITING, 0, -1) == [letters[0]]
    assert service.redis.hget(naming.job_key(letters[0]), "state") == "waiting"
    assert service.redis.hget(naming.ATTEMPTS, letters[0]) is None
    run("dead", "retry", "--all")
    assert service.redis.zcard(naming.DEAD) == 0
    assert service.redis.lrange(naming.NOTIFICATIONS, 0, -1) == ["no JSON"]
    assert run("dead", "retry", "--all").stderr == "no dead letters\n"


def test_dead_drop_forgets(service: Service, letters: list[str]) -> None:
    run("dead", "drop", letters[1])
    assert service.redis.zrange(naming.DEAD, 0, -1) == [letters[0], letters[2]]
    run("dead", "drop", "--all")
    assert service.redis.zcard(naming.DEAD) == 0
    assert service.redis.zcard(naming.WAITING) == 0
