"""The document of the API, its reference page, the models, and what stands at `/`."""

import re
from html.parser import HTMLParser

from stems import naming
from tests.programs import CHECKOUT
from tests.tracks_stack import SONG, Stack

README = (CHECKOUT / "functions" / "stems" / "tracks" / "README.md").read_text()


def test_the_document_is_openapi_3_1_and_has_every_route(stack: Stack) -> None:
    answer = stack.get("/v1/openapi.json")
    document = answer.json()
    assert document["openapi"] == "3.1.0"
    found = {f"{method.upper()} {path}" for path, each in document["paths"].items() for method in each}
    found -= {f"PARAMETERS {path}" for path in document["paths"]}
    assert found == {
        "GET /v1/tracks",
        "POST /v1/tracks",
        "GET /v1/tracks/{songhash}",
        "DELETE /v1/tracks/{songhash}",
        "POST /v1/tracks/{songhash}/rerun",
        "GET /v1/tracks/{songhash}/{name}",
        "GET /v1/tracks/{songhash}/stems.zip",
        "GET /v1/tracks/{songhash}/peaks.json",
        "POST /v1/uploads",
        "GET /v1/queue",
        "GET /v1/jobs/{job}",
        "DELETE /v1/jobs/{job}",
        "POST /v1/jobs/{job}/retry",
        "GET /v1/events",
        "GET /v1/models",
        "GET /v1/session",
        "POST /v1/session",
        "DELETE /v1/session",
    }
    assert stack.get("/v1/openapi.json", {"If-None-Match": answer.headers["ETag"]}).status == 304
    routes = stack.get("/").json()["routes"]
    assert found < routes.keys()


def test_every_route_is_in_the_readme(stack: Stack) -> None:
    for path, methods in stack.get("/v1/openapi.json").json()["paths"].items():
        shown = path.replace("{", "<").replace("}", ">").replace("<name>", "<stem>")
        for method in methods.keys() - {"parameters"}:
            row = rf"^\| `{method.upper()} {re.escape(shown)}(\[|\?|`)"
            assert re.search(row, README, re.MULTILINE), f"{method} {shown}"


class Links(HTMLParser):
    """Every address that a page names, and every id that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in {"href", "src", "action"}:
                self.addresses.append(value or "")
            elif name == "id":
                self.ids.append(value or "")


def test_the_reference_page_loads_nothing(stack: Stack) -> None:
    answer = stack.get("/docs")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    page = Links(answer.data.decode())
    assert not page.tags & {"script", "link", "img", "iframe", "form"}
    assert len(page.ids) == len(set(page.ids)) > 30
    # Addresses within the page exist, and the only other one is the document.
    assert {address for address in page.addresses if not address.startswith("#")} == {"/v1/openapi.json"}
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    for text in ("DELETE /v1/jobs/{job}", "How the name begins", "estimate_s"):
        assert text in answer.data.decode()
    assert stack.get("/docs", {"If-None-Match": answer.headers["ETag"]}).status == 304


def test_programs_get_the_routes_and_browsers_the_page(stack: Stack) -> None:
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    for accept in (None, "*/*", "application/json"):
        answer = stack.get("/", {"Accept": accept} if accept else None)
        assert (answer.json()["name"], answer.headers["Vary"]) == ("stems", "Accept")
    answer = stack.get("/", {"Accept": browser})
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert stack.get("/static/../app.py").status == stack.get("/static/%2e%2e/app.py").status == 404


def test_models_are_those_of_the_records_and_the_default(empty: Stack) -> None:
    found = empty.get("/v1/models").json()
    assert (found["default"], found["models"]) == ("demo", [{"name": "demo", "sources": [], "note": ""}])
    for track in (empty.put(1, vocals_mp3=SONG), empty.put(2, drums_mp3=SONG)):
        empty.index.add(track)
    known = {"name": "htdemucs", "sources": ["drums", "vocals"], "note": ""}
    for _ in range(2):
        assert empty.get("/v1/models").json()["models"][1] == known
        empty.redis.delete(naming.MODELS, naming.TRACKS_COMPLETE)  # Redis has lost it
    empty.index.announce("mine", ["vocals", "rest"], "for trying")
    models = empty.get("/v1/models").json()
    assert (models["default"], [each["name"] for each in models["models"]]) == ("mine", ["htdemucs", "mine"])
