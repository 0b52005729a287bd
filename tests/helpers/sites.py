"""A server of one file with configurable faults."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


class Site(BaseHTTPRequestHandler):
    """Serves `body`, cut off after `cut` bytes of an answer; notes the ranges it was asked for.

    Its headers `named` tell the version of the body; `heeds` is whether it compares ``If-Range`` with them.
    """

    body: ClassVar[bytes] = b""
    named: ClassVar[dict[str, str]] = {"ETag": '"1"'}
    cut, resumes, heeds, status = 1 << 30, True, True, 200
    ranges: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        self.ranges.append(asked[0] if asked else "")
        same = not self.heeds or self.headers.get("If-Range") in (None, *self.named.values())
        start = int(asked[1]) if asked and self.resumes and same else 0
        beyond = start > 0 and start >= len(self.body)
        status = self.status if self.status != 200 else 416 if beyond else 206 if start else 200
        self.send_response(status)
        if beyond:
            self.send_header("Content-Range", f"bytes */{len(self.body)}")
        elif start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        content = self.body[start:] if status in (200, 206) else b""
        for name, value in (*self.named.items(), ("Content-Length", str(len(content)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: self.cut])

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(content: bytes) -> Iterator[tuple[type[Site], str]]:
    """The server and its URL; initially without faults."""

    class Fresh(Site):
        body = content
        ranges: ClassVar[list[str]] = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), Fresh)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield Fresh, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
