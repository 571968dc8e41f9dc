"""A small hub on this machine: as much of the Hugging Face hub's protocol as publishing and loading a model need."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_a_token_of_the_tests"


class Hub:
    """Repositories by name, each with its files; what they state of themselves may be made to lie.

    Attributes:
        repositories: Files by name, of each repository.
        private: Names of repositories that need the token.
        asked: Method and path of every request.
        stated: Hashes that are stated in place of the true ones, by filename.
        listed: Filenames that are listed beside those that exist.
        address: Of the server.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.asked: list[str] = []
        self.stated: dict[str, str] = {}
        self.listed: list[str] = []
        self.objects: dict[str, bytes] = {}
        self.address = ""

    def commit(self, repository: str) -> str:
        """The commit that a repository is at: a hash of its content."""
        files = sorted((name, hashlib.sha1(data).hexdigest()) for name, data in self.repositories[repository].items())
        return hashlib.sha1(json.dumps(files).encode()).hexdigest()

    def etag(self, name: str, data: bytes) -> str:
        """The hash that is stated of a file: SHA-256 of large ones, git's of others."""
        if name.endswith((".safetensors", ".onnx")):
            return self.stated.get(name) or hashlib.sha256(data).hexdigest()
        return self.stated.get(name) or hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def info(self, repository: str) -> dict[str, Any]:
        """What the hub says about a repository."""
        siblings: list[dict[str, Any]] = []
        for name, data in self.repositories[repository].items():
            each: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": self.etag(name, data)}
            if name.endswith((".safetensors", ".onnx")):
                each["lfs"] = {"sha256": self.etag(name, data), "size": len(data), "pointerSize": 134}
            siblings.append(each)
        siblings += [{"rfilename": name, "size": 1, "blobId": "0" * 40} for name in self.listed]
        return {
            "id": repository,
            "modelId": repository,
            "sha": self.commit(repository),
            "private": repository in self.private,
            "tags": ["visionkit"],
            "library_name": "visionkit",
            "pipeline_tag": "image-classification",
            "siblings": siblings,
        }


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _allowed(self, repository: str) -> bool:
        if repository in self.hub.repositories and (repository not in self.hub.private or self._known()):
            return True
        self._send(401, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        return False

    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        self.hub.asked.append(f"{self.command} {address.path}")
        parts = unquote(address.path).strip("/").split("/")
        if parts == ["api", "models"]:
            author = parse_qs(address.query).get("author", [""])[0]
            self._json([self.hub.info(name) for name in self.hub.repositories if name.startswith(f"{author}/")])
        elif parts[:2] == ["api", "models"]:
            repository = "/".join(parts[2:4])
            if self._allowed(repository):
                if parts[4:5] == ["revision"] and parts[5] not in ("main", self.hub.commit(repository)):
                    self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                else:
                    self._json(self.hub.info(repository))
        elif len(parts) > 4 and parts[2] == "resolve":
            repository, name = "/".join(parts[:2]), "/".join(parts[4:])
            if self._allowed(repository):
                data = self.hub.repositories[repository].get(name)
                if data is None:
                    self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                    return
                tag = f'"{self.hub.etag(name, data)}"'
                self._send(200, data, {"ETag": tag, "X-Repo-Commit": self.hub.commit(repository)})
        else:
            self._send(200 if not parts[0] else 404)

    def do_POST(self) -> None:
        address = urlsplit(self.path)
        self.hub.asked.append(f"POST {address.path}")
        parts, body = unquote(address.path).strip("/").split("/"), self._body()
        if parts == ["api", "validate-yaml"]:
            self._json({"errors": [], "warnings": []})
        elif not self._known():
            self._send(401, b'{"error": "Invalid username or password."}')
        elif parts == ["api", "repos", "create"]:
            wanted = json.loads(body)
            name = f"{wanted.get('organization') or 'user'}/{wanted['name']}"
            exists = name in self.hub.repositories
            self.hub.repositories.setdefault(name, {})
            if wanted.get("visibility") == "private" and not exists:
                self.hub.private.add(name)
            self._json({"url": f"{self.hub.address}/{name}"}, 409 if exists else 200)
        elif parts[4:5] == ["preupload"]:
            files = [each["path"] for each in json.loads(body)["files"]]
            modes = {name: "lfs" if name.endswith((".safetensors", ".onnx")) else "regular" for name in files}
            self._json({"files": [{"path": n, "uploadMode": m, "shouldIgnore": False} for n, m in modes.items()]})
        elif parts[-1] == "batch":
            objects = [
                {**each, "actions": {"upload": {"href": f"{self.hub.address}/lfs/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            self._json({"transfer": "basic", "objects": objects})
        elif parts[4:5] == ["commit"]:
            files = self.hub.repositories["/".join(parts[2:4])]
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.hub.objects[value["oid"]]
                elif line["key"] == "deletedFile":
                    del files[value["path"]]
            commit = self.hub.commit("/".join(parts[2:4]))
            self._json({"commitUrl": f"{self.hub.address}/{'/'.join(parts[2:4])}/commit/{commit}", "commitOid": commit})
        else:
            self._send(404)

    def do_PUT(self) -> None:
        oid = self.path.rpartition("/")[2]
        self.hub.objects[oid] = self._body()
        self._send(200)


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that responds while the block lasts."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
