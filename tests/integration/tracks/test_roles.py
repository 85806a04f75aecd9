"""Who may do what: each route of the README's table is tried with each role, and with none."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import urllib3

from stems import tokens
from stems.cli.rest import Rest
from stems.config import Settings
from stems.tokens import Role
from stems.tracks.app import create_app
from tests.cli import alone, run
from tests.integration.tracks.conftest import Guarded
from tests.programs import CHECKOUT
from tests.servers import free_port, until
from tests.tracks_stack import CONFIG, SONG, Stack, problem

README = (CHECKOUT / "functions" / "stems" / "tracks" / "README.md").read_text()
ROLES = ("none", "read", "write", "admin")
ROWS = dict(re.findall(r"^\| `?(none|read|write|admin)`? \| (.*) \|$", README, re.MULTILINE))
ROUTES = [(role, *route.split()) for role in ROLES for route in re.findall(r"`(\w+ /[^`]*)`", ROWS[role])]
NOBODY = "f" * 64


def _address(rule: str) -> str:
    """Return an address of this form behind which there is nothing."""
    for name, value in {"songhash": NOBODY, "job": "f" * 32, "track": "vocals", "name": "vocals"}.items():
        rule = rule.replace(f"<{name}>", value)
    return rule.replace("<digest>", "0")


def test_the_table_has_each_route_there_is() -> None:
    app = create_app(Settings.from_env({"STEMS_S3_ACCESS_KEY": "a", "STEMS_S3_SECRET_KEY": "b"}))
    there = {
        (method, re.sub(r"<\w+:", "<", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(method, rule) for _, method, rule in ROUTES} == there
    assert len(ROUTES) == len(there)


@pytest.mark.parametrize("asking", ROLES)
@pytest.mark.parametrize(("needed", "method", "rule"), ROUTES)
def test_each_role_may_what_the_table_says(guarded: Guarded, needed: str, method: str, rule: str, asking: str) -> None:
    pool = urllib3.HTTPConnectionPool("127.0.0.1", guarded.stack.ports["tracks"], timeout=20)
    response = pool.request(
        method, _address(rule), headers=guarded.bearer(asking), preload_content=False, redirect=False, retries=False
    )
    allowed = ROLES.index(asking) >= ROLES.index(needed)
    assert (response.status not in (401, 403)) == allowed, response.read()
    if not allowed:
        assert response.status == (401 if asking == "none" else 403)
        assert response.headers["Content-Type"] == "application/problem+json"
        if asking == "none":
            assert response.headers["WWW-Authenticate"] == "Bearer realm=stems"
    response.close()  # of the events there is no end
    pool.close()


def test_what_is_sent_as_a_token(guarded: Guarded) -> None:
    ask, secret = guarded.stack.get, guarded.tokens["read"]
    basic = urllib3.make_headers(basic_auth=f"anybody:{secret}")
    for headers in (guarded.bearer("read"), basic, {"Cookie": f"stems_token={secret}"}):
        assert ask("/v1/session", headers).json() == {"name": "the-reader", "role": "read"}
    wrong = [f"Bearer {secret}x", f"Bearer {secret[:-1]}", "Bearer", "Bearer ", "Basic ???", f"Digest {secret}", "é"]
    for each in wrong:
        problem(ask("/v1/queue", {"Authorization": each.encode("latin-1")}), 401, "a token is needed")  # type: ignore[dict-item]
    # Nor by the hash that the file has, nor in an address, which logs keep.
    digest = tokens.parse(Path(guarded.stack.environ["STEMS_TOKENS_FILE"]).read_text())[0].digest
    problem(ask("/v1/queue", {"Authorization": f"Bearer {digest}"}), 401)
    problem(ask(f"/v1/queue?token={secret}"), 401)


def test_a_session_of_a_browser(guarded: Guarded) -> None:
    stack, secret = guarded.stack, guarded.tokens["write"]
    problem(stack.send("POST", "/v1/session", {"token": "stems_wrong"}), 401, "not known")
    problem(stack.send("POST", "/v1/session", {"token": "x" * 200}), 401, "not known")
    problem(stack.send("POST", "/v1/session", {"token": "x" * 201}), 400, "token=xxx", "200")
    begun = stack.send("POST", "/v1/session", {"token": secret})
    assert begun.status == 204
    cookie = begun.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert "Max-Age" not in cookie
    headers = {"Cookie": cookie.split(";")[0]}
    assert stack.get("/v1/session", headers).json()["role"] == "write"
    assert stack.get(f"/v1/tracks/{NOBODY}/stems.zip", headers).status == 404
    over_tls = stack.send("POST", "/v1/session", {"token": secret}, **{"X-Forwarded-Proto": "https"})
    assert "Secure" in over_tls.headers["Set-Cookie"]
    ended = stack.send("DELETE", "/v1/session", **headers)
    assert ended.status == 204
    assert "Max-Age=0" in ended.headers["Set-Cookie"]


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}])
def test_other_sites_change_nothing_with_the_rights_of_their_visitor(guarded: Guarded, headers: dict[str, str]) -> None:
    stack = guarded.stack
    given = {**guarded.bearer("admin"), **headers}
    problem(stack.send("DELETE", f"/v1/tracks/{NOBODY}", **given), 403, "pages of other sites")
    problem(stack.get(f"/apiv1/remove/{NOBODY}/vocals", given), 403, "pages of other sites")
    own = {**guarded.bearer("admin"), "Sec-Fetch-Site": "same-origin", "Origin": stack.url}
    assert stack.send("DELETE", f"/v1/tracks/{NOBODY}", **own).status == 404
    listed = {**guarded.bearer("admin"), "Sec-Fetch-Site": "cross-site", "Origin": "https://player.example"}
    assert stack.send("DELETE", f"/v1/tracks/{NOBODY}", **listed).status == 404


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://player.example"}, {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"}],
)
def test_what_a_browser_sends_by_itself_counts_for_our_page_alone(guarded: Guarded, headers: dict[str, str]) -> None:
    stack, secret = guarded.stack, guarded.tokens["admin"]
    for own in ({"Cookie": f"stems_token={secret}"}, urllib3.make_headers(basic_auth=f"ann:{secret}")):
        assert stack.send("DELETE", f"/v1/tracks/{NOBODY}", **own).status == 404
        problem(stack.send("DELETE", f"/v1/tracks/{NOBODY}", **own, **headers), 401, "Bearer")
        problem(stack.get("/v1/queue", {**own, **headers}), 401, "Bearer")


def test_no_link_and_no_image_removes_a_stem(guarded: Guarded) -> None:
    stack, secret, path = guarded.stack, guarded.tokens["admin"], f"/apiv1/remove/{NOBODY}/vocals"
    for own in ({"Cookie": f"stems_token={secret}"}, urllib3.make_headers(basic_auth=f"ann:{secret}")):
        problem(stack.get(path, {**own, "Accept": "image/webp,*/*"}), 403, "GET", "Bearer", "DELETE")
        assert stack.get(path, {**own, "Content-Type": "application/json"}).status == 404, "as the lab's clients do"
        assert stack.get(path, own, method="DELETE").status == 404
    assert stack.get(path, guarded.bearer("admin")).status == 404
    asked = stack.get(path, method="OPTIONS")
    assert asked.status == 200
    assert {"GET", "DELETE"} <= set(asked.headers["Allow"].split(", "))


def test_pages_of_listed_sites_may_read(guarded: Guarded) -> None:
    stack, ours = guarded.stack, {"Origin": "https://player.example"}
    asked = stack.get("/v1/tracks", {**ours, "Access-Control-Request-Method": "POST"}, method="OPTIONS")
    assert asked.status == 200
    assert asked.headers["Access-Control-Allow-Origin"] == "https://player.example"
    assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    # Refused, and still to be read: a script must see why.
    answer = stack.get("/v1/queue", ours)
    assert answer.status == 401
    assert answer.headers["Access-Control-Allow-Origin"] == "https://player.example"
    assert "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers
    for origin in ("https://evil.example", "https://player.example.evil.example", "null"):
        assert "Access-Control-Allow-Origin" not in stack.get("/v1/queue", {"Origin": origin}).headers


def test_every_answer_says_what_browsers_may_do_with_it(guarded: Guarded) -> None:
    track = guarded.stack.put(1, vocals_mp3=SONG)
    pages = {"Accept": "text/html", **guarded.bearer("read")}
    for path in ("/", "/docs", "/v1/queue", f"/v1/tracks/{track.songhash}/vocals.mp3", "/nothing", "/health/live"):
        headers = guarded.stack.get(path, pages).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_a_body_that_is_no_song_is_short(guarded: Guarded) -> None:
    long = b'{"name": "' + b"x" * (1 << 16) + b'"}'
    # The rest of it is not read, and the connection closed: no other request may go that way.
    headers = {**guarded.bearer("write"), "Content-Type": "application/json", "Connection": "close"}
    problem(guarded.stack.send("POST", "/v1/uploads", long, **headers), 413)


def test_tokens_come_and_go_without_a_restart(guarded: Guarded) -> None:
    file = Path(guarded.stack.environ["STEMS_TOKENS_FILE"])
    before = file.read_text()
    secret, token = tokens.new("new", Role.READ)
    headers = {"Authorization": f"Bearer {secret}"}
    try:
        problem(guarded.stack.get("/v1/queue", headers), 401)
        file.write_text(f"{before}{token.line}\n")
        assert guarded.stack.get("/v1/queue", headers).status == 200
        for text in (b"nonsense\n", "# für alle\n".encode("latin-1")):
            file.write_bytes(text)
            assert guarded.stack.get("/v1/queue", headers).status == 200
        until(lambda: "the tokens stay as they were" in (guarded.stack.folder / "tracks.log").read_text())
        file.unlink()
        assert guarded.stack.get("/v1/queue", headers).status == 200
        file.write_text(before)
        problem(guarded.stack.get("/v1/queue", headers), 401)
    finally:
        file.write_text(before)


def test_the_command_line_has_a_token(guarded: Guarded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    alone(monkeypatch, tmp_path)
    monkeypatch.setenv("STEMS_URL", guarded.stack.url)
    assert "a token is needed" in run("tracks", code=1).output
    monkeypatch.setenv("STEMS_TOKEN", guarded.tokens["read"])
    run("tracks")


def test_a_password_in_the_address_is_sent_and_not_shown(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone(monkeypatch, tmp_path)
    place = guarded.stack.url.removeprefix("http://")
    monkeypatch.setenv("STEMS_URL", f"http://anybody:{guarded.tokens['read']}@{place}")
    run("tracks")
    for address in (f"http://anybody:hunter2@{place}", f"http://anybody:hunter2@127.0.0.1:{free_port()}"):
        monkeypatch.setenv("STEMS_URL", address)
        failed = run("tracks", code=1)
        assert "127.0.0.1" in failed.output or "a token is needed" in failed.output
        assert "hunter2" not in failed.output


def test_a_token_goes_to_the_function_alone() -> None:
    rest = Rest("http://127.0.0.1:1", "stems_x")
    assert rest._target("v1/queue")[1]
    for address in ("http://127.0.0.1:10/v1/queue", "http://elsewhere/", "//elsewhere/v1", "http://127.0.0.1:1@evil/"):
        assert not rest._target(address)[1]
    rest.close()


def test_a_made_token_is_one_that_the_function_takes(guarded: Guarded) -> None:
    made = run("token", "new", "bob", "--role", "write")
    file = Path(guarded.stack.environ["STEMS_TOKENS_FILE"])
    before, secret = file.read_text(), made.stderr.split()[-1]
    file.write_text(before + made.stdout)
    try:
        answer = guarded.stack.get("/v1/session", {"Authorization": f"Bearer {secret}"})
        assert answer.json() == {"name": "bob", "role": "write"}
    finally:
        file.write_text(before)
    assert secret not in made.stdout
    assert "a token: 1 to 64 letters" in run("token", "new", "b b", code=1).output


def test_it_does_not_start_open_to_a_network(stack: Stack) -> None:
    command = [sys.executable, "-m", "gunicorn", "--config", str(CONFIG), "stems.tracks.app:create_app()"]
    environ = {**os.environ, **stack.environ, "PORT": str(free_port()), "PYTHONPATH": str(CHECKOUT / "functions")}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Error: without STEMS_TOKENS_FILE everybody who reaches 0.0.0.0 could do everything" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_tokens_it_serves_localhost_alone(stack: Stack) -> None:
    assert stack.get("/v1/queue").status == 200
    assert stack.get("/v1/queue", {"Host": "localhost:8080"}).status == 200
    problem(stack.get("/v1/queue", {"Host": "rebound.example"}), 403, "rebound.example", "STEMS_HOSTS")
    problem(stack.get(f"/apiv1/remove/{NOBODY}/vocals"), 403, "no link")
    problem(stack.send("POST", "/apiv1/separate", {}, Origin="https://evil.example"), 403, "evil.example")
    assert stack.get("/v1/session").json() == {"name": "anybody", "role": "admin"}
