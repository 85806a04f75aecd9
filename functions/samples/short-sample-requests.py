#!/usr/bin/env python3
"""Separate one small song on a laptop: `make up` in one terminal, this in another. Needs nothing but Python.

    functions/samples/short-sample-requests.py                 the song that comes with the project
    functions/samples/short-sample-requests.py my-song.mp3
    STEMS_URL=http://127.0.0.1:8080 functions/samples/short-sample-requests.py

It asks the classic API as the lab's own client does, waits, and writes the stems to `stems-out/<song>/`.
"""

import base64
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

URL = os.environ.get("STEMS_URL", "http://127.0.0.1:8080")
TOKEN = os.environ.get("STEMS_TOKEN", "")
SONG = Path(__file__).resolve().parents[2] / "tests" / "data" / "song.mp3"
WAIT_S = 600


def ask(method: str, path: str, data: object = None) -> bytes:
    """Send a request and return the body of the answer. Raises HTTPError for anything but success."""
    body = None if data is None else json.dumps(data).encode()
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {TOKEN}"} if TOKEN else {})}
    request = urllib.request.Request(URL + path, body, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


def download(songhash: str, stem: str) -> bytes:
    """Wait until a stem is there, and return it."""
    for _ in range(WAIT_S):
        try:
            return ask("GET", f"/apiv1/track/{songhash}/{stem}.mp3")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
        time.sleep(1)
    sys.exit(f"{stem} is not there after {WAIT_S} s: `stems status` says why")


def main(song: Path) -> None:
    answer = json.loads(ask("POST", "/apiv1/separate", {"mp3": base64.b64encode(song.read_bytes()).decode()}))
    print(f"{song}: {answer['reason']}")
    print(f"the queue: {json.loads(ask('GET', '/apiv1/queue'))['queue']}")
    folder = Path("stems-out") / song.stem
    folder.mkdir(parents=True, exist_ok=True)
    for stem in ("vocals", "drums", "bass", "other"):
        (folder / f"{stem}.mp3").write_bytes(download(answer["hash"], stem))
        print(folder / f"{stem}.mp3")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else SONG)
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.url} answers {error.code}: {error.read().decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"{URL}: {error}; STEMS_URL says where the service is")
