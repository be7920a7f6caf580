"""A real HTTP server on this machine, with faults to order."""

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from conftest import coco_folder


def serving(answer):
    """A server, and its address, that gives every request to a function."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_GET(self):
            answer(self)

        do_HEAD = do_GET  # noqa: N815 — http.server names them

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    return http, f"http://127.0.0.1:{http.server_address[1]}"


class Server:
    """Serves `files`. `faults[path]` lists what to do first: a status, or cut after so many bytes."""

    def __init__(self):
        self.files, self.faults, self.requests, self.delay = {}, {}, [], 0.0
        self.http, self.url = serving(self.answer)

    def answer(self, request):
        self.requests.append((request.path, request.headers.get("Range")))
        fault = self.faults.get(request.path, [])
        fault = fault.pop(0) if fault else None
        body = self.files.get(request.path)
        status = 404 if body is None else fault if fault and fault >= 400 and fault < 600 else 200
        etag = f'"{hashlib.sha256(body or b"").hexdigest()[:16]}"'
        fresh = request.headers.get("If-Range") in (None, etag)  # another version is sent whole
        start = (
            int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if request.headers.get("Range") and fresh
            else 0
        )
        if status == 200 and start:
            status = 206 if start < len(body) else 416
        payload = body[start:] if status in (200, 206) else b""
        request.send_response(status)
        request.send_header("Content-Length", str(len(payload)))
        request.send_header("ETag", etag)
        request.end_headers()
        cut = fault if fault and fault >= 600 else len(payload)
        for i in range(0, min(cut, len(payload)), 65536):
            request.wfile.write(payload[i : min(i + 65536, cut)])
            time.sleep(self.delay)
        if cut < len(payload):
            request.close_connection = True
            request.wfile.flush()
            request.connection.shutdown(2)


def serve_coco(server, root, n=5):
    coco_folder(root, n=n, url=server.url)
    for path in (root / "val2017").iterdir():
        server.files[f"/val2017/{path.name}"] = path.read_bytes()
    return root / "annotations" / "captions_val2017.json"
