"""A real proxy in front of a store that misbehaves on command: refuses, hangs, answers 503, lies with 200, cuts a part short."""
import http.client
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EMPTY = b'<?xml version="1.0" encoding="UTF-8"?><CompleteMultipartUploadResult><ETag></ETag></CompleteMultipartUploadResult>'
ERROR = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>InternalError</Code><Message>again, please</Message></Error>'
Fault = Callable[[str, str, int], str]  # method, path, number of the request among its like -> what to do


class Proxy(ThreadingHTTPServer):
    """`fault` says for each request: pass, busy (503), lie (200 with an error), empty (200 for an upload that was not completed, without a
    word of it), untagged (done, and the answer has no ETag, as Ceph 16's), missing (501), expired, cut (in the middle of the request), half
    (in the middle of the answer), lost (done and not answered), hang (until let go, and then cut), hold (passed on once let go), late
    (done, and answered once let go), meet (at the gate, which the test gives) or skew (another time in the answer)."""

    daemon_threads = True

    def __init__(self, port: int, fault: Fault) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream, self.fault = port, fault
        self.let_go = threading.Event()
        self.seen: list[tuple[str, str, str]] = []
        self.connections = 0
        self.gate = threading.Barrier(1)
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()

    def close(self) -> None:
        self.let_go.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The other side leaving is what the tests are about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, *args: object) -> None:
        """Silent."""

    def pass_on(self) -> None:
        with self.server.lock:
            like = sum(1 for method, path, _ in self.server.seen if method == self.command)
            action = self.server.fault(self.command, self.path, like)
            self.server.seen.append((self.command, self.path, action))
        length = int(self.headers.get("Content-Length", 0))
        if action == "cut":
            self.rfile.read(length // 2)
            self.connection.close()
            self.close_connection = True
            return
        body = self.rfile.read(length)
        if action == "hang":
            self.server.let_go.wait()
            self.close_connection = True
        elif action == "busy":
            self.answer(503, ERROR.replace(b"InternalError", b"SlowDown"), {})
        elif action == "missing":
            self.answer(501, ERROR.replace(b"InternalError", b"NotImplemented"), {})
        elif action == "expired":
            self.answer(400, ERROR.replace(b"InternalError", b"ExpiredToken"), {})
        elif action == "lie":
            self.answer(200, ERROR, {})
        elif action == "empty":
            self.answer(200, EMPTY, {})
        else:
            if action == "meet":
                self.server.gate.wait()
            elif action == "hold":
                self.server.let_go.wait()
            self.forward(body, action)

    def forward(self, body: bytes, action: str) -> None:
        up = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        up.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("expect", "connection"):
                up.putheader(name, value)  # the Host too: it is signed
        up.endheaders(body or None)
        got = up.getresponse()
        data = got.read()
        if action == "late":
            self.server.let_go.wait()
        headers = {n: v for n, v in got.getheaders() if n.lower() not in ("transfer-encoding", "connection", "content-length")}
        if self.command == "HEAD":
            headers["Content-Length"] = got.getheader("Content-Length", "0")
        if action == "skew":
            headers = {n: v for n, v in headers.items() if n.lower() != "date"} | {"Date": "Thu, 01 Jan 2026 00:00:00 GMT"}
        if action == "untagged":
            data = re.sub(b"<ETag>.*</ETag>", b"<ETag></ETag>", data)
        if action == "lost":  # done, and nobody hears of it
            self.close_connection = True
            self.connection.close()
        else:
            self.answer(got.status, data, headers, half=action == "half")
        up.close()

    def answer(self, status: int, data: bytes, headers: dict[str, str], half: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:len(data) // 2] if half else data)
        if half:
            self.close_connection = True
            self.connection.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on
