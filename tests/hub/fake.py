"""A model hub on two real sockets, as Hugging Face's answers: one server knows repositories and redirects to another,
which has the content of large files and gives parts of it.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Files that end so lie on the other server.
LARGE = ".onnx"
TOKEN = "hf_a-token-of-the-tests"


@dataclass
class Asked:
    """One request."""

    path: str
    headers: dict[str, str]


@dataclass
class FakeHub:
    """What it has, how it misbehaves, and what it was asked."""

    #: By repository, revision and path.
    files: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    gated: bool = False
    #: It answers 503, whatever it is asked.
    down: bool = False
    #: Answers 429 so many times before it gives anything.
    busy: int = 0
    ranges: bool = True
    #: Bytes after which the next answer with content ends, once.
    cut: int | None = None
    #: What it says, and the storage gives, in the place of the truth.
    commit: str | None = None
    etag: str | None = None
    content: bytes | None = None
    endpoint: str = ""
    storage: str = ""
    asked: list[Asked] = field(default_factory=list)
    given: list[Asked] = field(default_factory=list)

    def put(self, repository: str, revision: str, path: str, content: bytes) -> None:
        self.files[repository, revision, path] = content

    def by_sum(self, digest: str) -> bytes:
        return next(content for content in self.files.values() if hashlib.sha256(content).hexdigest() == digest)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, format: str, *args: object) -> None:
        return

    def do_HEAD(self) -> None:
        self.do_GET()

    def tell(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.cut is not None and len(content) > self.hub.cut:
            content, self.hub.cut, self.close_connection = content[: self.hub.cut], None, True
        self.wfile.write(content)

    def give(self, content: bytes, **headers: str) -> None:
        """The content from where it was asked for."""
        asked = self.headers.get("Range", "")
        if not (asked and self.hub.ranges):
            self.tell(200, content, **headers)
            return
        begin = int(asked.removeprefix("bytes=").rstrip("-"))
        if begin >= len(content):
            self.tell(416, Content_Range=f"bytes */{len(content)}")
            return
        part = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        self.tell(206, content[begin:], Content_Range=part, **headers)


class _Repositories(_Handler):
    def do_GET(self) -> None:
        hub = self.hub
        if self.command == "GET":
            hub.asked.append(Asked(self.path, dict(self.headers)))
        repository, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, path = rest.partition("/")
        if hub.down:
            self.tell(503)
            return
        if hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.tell(401, b"Access to it is restricted", X_Error_Code="GatedRepo")
            return
        if hub.busy and self.command == "GET":
            hub.busy -= 1
            self.tell(429, Retry_After="0")
            return
        content = hub.files.get((repository, revision, path))
        if content is None:
            known = {(name, commit) for name, commit, _ in hub.files}
            code = "EntryNotFound" if (repository, revision) in known else "RevisionNotFound"
            self.tell(404, b"Entry not found", X_Error_Code=code)
            return
        commit = hub.commit or revision
        if not path.endswith(LARGE):
            blob = hashlib.sha1(b"blob %d\0%s" % (len(content), content), usedforsecurity=False).hexdigest()
            self.give(content, ETag=f'"{blob}"', X_Repo_Commit=commit)
            return
        digest = hashlib.sha256(content).hexdigest()
        self.tell(
            302,
            Location=f"{hub.storage}/{digest}?signature=1",
            X_Linked_Etag=f'"{hub.etag or digest}"',
            X_Linked_Size=str(len(content)),
            X_Repo_Commit=commit,
            Accept_Ranges="bytes",
        )


class _Storage(_Handler):
    def do_GET(self) -> None:
        self.hub.given.append(Asked(self.path, dict(self.headers)))
        content = self.hub.by_sum(self.path.strip("/").partition("?")[0])
        self.give(content if self.hub.content is None else self.hub.content, ETag='"another"')


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """The hub while it runs, on loopback."""
    hub = FakeHub()
    servers = []
    for kind in (_Repositories, _Storage):
        handler = type(kind.__name__, (kind,), {"hub": hub})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
    hub.endpoint, hub.storage = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
