"""Tokens, rates and where the function may listen."""

import hashlib
from pathlib import Path

import pytest

from stems import tokens
from stems.config import Settings
from stems.errors import ConfigError
from stems.tokens import Role, Tokens
from stems.tracks import gate
from stems.tracks.app import create_app
from stems.tracks.rate import Rate

OPEN = Settings.from_env({})
TOLD = Settings.from_env({"STEMS_TOKENS_FILE": "none"})


def test_a_token_is_known_by_its_hash(tmp_path: Path) -> None:
    secret, made = tokens.new("ann", Role.WRITE)
    assert made.line == f"ann write {hashlib.sha256(secret.encode()).hexdigest()}"
    (tmp_path / "tokens").write_text(f"\n# people\n{made.line}\n")
    known = Tokens(tmp_path / "tokens")
    assert known.find(secret) == made
    assert known.find(secret + "x") is None
    assert known.find("") is None
    assert secret not in repr(known.find(secret))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("ann", "line 1: must be a name, a role and a SHA-256"),
        ("an/n read " + "0" * 64, "line 1: must be a name"),
        ("ann owner " + "0" * 64, "'owner' must be read, write or admin"),
        ("ann read " + "0" * 63, "64 digits"),
        (f"ann read {'0' * 64}\nann read {'1' * 64}", "line 2: ann stands there already"),
    ],
)
def test_a_file_of_no_tokens_is_refused_at_the_start(tmp_path: Path, line: str, complaint: str) -> None:
    (tmp_path / "tokens").write_text(line)
    with pytest.raises(ConfigError, match=f"STEMS_TOKENS_FILE=.*{complaint}"):
        Tokens(tmp_path / "tokens")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        Tokens(tmp_path / "tokens")


@pytest.mark.parametrize("address", [("127.0.0.1", 8080), ("::1", 8080), ("localhost", 80), "/run/tracks.sock"])
def test_open_on_loopback(address: object) -> None:
    gate.refuse_open(OPEN, [address])


@pytest.mark.parametrize(
    "address", [("0.0.0.0", 8080), ("::", 8080), ("", 8080), 3, ("10.1.2.3", 80), ("example.com", 80)]
)
def test_open_elsewhere_only_when_said(address: object) -> None:
    with pytest.raises(ConfigError, match="STEMS_TOKENS_FILE=none"):
        gate.refuse_open(OPEN, [("127.0.0.1", 80), address])
    gate.refuse_open(TOLD, [address])


@pytest.mark.parametrize("environ", [{}, {"STEMS_TOKENS_FILE": "none"}])
def test_without_tokens_no_page_of_just_any_site_may(environ: dict[str, str]) -> None:
    loopback = [("127.0.0.1", 8080)]
    with pytest.raises(ConfigError, match=r"STEMS_CORS_ORIGINS=\*: .* STEMS_TOKENS_FILE"):
        gate.refuse_open(Settings.from_env({**environ, "STEMS_CORS_ORIGINS": "https://a.example *"}), loopback)
    gate.refuse_open(Settings.from_env({**environ, "STEMS_CORS_ORIGINS": "https://a.example"}), loopback)
    gate.refuse_open(Settings.from_env({"STEMS_TOKENS_FILE": "tokens", "STEMS_CORS_ORIGINS": "*"}), loopback)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((host, 200) for host in ("localhost", "LOCALHOST:9", "a.localhost", "127.0.0.1:8080", "[::1]:8080")),
        *((host, 200) for host in ("tracks:8080", "Stems.LAN", "10.1.2.3")),
        *((host, 403) for host in ("rebound.example", "localhost.rebound.example", "x.tracks", "10.1.2.4", "[::1", "")),
    ],
)
def test_without_tokens_it_answers_to_known_names_alone(host: str, status: int) -> None:
    environ = {"STEMS_S3_ACCESS_KEY": "a", "STEMS_S3_SECRET_KEY": "b", "STEMS_TOKENS_FILE": "none"}
    client = create_app(Settings.from_env({**environ, "STEMS_HOSTS": "Tracks stems.lan, 10.1.2.3"})).test_client()
    answer = client.get("/v1/session", headers={"Host": host})
    assert answer.status_code == status
    if status == 403:
        assert f"Host={host}: " in answer.get_json()["detail"]
        assert "STEMS_HOSTS" in answer.get_json()["detail"]


def test_a_rate() -> None:
    now = 0.0
    rate = Rate(10, lambda: now)
    assert [rate.wait_s("a") for _ in range(51)] == [0] * 50 + [1]
    assert rate.wait_s("b") == 0
    now = 0.25
    assert [rate.wait_s("a") for _ in range(3)] == [0, 0, 1]
    now = 1000
    assert [rate.wait_s("a") for _ in range(51)] == [0] * 50 + [1]


def test_a_rate_forgets_who_has_not_come_for_long() -> None:
    rate = Rate(1, lambda: 0.0)
    for number in range(30_000):
        assert rate.wait_s(str(number)) == 0
    assert len(rate._left) == 10_000


def test_no_rate() -> None:
    assert not any(Rate(0).wait_s("a") for _ in range(10_000))


def test_more_than_the_rate_is_refused() -> None:
    environ = {"STEMS_S3_ACCESS_KEY": "a", "STEMS_S3_SECRET_KEY": "b", "STEMS_RATE_PER_S": "0.01"}
    client = create_app(Settings.from_env(environ)).test_client()
    assert client.get("/docs").status_code == 200
    for path in ("/docs", "/nothing", "/v1/queue"):
        refused = client.get(path)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 100
    assert client.get("/health/live").status_code == 200
    assert client.get("/docs", environ_base={"REMOTE_ADDR": "127.0.0.2"}).status_code == 200  # another client


@pytest.mark.parametrize(("proxies", "counted"), [("0", None), ("1", "2.2.2.2"), ("2", "1.1.1.1"), ("4", None)])
def test_whose_requests_are_counted_behind_proxies(proxies: str, counted: str | None) -> None:
    environ = {"STEMS_S3_ACCESS_KEY": "a", "STEMS_S3_SECRET_KEY": "b", "STEMS_RATE_PER_S": "0.01"}
    client = create_app(Settings.from_env({**environ, "STEMS_PROXIES": proxies})).test_client()

    def ask(*forwarded: str) -> int:
        return client.get("/docs", headers={"X-Forwarded-For": ", ".join(forwarded)}).status_code

    addresses = ["6.6.6.6", "1.1.1.1", "2.2.2.2"]
    assert ask(*addresses) == 200
    for number, address in enumerate(addresses):
        others = [*addresses[:number], "9.9.9.9", *addresses[number + 1 :]]
        assert ask(*others) == (200 if address == counted else 429), f"{address} counts, and nothing that is before it"
