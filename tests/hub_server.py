"""A hub on this machine: as much of its protocol as `huggingface_hub` needs to fetch repositories."""

import hashlib
import json

from http_server import serving


class HubServer:
    """Serves the files of `repositories`, {organisation/name: folder}, each at the one commit `revision`."""

    def __init__(self, revision):
        self.repositories, self.revision = {}, revision
        self.http, self.url = serving(self.answer)

    def answer(self, request):
        parts = request.path.split("?")[0].strip("/").split("/")
        of_api = parts[:2] == ["api", "models"]
        repo = "/".join(parts[2:4] if of_api else parts[:2])
        folder, body, error = self.repositories.get(repo), None, "RepoNotFound"
        if folder and of_api and "tree" in parts:
            files = [path for path in sorted(folder.iterdir()) if path.is_file()]
            tree = [{"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0" * 40} for path in files]
            body = json.dumps(tree).encode()
        elif folder and of_api:
            names = [{"rfilename": path.name} for path in sorted(folder.iterdir())]
            body = json.dumps({"id": repo, "sha": self.revision, "siblings": names, "private": False}).encode()
        elif folder and parts[3] not in ("main", self.revision):
            error = "RevisionNotFound"
        elif folder:
            error = "EntryNotFound"
            body = (folder / parts[4]).read_bytes() if (folder / parts[4]).is_file() else None
        request.send_response(404 if body is None else 200)
        if body is None:
            request.send_header("X-Error-Code", error)
        request.send_header("X-Repo-Commit", self.revision)
        request.send_header("ETag", f'"{hashlib.sha256(body or b"").hexdigest()}"')
        request.send_header("Content-Length", str(len(body or b"")))
        request.end_headers()
        if request.command == "GET" and body:
            request.wfile.write(body)
