#!/usr/bin/env python3
"""Send a folder of songs to a cluster by the classic API, all at once, and tell of each when it is done.

    kubectl -n kourier-system port-forward svc/kourier 8080:80 &       or any other way to the function `tracks`
    functions/samples/sample-requests.py --host tracks.stems.example.com ~/Music/album
    functions/samples/sample-requests.py --url https://stems.example.com --model htdemucs --get stems-out ~/Music/album

With --callback URL the service posts `{"song": …}` there when a song ends. Needs nothing but Python.
"""

import argparse
import base64
import concurrent.futures
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

SUFFIXES = {".mp3", ".wav", ".flac", ".ogg", ".m4a", ".opus", ".aac"}
STEMS = ("vocals", "drums", "bass", "other")
BUSY = {429, 502, 503, 504}  # of a function that is being started, or has much to do


class Service:
    """The classic API behind an address; `host`: the name it is to be asked for, where the address has another."""

    def __init__(self, url: str, host: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json", **({"Host": host} if host else {})}
        if token := os.environ.get("STEMS_TOKEN"):
            self._headers["Authorization"] = f"Bearer {token}"

    def ask(self, method: str, path: str, data: object = None, missing: int = 0) -> bytes | None:
        """Send a request and return the body of the answer; None for the status `missing`. Raises OSError."""
        body = None if data is None else json.dumps(data).encode()
        for wait_s in (1, 2, 4, 8, 16, 0):
            request = urllib.request.Request(self._url + path, body, self._headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=300) as answer:
                    return bytes(answer.read())
            except urllib.error.HTTPError as error:
                if error.code == missing:
                    return None
                if error.code not in BUSY or not wait_s:
                    raise OSError(f"{error.code}: {error.read().decode(errors='replace').strip()}") from error
            time.sleep(wait_s)
        raise AssertionError("the last of the answers is returned or raised")

    def send(self, song: Path, model: str, callback: str) -> str:
        """Have a song separated; return its hash."""
        data: dict[str, object] = {"mp3": base64.b64encode(song.read_bytes()).decode()}
        if model:
            data["model"] = model
        if callback:
            data["callback"] = {"url": callback, "data": {"song": song.name}}
        answer = json.loads(self.ask("POST", "/apiv1/separate", data) or b"")
        print(f"{song.name}: {answer['reason']}", flush=True)
        return str(answer["hash"])

    def queue(self) -> list[str]:
        """Return the hashes of the songs that wait or run."""
        return list(json.loads(self.ask("GET", "/apiv1/queue") or b"")["queue"])

    def stem(self, songhash: str, stem: str) -> bytes | None:
        """Return a stem, None while it is not there."""
        return self.ask("GET", f"/apiv1/track/{songhash}/{stem}.mp3", missing=404)


def download(service: Service, songhash: str, folder: Path) -> None:
    """Write the stems of a song to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem in STEMS:
        (folder / f"{stem}.mp3").write_bytes(service.stem(songhash, stem) or b"")


def follow(service: Service, sent: dict[Path, str], folder: Path | None, limit_s: float) -> list[Path]:
    """Wait for all songs and download them to `folder`, if there is one. Return those that did not come."""
    waiting, began = dict(sent), time.monotonic()
    while waiting and time.monotonic() - began < limit_s:
        for song, songhash in list(waiting.items()):
            if service.stem(songhash, STEMS[0]) is None:
                continue
            del waiting[song]
            print(f"{song.name}: separated, {time.monotonic() - began:.0f} s after all were sent", flush=True)
            if folder:
                download(service, songhash, folder / song.stem)
        time.sleep(1)
    return list(waiting)


def main() -> int:
    parser = argparse.ArgumentParser(description="Send a folder of songs to a cluster by the classic API.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", default=os.environ.get("STEMS_URL", "http://127.0.0.1:8080"))
    parser.add_argument("--host", default="", help="the name of the service, where --url has another")
    parser.add_argument("--model", default="")
    parser.add_argument("--callback", default="", metavar="URL")
    parser.add_argument("--get", type=Path, metavar="DIR", help="download the stems to DIR/<song>/")
    parser.add_argument("--at-a-time", type=int, default=4, metavar="N", help="songs sent at a time")
    parser.add_argument("--wait", type=float, default=3600, metavar="SECONDS")
    given = parser.parse_args()
    songs = sorted(path for path in given.folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not songs:
        sys.exit(f"{given.folder}: no songs here ({' '.join(sorted(SUFFIXES))})")
    service = Service(given.url, given.host)
    with concurrent.futures.ThreadPoolExecutor(given.at_a_time) as pool:
        hashes = list(pool.map(lambda song: service.send(song, given.model, given.callback), songs))
    print(f"{len(songs)} songs sent, {len(service.queue())} wait or run", flush=True)
    missing = follow(service, dict(zip(songs, hashes, strict=True)), given.get, given.wait)
    for song in missing:
        print(f"{song.name}: not there after {given.wait:g} s; `stems status` says why", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:
        sys.exit(str(error))
