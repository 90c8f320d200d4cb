"""A real server that speaks S3's protocol, and a proxy before it that breaks requests off."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_NOT_FORWARDED = frozenset({"connection", "transfer-encoding", "keep-alive", "date", "server"})
_ANSWERS = {
    503: b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>",
    403: b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
}

_used: list[str] = []

Verdict = int | str | None
"""What becomes of a request: a status, ``drop`` for no answer, ``cut`` in the middle of the answer,
``flip`` of a bit of what is sent, or nothing special."""


@dataclass
class ObjectStore:
    """A server, and what to do with it in a test.

    Attributes:
        url: Where it listens.
        seen: How many requests of each kind a proxy has let through or broken.
    """

    url: str
    seen: Counter[str] = field(default_factory=Counter)

    @cached_property
    def system(self):
        """A file system of fsspec of its own, with nothing remembered."""
        import s3fs

        return s3fs.S3FileSystem(
            key="testing", secret="testing", endpoint_url=self.url, skip_instance_cache=True,
            use_listings_cache=False,
        )  # fmt: skip

    def put(self, folder: Path, address: str) -> None:
        """Upload a folder, which makes the bucket."""
        system = self.system
        bucket = address.split("://")[1].split("/")[0]
        if not system.exists(bucket):
            system.call_s3("create_bucket", Bucket=bucket)
        system.put(str(folder) + "/", address.rstrip("/") + "/", recursive=True)

    def files(self, address: str) -> dict[str, bytes]:
        """Return what lies below an address, by its name there."""
        system, start = self.system, address.split("://")[1].rstrip("/")
        return {
            name[len(start) + 1 :]: system.cat_file(name)
            for name in system.find(start, withdirs=False)
        }


@contextmanager
def server() -> Iterator[ObjectStore]:
    """Start a server in this process, on a port of its own."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        yield ObjectStore(f"http://{host}:{port}")
    finally:
        running.stop()


@contextmanager
def proxy(store: ObjectStore, verdict: Callable[[str, str, int], Verdict]) -> Iterator[ObjectStore]:
    """Start a proxy before a server, which breaks requests off.

    Args:
        store: The server.
        verdict: From method, path and how often they came before to what becomes of a request.
    """
    host, port = store.url.removeprefix("http://").split(":")
    seen: Counter[str] = Counter()
    came: Counter[tuple[str, str]] = Counter()
    guard = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def sent(self) -> bytes | None:
            """Read what is sent; ``None`` where it ends too soon."""
            try:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
                    return body if len(body) == length else None
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            except (OSError, ValueError):
                return None
            return body

        def answer(self) -> None:
            body = self.sent()
            if body is None:  # whoever sent it is no more
                self.close_connection = True
                return
            with guard:
                key = (self.command, self.path.split("?")[0])
                before = came[key]
                came[key] += 1
                found = verdict(self.command, self.path, before)
                seen[str(found or "whole")] += 1
            if found == "drop":
                self.close_connection = True
                return
            if isinstance(found, int):
                self.close_connection = True
                data = _ANSWERS[found]
                self.send_response(found)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Connection", "close")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)
                return
            if found == "flip" and body:
                body = body[:-1] + bytes([body[-1] ^ 1])
            upstream = http.client.HTTPConnection(host, int(port), timeout=30)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _NOT_FORWARDED}
            headers["Content-Length"] = str(len(body))
            upstream.request(self.command, self.path, body, headers)
            reply = upstream.getresponse()
            data = reply.read()
            upstream.close()
            self.send_response(reply.status)
            for name, value in reply.getheaders():
                if name.lower() not in _NOT_FORWARDED | {"content-length"}:
                    self.send_header(name, value)
            told = reply.getheader("Content-Length") if self.command == "HEAD" else len(data)
            self.send_header("Content-Length", str(told or 0))
            self.end_headers()
            if self.command == "HEAD":
                return
            if found == "cut":
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(data)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing of clients that are killed."""

    listening = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield ObjectStore(f"http://127.0.0.1:{listening.server_port}", seen)
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join(5)


def use_store(monkeypatch: pytest.MonkeyPatch, store: ObjectStore, cache: Path) -> None:
    """Let this process, and those that it starts, find a server and keep copies in a folder."""
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": store.url}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CURATOR_CACHE", str(cache))
    if _used != [store.url]:  # the file system remembers the server that it began with
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        _used[:] = [store.url]
