"""HTTP requests: identifiers, retries of reads, one sending of everything else."""

from __future__ import annotations

from collections.abc import Mapping

from connectors.rest import (
    REQUEST_ID_SHIFT,
    RestAnswer,
    RestCall,
    RestClient,
    RestRequest,
    Verdict,
    retry_after_ns,
    venue_of_request,
)
from connectors.session import Outbox, Priority
from engine.types import Venue
from ext.throttle import CALENDAR, Throttle
from tests.connectors.fake_wire import MS, SECOND, FakeWire


class Policy:
    def __init__(self, throttle: Throttle) -> None:
        self.throttle = throttle

    def judge(self, request: RestCall, status: int, headers: Mapping[str, str], body: bytes, now_ns: int) -> Verdict:
        if status == 429:
            self.throttle.freeze(now_ns + 2 * SECOND, Priority.HEDGE)
            return Verdict.WAIT
        return Verdict.RETRY if status in (0, 500) else Verdict.DONE


class Client:
    def __init__(self, *, is_read: bool = True) -> None:
        self.wire = FakeWire()
        self.throttle = Throttle(10, 10 * SECOND, CALENDAR)
        self.client = RestClient(Venue.BINANCE, self.wire, Policy(self.throttle))
        self.outbox = Outbox(self.wire)
        self.answers: list[RestAnswer] = []
        self.builds: list[int] = []
        self.call = RestCall("GET /x", self.build, self.on_answer, is_read=is_read)

    def build(self, now_ns: int) -> RestRequest:
        self.builds.append(now_ns)
        return RestRequest("GET", "http://127.0.0.1:1", f"/x?t={now_ns}")

    def on_answer(self, answer: RestAnswer, now_ns: int) -> None:
        self.answers.append(answer)

    def submit(self, now_ns: int = 0, deadline_ns: int = 0) -> None:
        self.client.submit(self.call, self.outbox, Priority.QUERY, (self.throttle,), (1,), now_ns, deadline_ns)

    def answer(self, status: int, now_ns: int, headers: Mapping[str, str] | None = None) -> None:
        self.client.on_response(self.wire.requests[-1].request_id, status, headers or {}, b"{}", now_ns)


def test_request_id_names_its_venue() -> None:
    client = Client()
    client.submit()
    request_id = client.wire.requests[0].request_id
    assert venue_of_request(request_id) == Venue.BINANCE
    assert request_id == Venue.BINANCE << REQUEST_ID_SHIFT | 1


def test_read_is_repeated_after_a_backoff_and_built_anew() -> None:
    client = Client()
    client.submit(now_ns=5)
    client.answer(500, 10)
    assert client.answers == []
    client.client.on_timer(11)
    assert len(client.wire.requests) == 1
    client.client.on_timer(SECOND)
    assert client.builds == [5, SECOND]
    client.answer(200, SECOND + 1)
    assert [answer.status for answer in client.answers] == [200]


def test_read_is_given_up_after_a_bounded_number_of_attempts() -> None:
    client = Client()
    client.submit()
    for at in range(1, 10):
        if client.answers:
            break
        client.answer(0, at * 10 * SECOND)
        client.client.on_timer(at * 10 * SECOND + 9 * SECOND)
    assert len(client.wire.requests) == 4
    assert [answer.status for answer in client.answers] == [0]


def test_write_is_sent_once_whatever_comes_back() -> None:
    client = Client(is_read=False)
    client.submit()
    client.answer(500, 10)
    client.client.on_timer(10 * SECOND)
    assert len(client.wire.requests) == 1
    assert [answer.status for answer in client.answers] == [500]


def test_rate_limited_read_waits_for_the_venue() -> None:
    client = Client()
    client.submit()
    client.answer(429, MS)
    client.client.on_timer(SECOND)
    client.outbox.pump(SECOND)
    assert len(client.wire.requests) == 1
    client.outbox.pump(2 * SECOND + 2 * MS)
    assert len(client.wire.requests) == 2


def test_answer_that_never_comes_is_lost_and_a_repeated_one_ignored() -> None:
    client = Client(is_read=False)
    client.submit()
    client.client.on_timer(6 * SECOND)
    assert client.answers == []
    client.client.on_timer(7 * SECOND)
    assert [(answer.status, answer.was_sent) for answer in client.answers] == [(0, True)]
    client.answer(200, 8 * SECOND)
    assert len(client.answers) == 1
    assert client.client.unknown_answers == 1


def test_request_that_missed_its_deadline_in_the_queue_says_that_it_was_not_sent() -> None:
    client = Client(is_read=False)
    client.throttle.freeze(SECOND, Priority.CANCEL)
    client.submit(0, deadline_ns=100 * MS)
    client.outbox.pump(200 * MS)
    assert [(answer.status, answer.was_sent) for answer in client.answers] == [(0, False)]
    assert client.wire.requests == []


def test_retry_after_is_read_in_seconds_and_defaults() -> None:
    assert retry_after_ns({"retry-after": "7"}, 1) == 7 * SECOND
    assert retry_after_ns({"retry-after": "soon"}, 1) == 1
    assert retry_after_ns({}, 1) == 1
