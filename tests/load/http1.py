"""HTTP/1.1 on the wire: requests as bytes, responses out of bytes (RFC 9112), nothing about sockets."""
import re

HEAD_LIMIT = 65536
RELEASE_HEADER = re.compile(rb"\r\nx-release:[ \t]*([^\r\n]*)", re.IGNORECASE)
RELEASE_FIELD = re.compile(rb'"release"\s*:\s*"([^"]*)"')


class Malformed(Exception):
    """What arrived is not HTTP/1.1."""


class Answer:
    """One complete response; `keep` says whether the connection may carry another request."""

    __slots__ = ("body", "head", "keep", "status")

    def __init__(self, status: int, head: bytes, keep: bool) -> None:
        self.status = status
        self.head = head
        self.body = b""
        self.keep = keep

    def release(self) -> str:
        """The release that answered: the X-Release header, else the JSON field `release`, else ''."""
        found = RELEASE_HEADER.search(self.head) or RELEASE_FIELD.search(self.body)
        return found[1].decode("latin-1").strip() if found else ""


def header(head: bytes, name: bytes) -> bytes:
    """The value of a header (name in lower case), or b''. The first one, where it is repeated."""
    at = head.lower().find(b"\r\n" + name + b":")
    if at < 0:
        return b""
    start = at + len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start:end if end >= 0 else len(head)].strip()


def request(method: str, path: str, host: str, headers: tuple[str, ...] = (), body: bytes = b"") -> bytes:
    """The bytes of a request; `headers` are whole lines."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "User-Agent: evenkeel-load", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Chunks:
    """Chunked transfer coding, decoded as it arrives (RFC 9112 section 7.1); trailers are dropped."""

    __slots__ = ("buffer", "done")

    def __init__(self) -> None:
        self.buffer = b""
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """The payload that `data` completes. Once `done`, `buffer` is what came after the last chunk."""
        buf = self.buffer + data
        at, out = 0, []
        while True:
            end = buf.find(b"\r\n", at)
            if end < 0:
                break
            try:
                size = int(buf[at:end].split(b";")[0], 16)
            except ValueError:
                raise Malformed(f"chunk size {buf[at:end][:20]!r}") from None
            if size == 0:
                # an empty line ends the trailers; without any it stands right behind the last chunk's own line
                close = buf.find(b"\r\n\r\n", end)
                if close < 0:
                    break
                self.done, at = True, close + 4
                break
            if len(buf) < end + 2 + size + 2:
                break
            if buf[end + 2 + size:end + 4 + size] != b"\r\n":
                raise Malformed("a chunk that does not end where it says")
            out.append(buf[end + 2:end + 2 + size])
            at = end + 4 + size
        self.buffer = buf[at:]
        return b"".join(out)


class Reader:
    """Responses to the requests of one connection, one after the other."""

    __slots__ = ("answer", "buffer", "chunks", "need", "parts")

    def __init__(self) -> None:
        self.buffer = b""
        self.answer: Answer | None = None
        self.need = 0  # body bytes still to come; -1: until the end of the connection
        self.chunks: Chunks | None = None
        self.parts: list[bytes] = []

    def feed(self, data: bytes) -> Answer | None:
        """Take bytes; the answer, once it is complete. More than one answer is Malformed: one request was asked."""
        if self.answer is None:
            data = self.buffer + data if self.buffer else data
            start = 0
            while True:
                end = data.find(b"\r\n\r\n", start)
                if end < 0:
                    if len(data) > HEAD_LIMIT:
                        raise Malformed(f"no end of the headers within {HEAD_LIMIT} bytes")
                    self.buffer = data[start:]
                    return None
                self._head(data[start:end])
                start = end + 4
                if self.answer is not None:
                    break
            self.buffer, data = b"", data[start:]
        return self._body(data)

    def _head(self, head: bytes) -> None:
        try:
            status = int(head[9:12])
        except ValueError:
            status = 0
        if not head.startswith(b"HTTP/1.") or status < 100:
            raise Malformed(f"not a status line: {head[:40]!r}")
        if status < 200:
            return  # 100 and 103 announce, the answer follows
        lower = head.lower()
        keep = head[7:8] == b"1" and b"close" not in header(lower, b"connection")
        self.answer = Answer(status, head, keep)
        self.parts = []
        self.chunks = None
        length = header(lower, b"content-length")
        if status in (204, 304):
            self.need = 0
        elif b"chunked" in header(lower, b"transfer-encoding"):
            self.chunks = Chunks()
        elif length:
            if not length.isdigit():
                raise Malformed(f"content-length {length[:20]!r}")
            self.need = int(length)
        else:
            self.need = -1
            self.answer.keep = False

    def _body(self, data: bytes) -> Answer | None:
        if self.chunks is not None:
            self.parts.append(self.chunks.feed(data))
            if not self.chunks.done:
                return None
            return self._complete(self.chunks.buffer)
        if self.need < 0:
            self.parts.append(data)
            return None
        if len(data) < self.need:
            self.parts.append(data)
            self.need -= len(data)
            return None
        self.parts.append(data[:self.need])
        return self._complete(data[self.need:])

    def end(self) -> Answer | None:
        """The connection ended in order: the answer whose body runs until then, or None where something is missing."""
        if self.answer is None or self.chunks is not None or self.need >= 0:
            return None
        return self._complete(b"")

    def started(self) -> bool:
        """Has any byte of an answer arrived?"""
        return bool(self.answer or self.buffer)

    def _complete(self, rest: bytes) -> Answer:
        answer = self.answer
        assert answer is not None
        self.answer = None
        answer.body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        if rest:
            raise Malformed(f"{len(rest)} bytes after the end of the answer")
        return answer
