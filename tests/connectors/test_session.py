"""Sockets, queues and pending requests, in time that the test gives."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from connectors.session import (
    Backoff,
    ChannelPair,
    ChannelSession,
    Outbox,
    Outgoing,
    PendingRequests,
    Priority,
    SessionPolicy,
    jitter,
)
from engine.types import ConnState
from ext.throttle import CALENDAR, ROLLING, Throttle
from tests.connectors.fake_wire import MS, SECOND, FakeWire

POLICY = SessionPolicy(
    connect_timeout_ns=10 * SECOND,
    ack_timeout_ns=5 * SECOND,
    ping_interval_ns=3 * SECOND,
    silence_ns=8 * SECOND,
    renewal_ns=100 * SECOND,
    drain_ns=2 * SECOND,
    topics_per_request=2,
    request_gap_ns=250 * MS,
)


class Owner:
    def __init__(self, *, login: bytes | None = None) -> None:
        self.login = login
        self.url = "ws://127.0.0.1:1/x"
        self.states: list[tuple[int, ConnState, str]] = []

    def channel_url(self, channel: int) -> str:
        return self.url

    def channel_login(self, channel: int, now_ns: int) -> bytes | None:
        return self.login

    def channel_ping(self, channel: int, now_ns: int) -> bytes:
        return b"ping"

    def channel_subscribe(self, channel: int, request_id: int, topics: Sequence[str], is_subscribe: bool) -> bytes:
        return f"{'sub' if is_subscribe else 'unsub'} {request_id} {','.join(topics)}".encode()

    def channel_changed(self, channel: int, state: ConnState, reason: str, now_ns: int) -> None:
        self.states.append((channel, state, reason))


def make(policy: SessionPolicy = POLICY, login: bytes | None = None) -> tuple[FakeWire, Owner, ChannelSession]:
    wire, owner = FakeWire(), Owner(login=login)
    return wire, owner, ChannelSession(7, wire, owner, policy)


def connect(wire: FakeWire, session: ChannelSession, now_ns: int) -> None:
    wire.connected.add(session.channel)
    session.on_connected(now_ns)


def test_session_is_up_only_when_every_subscription_is_acknowledged() -> None:
    wire, _, session = make()
    session.subscribe(["a", "b", "c"], 0)
    session.open(0)
    connect(wire, session, 1)
    assert [payload for _, payload in wire.sent] == [b"sub 1 a,b"]
    session.on_ack(1, True, 2)
    assert session.state is ConnState.CONNECTING
    session.on_timer(1 + 250 * MS)
    assert wire.sent[-1][1] == b"sub 2 c"
    assert session.on_ack(2, True, 3) == ["c"]
    assert session.state is ConnState.UP


def test_log_in_comes_before_subscriptions() -> None:
    wire, _, session = make(login=b"login")
    session.subscribe(["a"], 0)
    session.open(0)
    connect(wire, session, 1)
    assert [payload for _, payload in wire.sent] == [b"login"]
    session.logged_in(2)
    assert wire.sent[-1][1] == b"sub 1 a"


@pytest.mark.parametrize("login", [None, b"login"])
def test_unanswered_log_in_or_subscription_closes_and_connects_again(login: bytes | None) -> None:
    wire, owner, session = make(login=login)
    session.subscribe(["a"], 0)
    session.open(0)
    connect(wire, session, 0)
    session.on_timer(5 * SECOND)
    assert wire.closes == [7]
    session.on_disconnected("closed", 5 * SECOND)
    session.on_timer(6 * SECOND)
    assert len(wire.connects) == 2
    assert [state for _, state, _ in owner.states] == [ConnState.CONNECTING, ConnState.DOWN, ConnState.CONNECTING]


def test_silent_socket_is_pinged_and_then_given_up() -> None:
    wire, owner, session = make()
    session.open(0)
    connect(wire, session, 0)
    session.on_timer(3 * SECOND)
    assert wire.sent[-1][1] == b"ping"
    session.last_recv_ns = 3 * SECOND
    session.on_timer(10 * SECOND)
    assert session.state is ConnState.UP
    session.on_timer(11 * SECOND)
    assert session.state is ConnState.DOWN
    assert "silent" in owner.states[-1][2]


def test_next_connection_waits_for_the_end_of_the_one_that_was_closed() -> None:
    wire, _, session = make()
    session.open(0)
    connect(wire, session, 0)
    session.reconnect("test", SECOND)
    session.on_timer(3 * SECOND)
    assert len(wire.connects) == 1
    session.on_disconnected("closed", 3 * SECOND)
    session.on_timer(3 * SECOND + 1)
    assert len(wire.connects) == 2


def test_backoff_doubles_to_its_cap_with_jitter_that_is_the_same_each_time() -> None:
    delays = [Backoff(3, 100, 1_600).next_ns() for _ in range(3)]
    assert len(set(delays)) == 1
    backoff = Backoff(3, 100, 1_600)
    drawn = [backoff.next_ns() for _ in range(8)]
    for at, delay in enumerate(drawn):
        top = min(1_600, 100 << at)
        assert top // 2 <= delay <= top
    backoff.reset()
    assert backoff.next_ns() <= 100


def test_jitter_spreads_over_its_whole_span() -> None:
    values = {jitter(1, counter, 10) for counter in range(200)}
    assert values == set(range(10))


def test_refused_connections_are_spaced_by_the_backoff() -> None:
    wire, _, session = make()
    session.open(0)
    now_ns = 0
    for _ in range(300):
        now_ns += 100 * MS
        if wire.connects:
            wire.connects.clear()
            session.on_disconnected("refused", now_ns)
        session.on_timer(now_ns)
    assert 5 <= session.connect_count <= 12


def test_pair_brings_the_replacement_up_before_it_retires_the_old_socket() -> None:
    wire, owner = FakeWire(), Owner()
    pair = ChannelPair(ChannelSession(1, wire, owner, POLICY), ChannelSession(2, wire, owner, POLICY))
    pair.open(0)
    first = pair.active
    wire.connected.add(1)
    first.on_connected(0)
    assert pair.take_change() is ConnState.UP
    first.last_recv_ns = 99 * SECOND
    pair.on_timer(100 * SECOND)
    assert wire.connects[-1][0] == 2
    assert pair.active is first
    wire.connected.add(2)
    pair.spare.on_connected(100 * SECOND + 1)
    pair.advance(100 * SECOND + 1)
    assert pair.active.channel == 2
    assert pair.take_change() is None
    assert wire.closes == []
    first.last_recv_ns = pair.active.last_recv_ns = 102 * SECOND
    pair.on_timer(103 * SECOND)
    assert wire.closes == [1]
    assert pair.take_change() is None


def test_pair_survives_the_loss_of_the_old_socket_while_it_is_replaced() -> None:
    wire, owner = FakeWire(), Owner()
    pair = ChannelPair(ChannelSession(1, wire, owner, POLICY), ChannelSession(2, wire, owner, POLICY))
    pair.open(0)
    wire.connected.update((1, 2))
    pair.active.on_connected(0)
    pair.take_change()
    pair.renew(SECOND)
    pair.active.on_disconnected("reset", SECOND)
    assert pair.take_change() is ConnState.DOWN
    pair.spare.on_connected(2 * SECOND)
    pair.advance(2 * SECOND)
    assert (pair.active.channel, pair.take_change()) == (2, ConnState.UP)


# --- the queue ---


def outgoing(
    priority: Priority, log: list[str], name: str, throttle: Throttle, deadline_ns: int = 0, *, can: bool = True
) -> Outgoing:
    def transmit(now_ns: int) -> bool:
        if can:
            log.append(name)
        return can

    return Outgoing(
        priority,
        (throttle,),
        (1,),
        transmit,
        (lambda now_ns: log.append(f"late {name}")) if deadline_ns else None,
        deadline_ns,
    )


def test_message_that_fits_leaves_at_once() -> None:
    log: list[str] = []
    throttle = Throttle(10, SECOND, ROLLING)
    Outbox(FakeWire()).submit(outgoing(Priority.NEW, log, "new", throttle), 0)
    assert log == ["new"]
    assert throttle.used(0) == 1


def test_waiting_cancel_leaves_before_waiting_new_orders() -> None:
    log: list[str] = []
    throttle = Throttle(2, SECOND, CALENDAR, 0)
    outbox = Outbox(FakeWire())
    for name, priority in (("a", Priority.NEW), ("b", Priority.NEW), ("c", Priority.NEW), ("x", Priority.CANCEL)):
        outbox.submit(outgoing(priority, log, name, throttle), 0)
    assert log == ["a", "b"]
    assert outbox.waiting == 2
    outbox.pump(2 * SECOND)
    assert log == ["a", "b", "x", "c"]
    assert outbox.waiting == 0


def test_new_order_that_waited_too_long_is_never_sent() -> None:
    log: list[str] = []
    throttle = Throttle(1, SECOND, CALENDAR, 0)
    outbox = Outbox(FakeWire())
    outbox.submit(outgoing(Priority.NEW, log, "a", throttle), 0)
    outbox.submit(outgoing(Priority.NEW, log, "b", throttle, 250 * MS), 0)
    outbox.submit(outgoing(Priority.CANCEL, log, "x", throttle), 0)
    outbox.pump(2 * SECOND)
    assert log == ["a", "late b", "x"]
    assert (outbox.waiting, outbox.expired) == (0, 1)


def test_message_whose_channel_is_down_holds_up_nobody() -> None:
    log: list[str] = []
    throttle = Throttle(10, SECOND, ROLLING)
    outbox = Outbox(FakeWire())
    outbox.submit(outgoing(Priority.CANCEL, log, "x", throttle, can=False), 0)
    outbox.submit(outgoing(Priority.NEW, log, "a", throttle), 0)
    assert log == ["a"]
    assert throttle.used(0) == 1


def test_clear_lets_everything_below_a_priority_expire() -> None:
    log: list[str] = []
    throttle = Throttle(1, SECOND, CALENDAR, 0)
    outbox = Outbox(FakeWire())
    for name, priority in (("a", Priority.NEW), ("b", Priority.NEW), ("x", Priority.CANCEL)):
        outbox.submit(outgoing(priority, log, name, throttle, 9 * SECOND), 0)
    outbox.clear(Priority.HEDGE, 1)
    assert log == ["a", "late b"]
    assert outbox.waiting == 1


# --- pending requests ---


def test_pending_request_is_given_back_once_by_answer_deadline_or_channel() -> None:
    pending: PendingRequests[str] = PendingRequests()
    pending.add(1, "a", 10, channel=7)
    pending.add(2, "b", 20, channel=7)
    pending.add(3, "c", 30, channel=8)
    assert pending.pop(1) == "a"
    assert pending.pop(1) is None
    assert pending.take_expired(20) == ["b"]
    assert pending.has_channel(8)
    assert pending.take_channel(8) == ["c"]
    assert len(pending) == 0
