"""The live page served on a free port, and a plain client of it, which asks no other server for anything."""

import json
import socket
from contextlib import contextmanager

import pytest
import requests

from attention_collapse.live import serve


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Client:
    """What a browser asks of the server: it uploads a file, sends the three inputs, and reads the answer."""

    def __init__(self, url, asked):
        self.url, self.asked = url, asked

    def get(self, path="/"):
        return requests.get(self.url + path, timeout=60)

    def upload(self, name, content):
        files = {"files": (name, content)}
        return requests.post(f"{self.url}/gradio_api/upload", files=files, timeout=60)

    def look(self, path, caption, contributions=False):
        """The answer to a file that was uploaded; an event that is no completion is returned whole."""
        file = None if path is None else {"path": path, "meta": {"_type": "gradio.FileData"}}
        call = f"{self.url}/gradio_api/call/look"
        sent = requests.post(call, json={"data": [file, caption, contributions]}, timeout=60)
        if not sent.ok:
            return sent.text
        told = requests.get(f"{call}/{sent.json()['event_id']}", timeout=120).text
        done = [part for part in told.split("\n\n") if part.startswith("event: complete")]
        return json.loads(done[0].partition("data: ")[2])[0] if done else told

    def look_at(self, file, caption, contributions=False):
        """The same of a file of this machine."""
        return self.look(self.upload(file.name, file.read_bytes()).json()[0], caption, contributions)


@contextmanager
def served(*given, **options):
    """A client of the live page; `asked` lists every host name that was looked up meanwhile."""
    asked, look_up = [], socket.getaddrinfo

    def recorded(host, *rest, **more):
        asked.append(host)
        if host not in ("127.0.0.1", "localhost", None):
            raise OSError(f"{host} was asked for")
        return look_up(host, *rest, **more)

    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", recorded)
        app = serve(*given, port=port, block=False, **options)
        try:
            yield Client(f"http://127.0.0.1:{port}", asked)
        finally:
            app.close(verbose=False)
