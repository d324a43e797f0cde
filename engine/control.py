"""The control socket: the one door for operators. A shell file.

A UNIX socket of whole messages, mode 0600, that takes commands of its owner and of root and of nobody else (the
kernel says who is at the other end). One JSON object in, one JSON object out:
`{"command": "kill", "args": {}}` -> `{"ok": true, "result": {...}}` or `{"ok": false, "error": "..."}`.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from engine.errors import EngineError

COMMANDS: Final = ("status", "kill", "stop", "cancel_all", "resume", "reduce_only")
MAX_MESSAGE_BYTES: Final = 65_536
MAX_CLIENTS: Final = 8

OnControl = Callable[[str, dict[str, str], str], dict[str, object]]


class ControlError(EngineError):
    """A command did not reach the engine, or the engine refused it."""


class ControlServer:
    """Listens at `path` on the given loop. `on_command(name, args, operator)` gives back the result."""

    def __init__(self, loop: asyncio.AbstractEventLoop, path: Path, on_command: OnControl) -> None:
        self.refused_count = 0
        self._loop = loop
        self._path = path
        self._on_command = on_command
        self._clients: dict[int, tuple[socket.socket, str]] = {}  # by file descriptor, oldest first
        self._socket = _bind(path)
        self._inode = path.stat().st_ino
        loop.add_reader(self._socket.fileno(), self._accept)

    def close(self) -> None:
        for client, _ in list(self._clients.values()):
            self._drop(client)
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        # Only our own: a successor may have bound the same name already.
        if self._path.exists() and self._path.stat().st_ino == self._inode:
            self._path.unlink()

    def _accept(self) -> None:
        try:
            client, _ = self._socket.accept()
        except OSError:
            return
        client.setblocking(False)
        pid, uid = _peer_of(client)
        if uid not in (0, os.getuid()):
            self.refused_count += 1
            _reply(client, {"ok": False, "error": f"user {uid} may not command this engine"})
            client.close()
            return
        while len(self._clients) >= MAX_CLIENTS:
            self._drop(next(iter(self._clients.values()))[0])
        self._clients[client.fileno()] = (client, f"uid {uid} pid {pid}")
        self._loop.add_reader(client.fileno(), self._read, client)

    def _read(self, client: socket.socket) -> None:
        try:
            message, _, flags, _ = client.recvmsg(MAX_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            message, flags = b"", 0
        if not message:
            self._drop(client)
        elif flags & socket.MSG_TRUNC:
            _reply(client, {"ok": False, "error": f"message larger than {MAX_MESSAGE_BYTES} bytes"})
            self._drop(client)
        elif not _reply(client, self._answer(message, self._clients[client.fileno()][1])):
            self._drop(client)

    def _answer(self, message: bytes, operator: str) -> dict[str, object]:
        try:
            name, args = _parsed(message)
        except ValueError as error:
            self.refused_count += 1
            return {"ok": False, "error": str(error)}
        return {"ok": True, "result": self._on_command(name, args, operator)}

    def _drop(self, client: socket.socket) -> None:
        del self._clients[client.fileno()]
        self._loop.remove_reader(client.fileno())
        client.close()


def send_command(path: Path, name: str, args: Mapping[str, str] | None = None, timeout_s: float = 5.0) -> Any:
    """Send one command to the engine at `path` and return its result. For other processes; it blocks.

    Errors: ControlError when nobody listens, the engine does not answer in time, or refuses.
    """
    request = json.dumps({"command": name, "args": dict(args or {})}).encode()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            # Blocking while it connects: with a timeout, a full queue would be an error at once.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout_s))
            _at_short_path(path, client.connect)
            client.settimeout(timeout_s)
            client.send(request)
            reply = json.loads(client.recv(1 << 20))
    except (TimeoutError, BlockingIOError):
        raise ControlError(f"{path}: the engine did not answer in {timeout_s} s") from None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOTCONN:
            # A busy machine: the queue of the engine was full for as long as we waited.
            raise ControlError(f"{path}: the engine did not answer in {timeout_s} s") from None
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ControlError(f"{path}: cannot reach the engine: {text}") from None
    if not reply.get("ok"):
        raise ControlError(f"{path}: {reply.get('error')}")
    return reply.get("result")


def _peer_of(client: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, as the kernel noted them when it connected."""
    pid, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid


def _timeval(seconds: float) -> bytes:
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))


def _bind(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if path.is_socket():
            _remove_stale(path)
        mask = os.umask(0o177)  # the socket is born 0600; a chmod afterwards would leave a gap
        try:
            _at_short_path(path, listening.bind)
        finally:
            os.umask(mask)
        listening.listen(MAX_CLIENTS)
    except OSError as error:
        listening.close()
        raise ControlError(f"{path}: cannot listen: {error.strerror}; is its folder there and ours?") from None
    except BaseException:
        listening.close()
        raise
    return listening


def _remove_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            _at_short_path(path, probe.connect)
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise ControlError(f"{path}: another engine listens here")


# A socket's address holds 107 bytes; a path through the folder's descriptor is always short enough.
def _at_short_path(path: Path, use: Callable[[str], None]) -> None:
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        use(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def _reply(client: socket.socket, reply: dict[str, object]) -> bool:
    try:
        client.send(json.dumps(reply, separators=(",", ":")).encode())
    except OSError:  # gone, or it does not read
        return False
    return True


def _parsed(message: bytes) -> tuple[str, dict[str, str]]:
    try:
        request = json.loads(message)
    except ValueError:
        raise ValueError("not a JSON message") from None
    if not isinstance(request, dict) or not isinstance(request.get("command"), str):
        raise ValueError('command must be a text, as in {"command": "status"}')
    name, args = request["command"], request.get("args") or {}
    if name not in COMMANDS:
        raise ValueError(f"command was {name[:40]!r}, known are {', '.join(COMMANDS)}")
    if not isinstance(args, dict) or not all(isinstance(value, str) for value in args.values()):
        raise ValueError("args must be an object of texts")
    return name, args
