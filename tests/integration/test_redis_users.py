"""Who may do what in Redis: each user of events/users.conf what he needs, and nothing else."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from stems import naming
from tests.programs import CHECKOUT, need
from tests.servers import free_port, until

USERS = ("minio", "relay", "separate", "tracks", "logs", "admin")
HERE = CHECKOUT / "events"
# What would undo others' work or tell their secrets.
DANGEROUS = (
    "FLUSHALL", "FLUSHDB", "CONFIG GET *", "CONFIG SET dir /tmp", "ACL LIST", "ACL SETUSER x on",
    "SHUTDOWN NOSAVE", "KEYS *", "SAVE", "REPLICAOF 127.0.0.1 1", "CLIENT LIST", "CLIENT KILL 127.0.0.1:1", "MONITOR",
    "MODULE LIST", "FUNCTION LIST", "SCRIPT FLUSH", "MIGRATE 127.0.0.1 1 x 0 1", "SWAPDB 0 1", "INFO", "PUBLISH x y",
)  # fmt: skip

# One command on one key, and who may.
CALLS: dict[str, set[str]] = {
    # `tracks`: the queue shows what is only announced, and what nobody could read is tried again from there.
    "RPUSH stems:notifications x": {"minio", "relay", "tracks"},
    "CLIENT SETNAME x": {"minio"},
    "TYPE stems:notifications": {"minio", "relay", "tracks"},
    "LRANGE stems:notifications 0 -1": {"relay", "tracks"},
    "DEL stems:notifications": {"relay", "tracks"},
    "BLMOVE stems:notifications stems:processing:r LEFT RIGHT 0.01": {"relay"},
    "LRANGE stems:processing:r 0 -1": {"relay"},
    "ZADD stems:waiting 1 x": {"relay", "tracks"},
    "ZADD stems:callbacks 1 x": {"relay"},
    "ZRANGE stems:callbacks:dead 0 -1": {"relay"},
    "ZRANGE stems:replies 0 -1": {"relay"},
    "ZREM stems:dead x": {"relay", "tracks"},
    "HGETALL stems:job:x": {"relay", "separate", "tracks"},
    "HSET stems:job:x state done": {"relay", "separate", "tracks"},
    "SET stems:lease:x y": {"relay", "separate", "tracks"},
    "ZADD stems:tracks 1 x": {"relay", "separate", "tracks"},
    "SET stems:track:x y": {"relay", "separate", "tracks"},
    "SET stems:sweep r": {"relay"},
    "ZRANGE stems:relays 0 -1": {"relay", "tracks"},
    "TIME": {"relay", "separate", "tracks"},
    "LRANGE logging 0 -1": {"relay", "separate", "tracks", "logs"},
    "RPUSH logging x": {"relay", "separate", "tracks"},
    "GET somebody:elses": set(),
    "SET somebody:elses x": set(),
    "EVAL return(redis.call('GET','somebody:elses')) 0": set(),
    "EVAL return(redis.call('FLUSHALL')) 0": set(),
    "EVAL return(redis.call('DEL','stems:notifications')) 0": {"relay", "tracks"},
    **dict.fromkeys(DANGEROUS, set()),
}


@contextmanager
def server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run Redis as the local run, compose and the cluster do."""
    conf = folder / "redis.conf"
    conf.write_text(f'bind 127.0.0.1\nport {port}\ndir {folder}\nappendonly yes\nsave ""\n')
    environ = {f"REDIS_{user.upper()}_PASSWORD": f"{user}-password" for user in USERS}
    environ["REDIS_SERVER"] = need("redis-server")
    with subprocess.Popen(["sh", str(HERE / "redis.sh"), str(conf)], env=environ, stdout=subprocess.DEVNULL) as server:
        with client(port, "admin") as admin:
            until(admin.ping)
        yield server
        server.terminate()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder, port = tmp_path_factory.mktemp("redis"), free_port()
    with server(folder, port) as running:
        # Neither in the list of processes nor in a file.
        assert b"-password" not in Path(f"/proc/{running.pid}/cmdline").read_bytes()
        assert not [path for path in folder.rglob("*") if path.is_file() and b"-password" in path.read_bytes()]
        yield port


def client(port: int, user: str) -> redis.Redis:
    return redis.Redis(port=port, username=user, password=f"{user}-password", decode_responses=True)


def test_the_table_names_each_user() -> None:
    lines = (HERE / "users.conf").read_text().splitlines()
    assert {line.split()[1] for line in lines if line.startswith("user ")} == {"default", *USERS}
    readme = (HERE / "README.md").read_text()
    for user in USERS:
        assert f"| `{user}` |" in readme


@pytest.mark.parametrize("call", CALLS)
def test_each_user_may_what_he_needs_alone(port: int, call: str) -> None:
    for user in USERS[:-1]:
        with client(port, user) as one:
            try:
                one.execute_command(*call.split(" "))
                allowed = True
            except redis.exceptions.NoPermissionError:
                allowed = False
            except redis.exceptions.ResponseError as error:
                # Within a script Redis has other words for it.
                allowed = not re.search("can't (run this command|access)", str(error))
            assert allowed == (user in CALLS[call]), f"{user}: {call}"


def test_a_wrong_password_is_none(port: int) -> None:
    for user in USERS:
        wrong = redis.Redis(port=port, username=user, password="wrong")
        with wrong, pytest.raises(redis.exceptions.AuthenticationError):
            wrong.ping()
    for anybody in (redis.Redis(port=port), redis.Redis(port=port, password="")):
        with anybody, pytest.raises(redis.exceptions.AuthenticationError):
            anybody.ping()


def test_what_is_written_is_there_after_a_restart(tmp_path: Path) -> None:
    """Redis reads its log as the user `default`: with less than all rights, it would leave transactions out."""
    port = free_port()
    for restarted in (False, True):
        with server(tmp_path, port), client(port, "relay") as relay:
            if not restarted:
                relay.pipeline(transaction=True).set("stems:model", "x").rpush("logging", "y").execute()
            assert relay.get("stems:model") == "x"
            assert relay.lrange("logging", 0, -1) == ["y"]


def test_the_administrator_may_everything(port: int) -> None:
    with client(port, "admin") as admin:
        assert admin.acl_whoami() == "admin"
        assert admin.config_get("maxmemory")


def test_without_a_password_it_does_not_start(tmp_path: Path) -> None:
    environ = {f"REDIS_{user.upper()}_PASSWORD": "x" for user in USERS if user != "tracks"}
    done = subprocess.run(
        ["sh", str(HERE / "redis.sh"), "none"], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode
    assert "REDIS_TRACKS_PASSWORD" in done.stderr


def test_keys_of_the_table_are_those_of_the_code() -> None:
    used = {word for call in CALLS for word in call.split(" ") if word.startswith("stems:")}
    assert {naming.NOTIFICATIONS, naming.WAITING, naming.DEAD, naming.RELAYS, naming.SWEEP_LOCK} <= used
