"""The HTTP client against real servers on loopback, and its parser cut at every byte."""

from __future__ import annotations

import asyncio
import gzip
import random
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from engine import http
from engine.errors import ConfigError
from engine.http import HttpClient, tls_context
from engine.http_parser import HttpError, ResponseParser

SECOND = 1_000_000_000
MS = 1_000_000
MakeCertificate = Callable[[str], tuple[Path, Path]]
Answer = tuple[int, dict[str, str], bytes]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Mbx-Used-Weight-1M: 7\r\n\r\nok"

# --- the parser ---------------------------------------------------------------------------------------------------

ANSWERS = {
    "length": (OK, 200, b"ok", True),
    "empty": (b"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n", 200, b"", True),
    "no reason": (b"HTTP/1.1 429 \r\nContent-Length: 1\r\n\r\nx", 429, b"x", True),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0A ;x=y\r\n0123456789\r\n0\r\nT: 1\r\n\r\n",
        200,
        b"abc0123456789",
        True,
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", 204, b"", False),
    "interim": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\n" + OK, 200, b"ok", True),
    "old version": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
    "old version kept": (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: https://x/\r\nContent-Length: 0\r\n\r\n", 302, b"", True),
    "gzip": (
        b"HTTP/1.1 403 F\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"
        % (len(gzip.compress(b"waf" * 100, mtime=0)), gzip.compress(b"waf" * 100, mtime=0)),
        403,
        b"waf" * 100,
        True,
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answer_is_the_same_wherever_it_is_cut(name: str) -> None:
    wire, status, body, keep_alive = ANSWERS[name]
    for cut in range(len(wire) + 1):
        parser = ResponseParser("GET")
        assert parser.feed(wire[:cut]) == (cut == len(wire)), f"cut at {cut}"
        assert parser.feed(wire[cut:])
        assert (parser.status, parser.body, parser.keep_alive) == (status, body, keep_alive), f"cut at {cut}"
    parser = ResponseParser("GET")
    for index in range(len(wire)):
        parser.feed(wire[index : index + 1])
    assert parser.is_done
    assert parser.body == body


@pytest.mark.parametrize("name", ANSWERS)
def test_answer_cut_short_is_never_taken_for_whole(name: str) -> None:
    wire = ANSWERS[name][0]
    for cut in range(len(wire)):
        parser = ResponseParser("GET")
        parser.feed(wire[:cut])
        with pytest.raises(HttpError, match="connection closed"):
            parser.finish()


def test_answer_without_a_length_ends_with_the_connection() -> None:
    parser = ResponseParser("GET")
    assert not parser.feed(b"HTTP/1.1 200 OK\r\n\r\nsome ")
    assert not parser.feed(b"text")
    parser.finish()
    assert (parser.is_done, parser.body, parser.keep_alive) == (True, b"some text", False)


def test_head_has_no_body_whatever_its_length_says() -> None:
    parser = ResponseParser("HEAD")
    assert parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")


def test_header_names_are_lower_case_and_repeated_ones_joined() -> None:
    parser = ResponseParser("GET")
    parser.feed(b"HTTP/1.1 200 OK\r\nX-Bapi-Limit:  10 \r\nA: 1\r\na: 2\r\nContent-Length: 0\r\n\r\n")
    assert parser.headers == {"x-bapi-limit": "10", "a": "1, 2", "content-length": "0"}


def test_bytes_behind_an_answer_are_counted() -> None:
    parser = ResponseParser("GET")
    assert parser.feed(OK + b"HTTP")
    assert parser.surplus == 4


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/2 200\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 99 x\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\x00c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 1001,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"
        % (len(gzip.compress(b"x" * 2000)), gzip.compress(b"x" * 2000)),
        b"x" * 1001,
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 1001 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"x" * 1001,
    ],
)
def test_answer_that_is_malformed_or_too_big_is_refused(wire: bytes) -> None:
    with pytest.raises(HttpError):
        ResponseParser("GET", max_head_bytes=1000, max_body_bytes=1000).feed(wire)


def test_damaged_answer_ends_in_a_refusal_or_in_an_answer_and_never_otherwise() -> None:
    rng = random.Random(20261122)
    wires = [wire for wire, _, _, _ in ANSWERS.values()]
    for _ in range(3000):
        wire = bytearray(rng.choice(wires))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(wire))
            change = rng.randrange(3)
            if change == 0:
                wire[at] = rng.randrange(256)
            elif change == 1:
                del wire[at : at + rng.randrange(1, 8)]
            else:
                wire[at:at] = rng.choice([b"\r\n", b":", b"0", b"\x00", b"Content-Length: 3\r\n"])
            wire = wire or bytearray(b"\r")
        parser = ResponseParser("GET", max_head_bytes=1000, max_body_bytes=1000)
        try:
            if not parser.feed(bytes(wire)):
                parser.finish()
        except HttpError:
            continue
        assert parser.is_done
        assert 200 <= parser.status <= 999
        assert len(parser.body) <= 1000


# --- the client ---------------------------------------------------------------------------------------------------


class Server:
    """Answers by path; writes down what it is asked."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.connection_count = 0
        self.base_url = ""
        self.close_idle = False
        self.server: asyncio.Server | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        port = self.server.sockets[0].getsockname()[1]
        self.base_url = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connection_count += 1
        try:
            await self._answer_all(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served = 0
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            body = await reader.readexactly(int(length[0].split(b":")[1])) if length else b""
            self.requests.append(head + body)
            served += 1
            path = head.split(b" ")[1]
            if path == b"/close-mid-body":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
                return
            if path == b"/close" or (path == b"/close-if-kept" and served > 1):
                return
            if path == b"/silent":
                await asyncio.sleep(30)
            if path == b"/garbage":
                writer.write(b"not http at all\r\n\r\n")
            elif path == b"/last":
                writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlast")
                return
            elif path == b"/slow-chunks":
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for byte in b"3\r\nabc\r\n0\r\n\r\n":
                    writer.write(bytes([byte]))
                    await writer.drain()
            elif path == b"/huge":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"h" * 3_000_000)
            elif path == b"/echo":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            else:
                writer.write(OK)


class Asker:
    def __init__(self, client: HttpClient, base_url: str) -> None:
        self.client = client
        self.base_url = base_url

    async def __call__(
        self,
        target: str,
        *,
        method: str = "GET",
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        timeout_ns: int = 5 * SECOND,
    ) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.client.request(
            method, self.base_url, target, headers or {}, body, timeout_ns, lambda *answer: future.set_result(answer)
        )
        assert not future.done(), "answered from within the call"
        return await asyncio.wait_for(future, 10)


Scenario = Callable[[Asker, Server], Awaitable[None]]


def play(scenario: Scenario, **options: Any) -> None:
    async def main() -> None:
        server = Server()
        await server.start()
        client = HttpClient(asyncio.get_running_loop(), **options)
        try:
            await scenario(Asker(client, server.base_url), server)
        finally:
            client.close()
            assert server.server is not None
            server.server.close()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    uvloop.run(main())


def test_request_and_answer_travel_whole() -> None:
    async def scenario(ask: Asker, server: Server) -> None:
        status, headers, body = await ask("/api/v3/time?symbol=BTCUSDT", headers={"X-MBX-APIKEY": "k"})
        assert (status, body) == (200, b"ok")
        assert headers["x-mbx-used-weight-1m"] == "7"
        authority = server.base_url.removeprefix("http://").encode()
        assert server.requests == [
            b"GET /api/v3/time?symbol=BTCUSDT HTTP/1.1\r\nhost: " + authority + b"\r\nX-MBX-APIKEY: k\r\n"
            b"user-agent: tickwright\r\naccept-encoding: identity\r\n\r\n"
        ]
        body = bytes(range(256)) * 40
        assert (await ask("/echo", method="POST", body=body))[2] == body
        assert (await ask("/echo", method="DELETE"))[2] == b""
        assert (await ask("/slow-chunks"))[::2] == (200, b"abc")

    play(scenario)


def test_connection_is_kept_and_used_again() -> None:
    async def scenario(ask: Asker, server: Server) -> None:
        for _ in range(5):
            assert (await ask("/"))[0] == 200
        assert server.connection_count == 1
        assert (await ask("/last"))[2] == b"last"
        assert (await ask("/"))[0] == 200
        assert server.connection_count == 2

    play(scenario)


def test_concurrent_requests_open_a_bounded_number_of_connections_and_never_share_one() -> None:
    async def scenario(ask: Asker, server: Server) -> None:
        bodies = [b"%d" % index for index in range(50)]
        answers = await asyncio.gather(*[ask("/echo", method="POST", body=body) for body in bodies])
        assert [answer[2] for answer in answers] == bodies
        assert server.connection_count <= http.MAX_CONNECTIONS

    play(scenario)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/close-mid-body", b"connection closed in the fixed of an answer"),
        ("/close", b"connection closed in the head of an answer"),
        ("/garbage", b"bad answer: status line was b'not http at all'"),
    ],
)
def test_broken_answer_has_status_zero_and_a_reason(target: str, reason: bytes) -> None:
    async def scenario(ask: Asker, server: Server) -> None:
        assert await ask(target) == (0, {}, reason)
        assert len(server.requests) == 1
        assert (await ask("/"))[0] == 200

    play(scenario)


def test_read_is_sent_once_more_when_the_kept_connection_was_closed_under_it() -> None:
    async def scenario(ask: Asker, server: Server) -> None:
        assert (await ask("/"))[0] == 200
        await asyncio.sleep(0.005)
        assert (await ask("/close-if-kept"))[0] == 200
        assert len(server.requests) == 3
        assert ask.client.retry_count == 1

    play(scenario)


def test_write_is_never_sent_twice() -> None:
    async def scenario(ask: Asker, server: Server) -> None:
        assert (await ask("/"))[0] == 200
        await asyncio.sleep(0.005)
        assert (await ask("/close-if-kept", method="POST", body=b"order"))[0] == 0
        assert len(server.requests) == 2

    play(scenario)


def test_timeout_answers_once_and_the_late_answer_reaches_nobody() -> None:
    async def scenario(ask: Asker, server: Server) -> None:
        assert await ask("/silent", timeout_ns=20 * MS) == (0, {}, b"no answer in 20 ms")
        assert (await ask("/"))[0] == 200
        assert server.connection_count == 2

    play(scenario)


def test_body_above_the_limit_is_refused() -> None:
    async def scenario(ask: Asker, server: Server) -> None:
        assert await ask("/huge") == (0, {}, b"bad answer: body of more than 1000000 bytes")

    play(scenario, max_body_bytes=1_000_000)

    async def fits(ask: Asker, server: Server) -> None:
        assert len((await ask("/huge"))[2]) == 3_000_000

    play(fits)


def test_unreachable_server_is_answered_at_once() -> None:
    async def scenario(ask: Asker, server: Server) -> None:
        assert server.server is not None
        server.server.close()
        await server.server.wait_closed()
        assert await ask("/") == (0, {}, b"not sent: cannot connect: Connection refused")

    play(scenario)


@pytest.mark.parametrize(
    ("base_url", "target", "headers"),
    [
        ("ftp://127.0.0.1", "/", {}),
        ("http://user:word@127.0.0.1", "/", {}),
        ("", "/", {}),
        ("http://127.0.0.1:99999", "/", {}),
        (None, "/a b", {}),
        (None, "no-slash", {}),
        (None, "/a\r\nX: y", {}),
        (None, "/", {"X": "secret\r\nY: z"}),
        (None, "/", {"X Y": "z"}),
        (None, "/", {"X": "secret-é"}),
    ],
)
def test_request_that_cannot_be_written_is_refused_without_showing_values(
    base_url: str | None, target: str, headers: dict[str, str]
) -> None:
    async def scenario(ask: Asker, server: Server) -> None:
        if base_url is not None:
            ask.base_url = base_url
        status, _, reason = await ask(target, headers=headers)
        assert status == 0
        assert reason.startswith(b"not sent: ")
        assert b"secret" not in reason
        assert server.requests == []

    play(scenario)


def test_too_many_waiting_requests_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_WAITING", 3)

    async def scenario(ask: Asker, server: Server) -> None:
        answers = await asyncio.gather(*[ask("/") for _ in range(5)])
        assert [answer[0] for answer in answers] == [200, 200, 200, 0, 0]

    play(scenario)


def test_closing_the_client_answers_everything() -> None:
    async def scenario(ask: Asker, server: Server) -> None:
        asked = [asyncio.ensure_future(ask("/silent")) for _ in range(10)]
        await asyncio.sleep(0.01)
        ask.client.close()
        assert {(await answer)[0] for answer in asked} == {0}
        assert (await ask("/"))[2] == b"not sent: the client is closed"

    play(scenario)


def test_error_of_a_callback_reaches_the_error_hook_and_not_the_connection() -> None:
    errors: list[BaseException] = []

    async def scenario(ask: Asker, server: Server) -> None:
        def fails(status: int, headers: dict[str, str], body: bytes) -> None:
            raise RuntimeError("callback")

        ask.client.request("GET", server.base_url, "/", {}, b"", SECOND, fails)
        assert (await ask("/"))[0] == 200
        async with asyncio.timeout(5):
            while not errors:
                await asyncio.sleep(0.001)
        assert [str(error) for error in errors] == ["callback"]

    play(scenario, on_error=errors.append)


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "is_trusted", "version", "expected"),
    [
        ("localhost", True, ssl.TLSVersion.TLSv1_3, b"ok"),
        ("localhost", False, ssl.TLSVersion.TLSv1_3, b"not sent: cannot connect: certificate refused: self-signed"),
        (
            "elsewhere",
            True,
            ssl.TLSVersion.TLSv1_3,
            b"not sent: cannot connect: certificate refused: Hostname",
        ),
        ("localhost", True, ssl.TLSVersion.TLSv1_1, b"not sent: cannot connect: "),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_certificate_name_and_version_are_verified(
    make_certificate: MakeCertificate, name: str, is_trusted: bool, version: ssl.TLSVersion, expected: bytes
) -> None:
    certificate, key = make_certificate(name)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate, key)
    if version is ssl.TLSVersion.TLSv1_1:
        served.minimum_version, served.maximum_version = version, version

    async def main() -> None:
        server = Server()
        await server.start(served)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        client = HttpClient(asyncio.get_running_loop(), ca_file=str(certificate) if is_trusted else "")
        body = (await Asker(client, server.base_url)("/"))[2]
        assert body.startswith(expected), body
        client.close()
        assert server.server is not None
        server.server.close()
        await asyncio.sleep(0.005)

    uvloop.run(main())


def test_key_log_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", "/tmp/keys")
    with pytest.raises(ConfigError, match="SSLKEYLOGFILE"):
        tls_context()
