"""How the page and its files are served."""

import re

import pytest

from tests.tracks_stack import Stack, problem

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def files(stack: Stack) -> list[str]:
    page = stack.get("/", BROWSER).data.decode()
    return re.findall(r'"(/static/[^"]+)"', page)


def test_browsers_get_a_page_and_programs_json(stack: Stack) -> None:
    page = stack.get("/", BROWSER)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.data.startswith(b"<!doctype html>")
    for accept in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        answer = stack.get("/", accept)
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Vary"] == page.headers["Vary"] == "Accept"


def test_the_page_loads_nothing_inline_and_nothing_from_elsewhere(stack: Stack) -> None:
    page = stack.get("/", BROWSER)
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["connect-src"] == f"'self' {stack.environ['STEMS_S3_PUBLIC_ENDPOINT']}"
    assert not re.search(rb"https?://|<style|style=|onclick=", page.data)


def test_the_page_is_asked_for_anew_and_its_files_are_kept(stack: Stack) -> None:
    page = stack.get("/", BROWSER)
    assert page.headers["Cache-Control"] == "no-cache"
    assert stack.get("/", {**BROWSER, "If-None-Match": page.headers["ETag"]}).status == 304
    names = files(stack)
    assert len(names) >= 4
    for name in names:
        answer = stack.get(name)
        assert answer.status == 200
        assert "immutable" in answer.headers["Cache-Control"]
        assert f"max-age={365 * 24 * 3600}" in answer.headers["Cache-Control"]


def test_every_module_that_is_imported_is_served_as_a_module(stack: Stack) -> None:
    waiting, seen = [name for name in files(stack) if name.endswith(".js")], set()
    while waiting:
        name = waiting.pop()
        answer = stack.get(name)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/javascript; charset=utf-8"), name
        seen.add(name)
        for imported in re.findall(r'from "(\.{1,2}/[^"]+)"', answer.data.decode()):
            folder = name.rsplit("/", 1)[0] if imported.startswith("./") else name.rsplit("/", 2)[0]
            path = f"{folder}/{imported.lstrip('./')}"
            if path not in seen:
                waiting.append(path)
    assert len(seen) > 15


@pytest.mark.parametrize("name", ["main.js", "../page.py", "..%2fpage.py", "audio", "index.html"])
def test_files_that_are_not_the_page_s_are_not_served(stack: Stack, name: str) -> None:
    digest = files(stack)[0].split("/")[2]
    wrong = "0" * 16 if name == "main.js" else digest
    problem(stack.get(f"/static/{wrong}/{name}"), 404)
