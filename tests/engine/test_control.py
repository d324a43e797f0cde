"""The control socket: who may speak, what is understood, and what happens to its name in the file system."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from engine import control
from engine.control import ControlError, ControlServer, send_command

Calls = list[tuple[str, dict[str, str], str]]


def serve(path: Path, client: Callable[[], Any]) -> tuple[Any, Calls, ControlServer]:
    """Run `client` in a thread against a server at `path`; gives back its result or raises its error."""
    calls: Calls = []

    def on_command(name: str, args: dict[str, str], operator: str) -> dict[str, object]:
        calls.append((name, args, operator))
        return {"frames": len(calls)}

    async def main() -> tuple[Any, Calls, ControlServer]:
        loop = asyncio.get_running_loop()
        server = ControlServer(loop, path, on_command)
        try:
            return await loop.run_in_executor(None, client), calls, server
        finally:
            server.close()

    return uvloop.run(main())


def talk(path: Path, message: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.send(message)
        reply: dict[str, Any] = json.loads(client.recv(65_536))
        return reply


def test_command_and_its_result_travel(tmp_path: Path) -> None:
    path = tmp_path / "control"
    result, calls, _ = serve(path, lambda: send_command(path, "cancel_all", {"venue": "BYBIT"}))
    assert result == {"frames": 1}
    assert calls == [("cancel_all", {"venue": "BYBIT"}, f"uid {os.getuid()} pid {os.getpid()}")]


def test_one_connection_carries_several_commands(tmp_path: Path) -> None:
    path = tmp_path / "control"

    def client() -> list[Any]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(5)
            sock.connect(str(path))
            replies = []
            for name in ("status", "kill", "resume"):
                sock.send(json.dumps({"command": name}).encode())
                replies.append(json.loads(sock.recv(1000)))
            return replies

    replies, calls, _ = serve(path, client)
    assert [reply["ok"] for reply in replies] == [True] * 3
    assert [call[0] for call in calls] == ["status", "kill", "resume"]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b"kill", "not a JSON message"),
        (b"\xff", "not a JSON message"),
        (b"[]", "command must be a text"),
        (b"{}", "command must be a text"),
        (b'{"command":7}', "command must be a text"),
        (b'{"command":"withdraw"}', "command was 'withdraw', known are"),
        (b'{"command":"kill","args":[1]}', "args must be an object of texts"),
        (b'{"command":"kill","args":{"a":1}}', "args must be an object of texts"),
        (b'{"command":"kill"' + b" " * 65_536 + b"}", "message larger than 65536 bytes"),
    ],
)
def test_message_that_is_not_understood_changes_nothing(tmp_path: Path, message: bytes, error: str) -> None:
    path = tmp_path / "control"
    reply, calls, _ = serve(path, lambda: talk(path, message))
    assert not reply["ok"]
    assert reply["error"].startswith(error)
    assert calls == []


def test_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "control"
    # The kernel's word on the peer, as it would be for the user nobody.
    monkeypatch.setattr(control, "_peer_of", lambda client: (1, 65_534))

    def client() -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(5)
            sock.connect(str(path))
            reply: dict[str, Any] = json.loads(sock.recv(1000))
            return reply

    reply, calls, server = serve(path, client)
    assert reply == {"ok": False, "error": "user 65534 may not command this engine"}
    assert calls == []
    assert server.refused_count == 1


@pytest.mark.skipif(os.getuid() != 0, reason="needs to become another user")
def test_another_user_is_refused_by_the_kernels_word(tmp_path: Path) -> None:
    path = Path(f"/tmp/tickwright-control-{os.getpid()}")

    def client() -> bytes:
        os.chmod(path, 0o666)  # even then
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.setuid(65_534)
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            sock.settimeout(5)
            sock.connect(str(path))
            os.write(writer, sock.recv(1000))
            os._exit(0)
        os.waitpid(child, 0)
        return os.read(reader, 1000)

    reply, calls, _ = serve(path, client)
    assert json.loads(reply) == {"ok": False, "error": "user 65534 may not command this engine"}
    assert calls == []


def test_socket_is_private_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "control"
    mode, _, _ = serve(path, lambda: path.stat().st_mode)
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert not path.exists()


def test_leftover_of_a_dead_engine_is_taken_over_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(path))
    assert serve(path, lambda: send_command(path, "status"))[0] == {"frames": 1}

    async def second() -> None:
        first = ControlServer(asyncio.get_running_loop(), path, lambda *_: {})
        try:
            with pytest.raises(ControlError, match="another engine listens here"):
                ControlServer(asyncio.get_running_loop(), path, lambda *_: {})
            assert path.exists()
        finally:
            first.close()

    uvloop.run(second())


def test_file_in_the_way_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "control"
    path.write_text("precious")

    async def main() -> None:
        with pytest.raises(ControlError, match="cannot listen"):
            ControlServer(asyncio.get_running_loop(), path, lambda *_: {})

    uvloop.run(main())
    assert path.read_text() == "precious"


def test_long_path_works(tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 30)
    folder.mkdir()
    path = folder / "control"
    assert serve(path, lambda: send_command(path, "status"))[0] == {"frames": 1}


def test_crowd_of_silent_clients_does_not_shut_others_out(tmp_path: Path) -> None:
    path = tmp_path / "control"

    def client() -> Any:
        silent = []
        for _ in range(3 * control.MAX_CLIENTS):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            sock.connect(str(path))
            silent.append(sock)
        result = send_command(path, "status")
        for sock in silent:
            sock.close()
        return result

    assert serve(path, client)[0] == {"frames": 1}


def test_nobody_listening_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=r"control: cannot reach the engine: No such file or directory"):
        send_command(tmp_path / "control", "status")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(ControlError, match="Connection refused"):
        send_command(tmp_path / "dead", "status")


def test_engine_that_does_not_answer_or_refuses_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as deaf:
        deaf.bind(str(path))
        deaf.listen()
        with pytest.raises(ControlError, match="did not answer in"):
            send_command(path, "status", timeout_s=0.02)
        deaf.accept()[0].close()
        queue = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) for _ in range(300)]
        with contextlib.suppress(BlockingIOError):
            for sock in queue:
                sock.connect(str(path))
        with pytest.raises(ControlError, match="did not answer in"):
            send_command(path, "status", timeout_s=0.02)
        for sock in queue:
            sock.close()
        deaf.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                deaf.accept()[0].close()
        deaf.setblocking(True)

        def babble() -> None:
            peer = deaf.accept()[0]
            peer.send(struct.pack("3i", 1, 2, 3))
            peer.close()

        thread = threading.Thread(target=babble)
        thread.start()
        with pytest.raises(ControlError, match="cannot reach"):
            send_command(path, "status")
        thread.join()
    path.unlink()
    with pytest.raises(ControlError, match="known are"):
        serve(path, lambda: send_command(path, "withdraw"))
