"""HTTP requests of one venue: identifiers, the table of what is asked, retries of reads, bans.

Requests share the `Outbox` (queues and budgets) with the WebSocket messages of the same venue. Reads are repeated a
bounded number of times; anything that changes something at the venue is sent once, and what became of it is the
caller's question. Knows no venue: a `RestPolicy` says what an answer means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from connectors.session import MS, SECOND, Backoff, Outbox, Outgoing, Priority
from engine.types import Venue
from engine.venue import Wire

if TYPE_CHECKING:
    from ext import Throttle

REQUEST_ID_SHIFT: Final = 40
LOST: Final = 0  # status of an answer that never came: transport failure, timeout, or given up in the queue


def venue_of_request(request_id: int) -> int:
    return request_id >> REQUEST_ID_SHIFT


class RestRequest(msgspec.Struct, frozen=True):
    """The bytes of one request, made at the moment of sending."""

    method: str
    base_url: str
    target: str  # path with query
    headers: Mapping[str, str] = {}
    body: bytes = b""


class RestAnswer(msgspec.Struct, frozen=True):
    """`status` 0: no answer; `body` then says why. For a write that means: outcome unknown, unless `was_sent` is
    False."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    was_sent: bool = True

    @property
    def is_ok(self) -> bool:
        return 200 <= self.status < 300


class Verdict(Enum):
    """What to do with an answer. Only reads are sent again."""

    DONE = "done"  # hand it to the caller, good or bad
    RETRY = "retry"  # lost, or the venue was too busy: again after a backoff
    WAIT = "wait"  # limit hit: the policy froze the throttles; again when they let it through


class RestPolicy(Protocol):
    """What the connector knows about its venue's answers."""

    def judge(self, request: RestCall, status: int, headers: Mapping[str, str], body: bytes, now_ns: int) -> Verdict:
        """Called once an answer, before its caller sees it. Feeds the limits in its headers back to the throttles,
        and freezes them on a rate limit or ban."""


OnAnswer = Callable[[RestAnswer, int], None]


class RestCall:
    """One question and who wants its answer. `build(now_ns)` makes the request at the time of each sending."""

    __slots__ = (
        "attempt",
        "build",
        "is_read",
        "is_secret",
        "name",
        "on_answer",
        "outgoing",
        "retry_at_ns",
        "sent_ns",
        "timeout_ns",
    )

    def __init__(
        self,
        name: str,
        build: Callable[[int], RestRequest],
        on_answer: OnAnswer,
        *,
        is_read: bool,
        is_secret: bool = False,
        timeout_ns: int = 5 * SECOND,
    ) -> None:
        self.name = name  # for messages: "GET /api/v3/depth"
        self.build = build
        self.on_answer = on_answer
        self.is_read = is_read
        self.is_secret = is_secret
        self.timeout_ns = timeout_ns
        self.attempt = 0
        self.sent_ns = 0
        self.retry_at_ns = 0
        self.outgoing: Outgoing | None = None


class RestClient:
    """Every HTTP request of one connector."""

    def __init__(
        self,
        venue: Venue,
        wire: Wire,
        policy: RestPolicy,
        *,
        max_attempts: int = 4,
        backoff_base_ns: int = 200 * MS,
        backoff_cap_ns: int = 5 * SECOND,
        grace_ns: int = 2 * SECOND,
    ) -> None:
        self.unknown_answers = 0
        self.retries = 0
        self._venue = venue
        self._wire = wire
        self._policy = policy
        self._max_attempts = max_attempts
        self._backoff = Backoff(int(venue), backoff_base_ns, backoff_cap_ns)
        self._grace_ns = grace_ns  # beyond the wire's own timeout, before an answer is given up here
        self._counter = 0
        self._pending: dict[int, RestCall] = {}
        self._again: list[tuple[RestCall, Outbox]] = []
        self._outbox_of: dict[int, Outbox] = {}

    def __len__(self) -> int:
        return len(self._pending) + len(self._again)

    def submit(
        self,
        call: RestCall,
        outbox: Outbox,
        priority: Priority,
        throttles: Sequence[Throttle],
        weights: Sequence[int],
        now_ns: int,
        deadline_ns: int = 0,
    ) -> None:
        """Send as soon as the budgets allow. Past `deadline_ns` (0: none) it is not sent any more, and the answer is
        LOST with `was_sent` False."""

        def transmit(now_ns: int) -> bool:
            self.send(call, outbox, now_ns)
            return True

        def expire(now_ns: int) -> None:
            call.on_answer(RestAnswer(LOST, {}, b"throttled: not sent", was_sent=False), now_ns)

        call.outgoing = Outgoing(priority, throttles, weights, transmit, expire if deadline_ns else None, deadline_ns)
        outbox.submit(call.outgoing, now_ns)

    def on_response(self, request_id: int, status: int, headers: Mapping[str, str], body: bytes, now_ns: int) -> bool:
        """False for an id that is not waiting (answered or given up before); nothing happens then."""
        call = self._pending.pop(request_id, None)
        if call is None:
            self.unknown_answers += 1
            return False
        outbox = self._outbox_of.pop(request_id)
        verdict = self._policy.judge(call, status, headers, body, now_ns)
        if verdict is Verdict.DONE or not call.is_read or call.attempt >= self._max_attempts:
            if status and verdict is Verdict.DONE:
                self._backoff.reset()
            call.on_answer(RestAnswer(status, headers, body), now_ns)
            return True
        self.retries += 1
        delay_ns = self._backoff.next_ns() if verdict is Verdict.RETRY else 0
        call.retry_at_ns = now_ns + delay_ns
        self._again.append((call, outbox))
        self._wire.set_timer(call.retry_at_ns)
        return True

    def on_timer(self, now_ns: int) -> None:
        if self._again:
            due = [entry for entry in self._again if now_ns >= entry[0].retry_at_ns]
            self._again = [entry for entry in self._again if now_ns < entry[0].retry_at_ns]
            for call, outbox in due:
                assert call.outgoing is not None, f"{call.name}: retried before it was submitted"
                call.outgoing.deadline_ns, call.outgoing.expire = 0, None
                outbox.submit(call.outgoing, now_ns)
        # The wire answers every request; an answer that is lost all the same must not leave its caller waiting.
        late = [
            request_id
            for request_id, call in self._pending.items()
            if now_ns >= call.sent_ns + call.timeout_ns + self._grace_ns
        ]
        for request_id in late:
            self.on_response(request_id, LOST, {}, b"timeout", now_ns)

    def drop_all(self) -> None:
        """Forget every question without an answer (the connector stops)."""
        self._pending.clear()
        self._outbox_of.clear()
        self._again.clear()

    def send(self, call: RestCall, outbox: Outbox, now_ns: int) -> None:
        """Send now: for a caller that is being transmitted from the outbox itself (`call.outgoing` is set then)."""
        self._counter += 1
        request_id = int(self._venue) << REQUEST_ID_SHIFT | self._counter
        call.attempt += 1
        call.sent_ns = now_ns
        self._pending[request_id] = call
        self._outbox_of[request_id] = outbox
        request = call.build(now_ns)
        self._wire.request(
            request_id,
            request.method,
            request.base_url,
            request.target,
            request.headers,
            request.body,
            is_secret=call.is_secret,
            timeout_ns=call.timeout_ns,
        )


def retry_after_ns(headers: Mapping[str, str], default_ns: int) -> int:
    """The `Retry-After` header in ns; the default when it is missing or not a count of seconds."""
    text = headers.get("retry-after", "").strip()
    return int(text) * SECOND if text.isdecimal() else default_ns
