"""One HTTP/1.1 answer, byte by byte: owns what is a whole answer and what is not one. Pure; knows no socket.

Refused are the forms in which two readers of the same bytes could disagree (folded headers, several lengths, a length
beside chunks): a connection with such an answer is not used again. Rule: RFC 9112.
"""

from __future__ import annotations

import re
import zlib
from enum import Enum
from typing import Final

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n]*)?")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")
_DIGITS: Final = re.compile(r"[0-9]{1,15}")
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class HttpError(Exception):
    """The answer cannot be taken; the message says why."""


class _State(Enum):
    HEAD = "head"
    FIXED = "fixed"
    CHUNK_SIZE = "chunk size"
    CHUNK_BYTES = "chunk"
    CHUNK_END = "end of chunk"
    TRAILER = "trailer"
    UNTIL_CLOSE = "until close"
    DONE = "done"


class ResponseParser:
    """Feed it what arrives until `is_done`.

    Errors: HttpError from `feed` and `finish`; the parser is then unusable.
    """

    def __init__(self, method: str, *, max_head_bytes: int = 65_536, max_body_bytes: int = 67_108_864) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.keep_alive = False
        self.has_started = False  # some byte of an answer has arrived
        self._method = method
        self._max_head_bytes = max_head_bytes
        self._max_body_bytes = max_body_bytes
        self._state = _State.HEAD
        self._in = bytearray()  # not understood yet
        self._body = bytearray()
        self._wanted = 0  # bytes of the body or chunk still to come

    @property
    def is_done(self) -> bool:
        return self._state is _State.DONE

    @property
    def surplus(self) -> int:
        """Bytes behind the answer. We never ask ahead, so there must be none."""
        return len(self._in) if self.is_done else 0

    def feed(self, received: bytes | bytearray | memoryview) -> bool:
        """True when the answer is whole."""
        self.has_started = self.has_started or len(received) > 0
        self._in += received
        while self._state is not _State.DONE and self._step():
            pass
        return self.is_done

    def finish(self) -> None:
        """The peer has closed: the end of an answer without a length, an error for every other."""
        if self._state is _State.UNTIL_CLOSE:
            self._complete()
        elif not self.is_done:
            raise HttpError(f"connection closed in the {self._state.value} of an answer")

    # True when the state moved on and what is left may hold more.
    def _step(self) -> bool:
        if self._state is _State.HEAD:
            return self._take_head()
        if self._state in (_State.FIXED, _State.CHUNK_BYTES, _State.UNTIL_CLOSE):
            return self._take_bytes()
        line = self._take_line()
        if line is None:
            return False
        if self._state is _State.CHUNK_SIZE:
            match = _CHUNK_SIZE.fullmatch(line)
            if match is None:
                raise HttpError(f"chunk size was {bytes(line[:20])!r}")
            self._wanted = int(match[1], 16)
            self._check_body(len(self._body) + self._wanted)
            self._state = _State.CHUNK_BYTES if self._wanted else _State.TRAILER
        elif self._state is _State.CHUNK_END:
            if line:
                raise HttpError("chunk longer than its size")
            self._state = _State.CHUNK_SIZE
        elif not line:  # the trailer ends with an empty line; what it says is not used
            self._complete()
        return True

    def _take_line(self) -> bytearray | None:
        end = self._in.find(b"\r\n")
        if end < 0:
            if len(self._in) > self._max_head_bytes:
                raise HttpError(f"line of more than {self._max_head_bytes} bytes")
            return None
        line = self._in[:end]
        del self._in[: end + 2]
        return line

    def _take_bytes(self) -> bool:
        count = len(self._in) if self._state is _State.UNTIL_CLOSE else min(self._wanted, len(self._in))
        self._check_body(len(self._body) + count)
        self._body += self._in[:count]
        del self._in[:count]
        if self._state is _State.UNTIL_CLOSE:
            return False
        self._wanted -= count
        if self._wanted:
            return False
        if self._state is _State.FIXED:
            self._complete()
        else:
            self._state = _State.CHUNK_END
        return True

    def _take_head(self) -> bool:
        end = self._in.find(b"\r\n\r\n")
        if end > self._max_head_bytes or (end < 0 and len(self._in) > self._max_head_bytes):
            raise HttpError(f"head of more than {self._max_head_bytes} bytes")
        if end < 0:
            return False
        lines = bytes(self._in[:end]).split(b"\r\n")
        del self._in[: end + 4]
        match = _STATUS_LINE.fullmatch(lines[0])
        if match is None:
            raise HttpError(f"status line was {lines[0][:40]!r}")
        self.status = int(match[2])
        self.headers = _headers_of(lines[1:])
        if 100 <= self.status < 200:
            if self.status == 101:
                raise HttpError("101 for a request that asked for no upgrade")
            return True  # an interim answer; the real one follows
        options = self.headers.get("connection", "").lower()
        self.keep_alive = "close" not in options and (match[1] == b"1" or "keep-alive" in options)
        self._choose_body()
        return True

    def _choose_body(self) -> None:
        length, coding = self.headers.get("content-length"), self.headers.get("transfer-encoding")
        if self._method == "HEAD" or self.status in (204, 304):
            self._complete()
        elif coding is not None:
            if coding.lower() != "chunked":
                raise HttpError(f"transfer-encoding was {coding[:40]!r}, only chunked is known")
            if length is not None:
                raise HttpError("both content-length and transfer-encoding")
            self._state = _State.CHUNK_SIZE
        elif length is not None:
            if _DIGITS.fullmatch(length) is None:
                raise HttpError(f"content-length was {length[:40]!r}")
            self._wanted = int(length)
            self._check_body(self._wanted)
            self._state = _State.FIXED
            if self._wanted == 0:
                self._complete()
        else:
            self.keep_alive = False
            self._state = _State.UNTIL_CLOSE

    def _check_body(self, size: int) -> None:
        if size > self._max_body_bytes:
            raise HttpError(f"body of more than {self._max_body_bytes} bytes")

    def _complete(self) -> None:
        self.body = bytes(self._body)
        self._body = bytearray()
        coding = self.headers.get("content-encoding", "identity").lower()
        if coding != "identity" and self.body:
            self.body = _decompressed(self.body, coding, self._max_body_bytes)
        self._state = _State.DONE


def _headers_of(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None or _CONTROLS.search(match[2]):
            raise HttpError(f"header line was {line[:40]!r}")
        name, value = match[1].decode("ascii").lower(), match[2].decode("latin-1")
        if name in headers:
            if name in ("content-length", "transfer-encoding"):
                raise HttpError(f"{name} twice")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers


# We ask for none, but some front servers compress errors all the same.
def _decompressed(body: bytes, coding: str, max_bytes: int) -> bytes:
    if coding not in ("gzip", "deflate"):
        raise HttpError(f"content-encoding was {coding[:40]!r}")
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = inflater.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise HttpError(f"{coding} body is broken: {error}") from None
    if len(plain) > max_bytes or not inflater.eof:
        raise HttpError(f"{coding} body is cut or larger than {max_bytes} bytes")
    return plain
