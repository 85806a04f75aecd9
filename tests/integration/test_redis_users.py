"""Who may do what in Redis: each user of events/users.conf what he needs, and nothing else."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from stems import lease, moves, naming
from stems_relay import part_scripts, scripts
from tests.programs import CHECKOUT
from tests.servers import DURABLE, REDIS_USERS, free_port, guarded_redis, until

USERS = REDIS_USERS
HERE = CHECKOUT / "events"
ID, HASH = "0123456789abcdef" * 2, "0123456789abcdef" * 4
# A command that each user has, for any key.
LOOKS = {"minio": "TYPE", "relay": "TYPE", "separate": "GET", "tracks": "GET", "logs": "LRANGE {} 0 0"}
# What would undo others' work, tell their secrets, or is needed by nobody.
REFUSED = (
    "FLUSHALL", "FLUSHDB", "CONFIG GET *", "CONFIG SET dir /tmp", "ACL LIST", "ACL SETUSER x on", "ACL WHOAMI",
    "SHUTDOWN NOSAVE", "KEYS *", "SCAN 0", "RANDOMKEY", "DBSIZE", "SAVE", "REPLICAOF 127.0.0.1 1", "CLIENT LIST",
    "CLIENT KILL 127.0.0.1:1", "MONITOR", "MODULE LIST", "FUNCTION LIST", "SCRIPT FLUSH", "SCRIPT KILL",
    "MIGRATE 127.0.0.1 1 x 0 1", "SWAPDB 0 1", "SELECT 1", "MOVE logging 1", "INFO", "PUBLISH x y", "SUBSCRIBE x",
    "RENAME logging x", "COPY logging x", "DUMP logging", "RESTORE logging 0 x", "SORT logging", "APPEND logging x",
    "OBJECT ENCODING logging", "LSET logging 0 x", "LINSERT logging BEFORE x y", "UNLINK logging",
    "XTRIM stems:events MAXLEN 0", "XDEL stems:events 1-1",
    "ZPOPMIN stems:tracks", "ZREMRANGEBYRANK stems:waiting 0 -1", "ZUNIONSTORE stems:dead 1 x",
)  # fmt: skip

# One command on one key, and who may.
CALLS: dict[str, set[str]] = {
    # `tracks`: the queue shows what is only announced, and what nobody could read is tried again from there.
    "RPUSH stems:notifications x": {"minio", "relay", "tracks"},
    "CLIENT SETNAME x": {"minio"},
    "LRANGE stems:notifications 0 -1": {"relay", "tracks"},
    "LPOP stems:notifications": {"relay"},
    "DEL stems:notifications": {"relay", "tracks"},
    "BLMOVE stems:notifications stems:processing:r LEFT RIGHT 0.01": {"relay"},
    "ZADD stems:waiting 1 x": {"relay", "tracks"},
    "ZADD stems:callbacks 1 x": {"relay"},
    "ZREM stems:dead x": {"relay", "tracks"},
    f"HGETALL stems:job:{ID}": {"relay", "tracks"},  # of the relay: `stems dead`, in its container
    "ZREVRANGE stems:dead 0 -1": {"relay", "tracks"},
    f"ZRANK stems:waiting {ID}": {"relay", "tracks"},
    f"HMGET stems:job:{ID} state": {"relay", "separate", "tracks"},
    f"HSET stems:job:{ID} state done": {"relay", "separate", "tracks"},
    f"HDEL stems:job:{ID} state": {"relay", "separate", "tracks"},
    f"SET stems:lease:{ID} y": {"relay", "separate", "tracks"},
    f"DEL stems:lease:{ID}": {"relay", "separate", "tracks"},
    "ZADD stems:tracks 1 x": {"separate", "tracks"},
    f"SET stems:track:{HASH} y": {"separate", "tracks"},
    f"MGET stems:track:{HASH} stems:track:{HASH}": {"tracks"},
    "SET stems:sweep r": {"relay"},
    "TIME": {"relay"},
    "LRANGE logging 0 -1": {"relay", "tracks", "logs"},
    "RPUSH logging x": {"relay", "separate", "tracks"},
    "EVAL return(1) 0": {"separate", "tracks"},
    "SCRIPT LOAD return(1)": {"relay", "separate", "tracks"},
    "EVAL return(redis.call('GET','somebody:elses')) 0": set(),
    "EVAL return(redis.call('FLUSHALL')) 0": set(),
    "EVAL return(redis.call('DEL','stems:notifications')) 0": {"tracks"},
    "EVAL return(redis.call('GET','stems:tracks')) 0": {"separate", "tracks"},
    **dict.fromkeys(REFUSED, set()),
}


def table() -> dict[str, set[str]]:
    """Read the keys of the README, and who may touch them."""
    found = {}
    for names, users in re.findall(r"^\| (`(?:stems:|logging).*?`) \|.*\| ([^|]*) \|$", README, re.MULTILINE):
        for name in re.findall("`(.*?)`", names):
            found[name.replace("<songhash>", HASH).replace("<id>", ID)] = set(re.findall(r"`(\w+)`", users))
    return found


README = (HERE / "README.md").read_text()
KEYS = {**table(), "somebody:elses": set(), "stems": set()}


@contextmanager
def server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run Redis as the local run, compose and the cluster do."""
    command, environ = guarded_redis(folder, port, *DURABLE)
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as server:
        try:
            with client(port, "admin") as admin:
                until(admin.ping)
            yield server
        finally:
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
    for user in USERS:
        assert f"| `{user}` |" in README


def allowed(port: int, user: str, call: str) -> bool:
    """Tell whether Redis does what a user says, or would if the key were of the right type."""
    with client(port, user) as one:
        try:
            one.execute_command(*call.split(" "))
        except redis.exceptions.NoPermissionError:
            return False
        except redis.exceptions.ResponseError as error:
            # Within a script Redis has other words for it.
            return not re.search("can't (run this command|access)", str(error))
        return True


@pytest.mark.parametrize("call", CALLS)
def test_each_user_may_what_he_needs_alone(port: int, call: str) -> None:
    assert {user for user in USERS[:-1] if allowed(port, user, call)} == CALLS[call]


@pytest.mark.parametrize("key", KEYS)
def test_each_user_touches_the_keys_of_the_table_alone(port: int, key: str) -> None:
    looks = {user: look.format(key) if "{}" in look else f"{look} {key}" for user, look in LOOKS.items()}
    assert {user for user in LOOKS if allowed(port, user, looks[user])} == KEYS[key]


def test_a_wrong_password_is_none(port: int) -> None:
    wrong: list[dict[str, Any]] = [{"username": user, "password": "wrong"} for user in USERS]
    for login in (*wrong, {}, {"password": ""}):
        once = redis.Redis(port=port, retry=Retry(NoBackoff(), 0), **login)
        with once, pytest.raises(redis.exceptions.AuthenticationError):
            once.ping()


def test_what_is_written_is_there_after_a_restart(tmp_path: Path) -> None:
    """Redis reads its log as the user `default`: with less than all rights, it would leave transactions out."""
    port = free_port()
    for restarted in (False, True):
        with server(tmp_path, port), client(port, "relay") as relay:
            if not restarted:
                relay.pipeline(transaction=True).set("stems:pace", "1").rpush("logging", "y").execute()
            assert relay.get("stems:pace") == "1"
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


def test_scripts_have_all_commands_that_they_call() -> None:
    """One that is seldom called would be refused only then, in the middle of a move."""
    texts = {
        "relay": [text for module in (scripts, part_scripts) for text in vars(module).values()],
        "separate": [
            moves.UPDATE,
            moves.BEGIN,
            moves.PART,
            moves.WANT,
            moves.GIVEN_UP,
            moves.DISOWNED,
            *vars(lease).values(),
        ],
        "tracks": [moves.EXPECT, moves.CANCEL, moves.RETRY, moves.DROP, *vars(lease).values()],
    }
    conf = (HERE / "users.conf").read_text().replace("\\\n", "")
    for user, found in texts.items():
        called = set(re.findall(r"redis\.p?call\('(\w+)'", " ".join(text for text in found if isinstance(text, str))))
        (line,) = [line for line in conf.splitlines() if line.startswith(f"user {user} ")]
        assert called
        assert called <= {word.removeprefix("+").upper() for word in line.split()}, user


def test_the_table_has_the_keys_of_the_code() -> None:
    keys = {value for value in vars(naming).values() if isinstance(value, str) and value.startswith("stems:")}
    keys |= {dead for _, dead in naming.LINES.values()} | {naming.LOG_TAIL}
    keys |= {naming.job_key(ID), naming.lease_key(ID), naming.parts_key(ID), naming.track_key(HASH)}
    keys |= {naming.processing_key("<relay>"), naming.delivering_key("<relay>")}
    assert keys <= KEYS.keys()
