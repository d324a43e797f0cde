"""Tell systemd how we are: sd_notify(3) in a datagram. A shell file; does nothing outside a unit.

READY=1 once trading may start, WATCHDOG=1 from the loop itself (a stalled loop is killed), STOPPING=1 on the way out.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Messages to the manager. A manager that does not listen is no trouble of ours: every send may fail silently."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        address = environ.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        self.watchdog_ns = _watchdog_ns(environ) if self._socket is not None else 0
        """Silence after which the manager kills us; 0 when it does not watch."""

    def ready(self, status: str) -> None:
        self.send(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        self.send(f"STATUS={text}")

    def watchdog(self) -> None:
        self.send("WATCHDOG=1")

    def extend_timeout(self, micros: int) -> None:
        """Ask for more time to start or stop, counted from now."""
        self.send(f"EXTEND_TIMEOUT_USEC={micros}")

    def stopping(self, status: str) -> None:
        self.send(f"STOPPING=1\nSTATUS={status}")

    def send(self, message: str) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError:
            return False
        return True

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _watchdog_ns(environ: Mapping[str, str]) -> int:
    micros = environ.get("WATCHDOG_USEC", "")
    pid = environ.get("WATCHDOG_PID", str(os.getpid()))
    return int(micros) * 1000 if micros.isdigit() and pid == str(os.getpid()) else 0
