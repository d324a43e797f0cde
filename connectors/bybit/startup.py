"""What must be known and proved before Bybit is traded, and is looked at again while it is.

Clock, key, account mode, position mode, instruments, fees. A question that is not answered is asked again for ever: an
unreachable venue is no refusal. What is answered wrongly is refused in so many words.
Source: https://bybit-exchange.github.io/docs/v5/user/apikey-info and /v5/account/account-info, read 2026-07-24.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from connectors.bybit import endpoints, errors
from connectors.bybit.account import MISREAD, Account
from connectors.bybit.context import Context, Group, Reply
from connectors.bybit.symbols import fee_ppm, instrument_from_row
from connectors.session import MS, SECOND, Backoff, Priority
from engine.events import ClockOffset, FeeTier, InstrumentDefined, VenueNotice, VenueRefused
from engine.instrument import Instrument
from engine.types import Market, Venue
from engine.venue import InstrumentSpec, VenueSettings

CLOCK_SAMPLES: Final = 5
CLOCK_EVERY_NS: Final = 30 * SECOND
CLOCK_GUARD_NS: Final = SECOND
CLOCK_LIMIT_NS: Final = SECOND  # Bybit refuses timestamps that are this far ahead of it
KEY_EVERY_NS: Final = 600 * SECOND
INSTRUMENTS_EVERY_NS: Final = 60 * SECOND
MIN_KEY_DAYS: Final = 7
KEY_EXPIRED: Final = 33004
UNIFIED: Final = 3  # unifiedMarginStatus of the first unified account; 1 is the classic one

FORBIDDEN: Final = ("Withdraw", "AccountTransfer", "SubMemberTransfer")


def key_problems(key: Mapping[str, Any], settings: VenueSettings, markets: Sequence[Market]) -> list[str]:
    """Why this key must not be used; empty when it may."""
    permissions = key.get("permissions") or {}
    problems = [f"permission {word} is on" for word in FORBIDDEN if word in (permissions.get("Wallet") or ())]
    if key.get("readOnly") == 1:
        problems.append("the key is read-only")
    has_orders = "Order" in (permissions.get("ContractTrade") or ()) or permissions.get("Derivatives")
    if Market.LINEAR in markets and not has_orders:
        problems.append("permission to trade derivatives is missing")
    if Market.SPOT in markets and not permissions.get("Spot"):
        problems.append("permission to trade spot is missing")
    addresses = [address for address in key.get("ips") or () if address != "*"]
    if not addresses and not settings.allow_no_ip_restriction:
        problems.append("the key is not bound to addresses (allow_no_ip_restriction = false)")
    days = key.get("deadlineDay")
    # A key without a deadline answers a negative number (-2 in recorded frames).
    if isinstance(days, int) and 0 <= days < MIN_KEY_DAYS:
        problems.append(f"the key expires in {days} days, limit {MIN_KEY_DAYS}")
    return problems


class StartUp:
    """Runs once from `start`, then watches. `on_done` is called when everything is proved."""

    def __init__(
        self,
        context: Context,
        account: Account,
        specs: Sequence[InstrumentSpec],
        define: Callable[[Instrument, int], None],
        on_done: Callable[[int], None],
    ) -> None:
        self.is_done = False
        self.is_refused = False
        self.has_dead_man = False  # the account's dcpStatus
        self._context = context
        self._account = account
        self._specs = specs
        self._define = define
        self._on_done = on_done
        self._missing: dict[str, bool] = {}
        self._retries: list[tuple[int, Callable[[int], None]]] = []
        self._backoff = Backoff(int(Venue.BYBIT) + 77, SECOND, 30 * SECOND)
        self._samples: list[tuple[int, int]] = []  # (round trip, venue's clock minus ours)
        self._fees: dict[int, tuple[int, int]] = {}
        self._clock_at_ns = 0
        self._clock_measured_ns = 0
        self._is_clock_bad = False
        self._key_at_ns = 0
        self._instruments_at_ns = 0
        context.on_bad_clock = self.on_bad_clock

    @property
    def markets(self) -> list[Market]:
        return list(dict.fromkeys(spec.market for spec in self._specs))

    def start(self, now_ns: int) -> None:
        self._ask_clock(now_ns)

    def on_timer(self, now_ns: int) -> None:
        if self._retries:
            due = [call for at_ns, call in self._retries if now_ns >= at_ns]
            self._retries = [entry for entry in self._retries if now_ns < entry[0]]
            for call in due:
                call(now_ns)
        if not self.is_done or self.is_refused:
            return
        if now_ns >= self._clock_at_ns:
            self._measure_clock(now_ns)
        if now_ns >= self._instruments_at_ns:
            self._instruments_at_ns = now_ns + INSTRUMENTS_EVERY_NS
            self._ask_instruments(now_ns)
        if self._context.auth is not None and now_ns >= self._key_at_ns:
            self._key_at_ns = now_ns + KEY_EVERY_NS
            self._ask_account(now_ns)

    def on_bad_clock(self, now_ns: int) -> None:
        """An answer said that our timestamp is outside the window; at most one measurement a second follows."""
        if not self.is_done or self._is_clock_bad:
            return
        self._is_clock_bad = True
        self._clock_at_ns = max(now_ns, self._clock_measured_ns + CLOCK_GUARD_NS)
        if now_ns >= self._clock_at_ns:
            self._measure_clock(now_ns)

    # --- asking ---

    def _ask(
        self, step: str, path: str, query: str, take: Callable[[Reply, int], None], now_ns: int, **options: Any
    ) -> None:
        """Ask until it is answered; `step` stays missing until `take` says `_finish`."""

        def on_reply(reply: Reply, now_ns: int) -> None:
            if self.is_refused:
                return
            if reply.is_ok and self._is_taken(take, reply, now_ns):
                return
            if reply.code in errors.BAD_KEY or reply.code == KEY_EXPIRED:
                wrong = "; is it a key of another environment?" if reply.code == 10003 else ""
                self._refuse("key", f"{reply.code} {reply.text}{wrong}", now_ns)
            elif not self.is_done:
                self._retry(lambda at_ns: self._ask(step, path, query, take, at_ns, **options), now_ns)

        self._context.get(path, query, on_reply, now_ns, **options)

    def _is_taken(self, take: Callable[[Reply, int], None], reply: Reply, now_ns: int) -> bool:
        try:
            take(reply, now_ns)
        except MISREAD:
            self._account.misread += 1
            return False
        return True

    def _retry(self, call: Callable[[int], None], now_ns: int) -> None:
        at_ns = now_ns + self._backoff.next_ns()
        self._retries.append((at_ns, call))
        self._context.wire.set_timer(at_ns)

    def _refuse(self, category: str, reason: str, now_ns: int) -> None:
        self.is_refused = True
        self._context.emit(VenueRefused(now_ns, Venue.BYBIT, category, f"bybit: {reason}"))

    def _finish(self, step: str, now_ns: int) -> None:
        self._missing.pop(step, None)
        if not self._missing and not self.is_done and not self.is_refused:
            self.is_done = True
            self._clock_at_ns = now_ns + CLOCK_EVERY_NS
            self._key_at_ns = now_ns + KEY_EVERY_NS
            self._instruments_at_ns = now_ns + INSTRUMENTS_EVERY_NS
            self._on_done(now_ns)

    # --- clock ---

    def _measure_clock(self, now_ns: int) -> None:
        """One round trip more; all anew when the last ones gave a time that the venue does not take."""
        if self._is_clock_bad:
            self._samples.clear()
        self._clock_at_ns = now_ns + CLOCK_EVERY_NS
        self._ask_clock(now_ns)

    def _ask_clock(self, now_ns: int) -> None:
        self._ask(
            "clock", endpoints.SERVER_TIME, "", self._on_clock, now_ns, is_signed=False, priority=Priority.QUERY
        )  # fmt: skip

    def _on_clock(self, reply: Reply, now_ns: int) -> None:
        nano = reply.result.get("timeNano")
        venue_ns = int(nano) if nano else reply.time_ms * MS
        rtt_ns = now_ns - reply.sent_ns
        self._samples.append((rtt_ns, venue_ns - (reply.sent_ns + rtt_ns // 2)))
        del self._samples[:-CLOCK_SAMPLES]
        if len(self._samples) < CLOCK_SAMPLES:
            self._ask_clock(now_ns)
            return
        self._is_clock_bad = False
        self._clock_measured_ns = now_ns
        # The quickest of the last round trips says the most: its asymmetry is the smallest.
        rtt_ns, clock_ns = min(self._samples)
        self._context.venue_clock_ns = clock_ns
        offset_ns = clock_ns - self._context.utc_offset_ns
        self._context.emit(ClockOffset(now_ns, Venue.BYBIT, offset_ns, rtt_ns))
        if self.is_done:
            return
        if rtt_ns // 2 >= CLOCK_LIMIT_NS:
            text = f"round trips take {rtt_ns // MS} ms: the venue's time is not known well enough to sign"
            self._context.emit(VenueRefused(now_ns, Venue.BYBIT, "clock", text))
            self._samples.clear()
            self._context.venue_clock_ns = None
            self._retry(self._ask_clock, now_ns)
            return
        if not self._missing:
            self._ask_the_rest(now_ns)

    # --- the rest ---

    def _ask_the_rest(self, now_ns: int) -> None:
        self._missing = {self._instrument_step(spec): True for spec in self._specs}
        if self._context.auth is None:
            self._ask_instruments(now_ns)
            return
        self._missing |= dict.fromkeys(("key", "account"), True)
        for spec in self._specs:
            self._missing[f"fees {spec.index}"] = True
            if spec.market is Market.LINEAR:
                self._missing[f"mode {spec.index}"] = True
        self._ask_account(now_ns)
        self._ask_instruments(now_ns)
        for spec in self._specs:
            if spec.market is Market.LINEAR:
                self._ask_mode(spec, now_ns)

    def _instrument_step(self, spec: InstrumentSpec) -> str:
        return f"instrument {spec.index}"

    def _ask_instruments(self, now_ns: int) -> None:
        for spec in self._specs:

            def take(reply: Reply, now_ns: int, spec: InstrumentSpec = spec) -> None:
                self._on_instrument(spec, reply, now_ns)

            query = f"category={endpoints.CATEGORY[spec.market]}&symbol={spec.symbol}"
            self._ask(self._instrument_step(spec), endpoints.INSTRUMENTS, query, take, now_ns, is_signed=False)

    def _on_instrument(self, spec: InstrumentSpec, reply: Reply, now_ns: int) -> None:
        row = next((one for one in reply.rows if one.get("symbol") == spec.symbol), None)
        try:
            instrument = None if row is None else instrument_from_row(row, spec)
        except MISREAD as error:
            if not self.is_done:
                self._refuse("instruments", f"{spec.symbol} ({spec.market.name}) is not understood: {error!r}", now_ns)
            return
        if instrument is None:
            if not self.is_done:
                self._refuse("instruments", f"{spec.symbol} ({spec.market.name}) is not listed", now_ns)
            return
        known = self._context.instruments.get(spec.index)
        if known != instrument:
            self._redefine(known, instrument, now_ns)
        self._finish(self._instrument_step(spec), now_ns)

    def _redefine(self, known: Instrument | None, instrument: Instrument, now_ns: int) -> None:
        has_grid = known is None or (known.tick_size, known.lot_size) == (instrument.tick_size, instrument.lot_size)
        if not has_grid:
            # Books, orders and positions are counted in the old units: nothing that runs can take the new ones.
            text = f"{instrument.symbol}: tick or lot size changed; restart to trade it in the new units"
            self._refuse("instruments", text, now_ns)
            return
        self._define(instrument, now_ns)
        self._context.emit(InstrumentDefined(now_ns, instrument))

    def _ask_account(self, now_ns: int) -> None:
        """What the owner of the account may change while we run: the key's rights, margin mode, fees."""
        self._ask("key", endpoints.KEY_INFO, "", self._on_key, now_ns)
        self._ask("account", endpoints.ACCOUNT_INFO, "", self._on_account, now_ns)
        for spec in self._specs:
            self._ask_fees(spec, now_ns)

    def _on_key(self, reply: Reply, now_ns: int) -> None:
        problems = key_problems(reply.result, self._context.settings, self.markets)
        if problems:
            self._refuse("key", "; ".join(problems), now_ns)
            return
        self._finish("key", now_ns)

    def _on_account(self, reply: Reply, now_ns: int) -> None:
        status = reply.result.get("unifiedMarginStatus")
        if isinstance(status, int) and status < UNIFIED:
            self._refuse("mode", f"a unified account is needed, unifiedMarginStatus was {status}", now_ns)
            return
        self._account.margin_mode = str(reply.result.get("marginMode") or "")
        self.has_dead_man = reply.result.get("dcpStatus") == "ON"
        self._finish("account", now_ns)

    def _ask_fees(self, spec: InstrumentSpec, now_ns: int) -> None:
        def take(reply: Reply, now_ns: int) -> None:
            for row in reply.rows:
                if row.get("symbol") == spec.symbol:
                    self._on_fees(spec.index, fee_ppm(row["makerFeeRate"]), fee_ppm(row["takerFeeRate"]), now_ns)
            self._finish(f"fees {spec.index}", now_ns)

        query = f"category={endpoints.CATEGORY[spec.market]}&symbol={spec.symbol}"
        self._ask(f"fees {spec.index}", endpoints.FEE_RATE, query, take, now_ns, group=Group.FEES, market=spec.market)

    def _on_fees(self, index: int, maker_ppm: int, taker_ppm: int, now_ns: int) -> None:
        if self._fees.get(index) != (maker_ppm, taker_ppm):
            self._fees[index] = maker_ppm, taker_ppm
            self._context.emit(FeeTier(now_ns, index, maker_ppm, taker_ppm))

    def _ask_mode(self, spec: InstrumentSpec, now_ns: int) -> None:
        def take(reply: Reply, now_ns: int) -> None:
            if all(self._account.check_position_mode(row, now_ns) for row in reply.rows):
                self._finish(f"mode {spec.index}", now_ns)
            else:
                self.is_refused = True  # the account has said why

        query = f"category=linear&symbol={spec.symbol}"
        self._ask(f"mode {spec.index}", endpoints.POSITIONS, query, take, now_ns, group=Group.POSITIONS)

    # --- dead man's switch ---

    def arm_dead_man(self, on_armed: Callable[[str, int], None], now_ns: int) -> None:
        """Where the account has it, set its window for every product; `on_armed` gets the topic to subscribe."""
        window = self._context.settings.dead_man_ms // 1_000
        if not self.has_dead_man or window <= 0 or self._context.auth is None:
            return
        for market in self.markets:
            product, topic = ("SPOT", "dcp.spot") if market is Market.SPOT else ("DERIVATIVES", "dcp.future")
            body = f'{{"product":"{product}","timeWindow":{max(3, min(300, window))}}}'.encode()

            def on_reply(reply: Reply, now_ns: int, topic: str = topic) -> None:
                if reply.is_ok:
                    on_armed(topic, now_ns)
                else:
                    self.has_dead_man = False
                    self._context.emit(VenueNotice(now_ns, Venue.BYBIT, "dead_man_off"))

            call = self._context.post_call(endpoints.DEAD_MAN, body, on_reply)
            throttles = (self._context.limit(Group.DEAD_MAN, market), self._context.address_limit)
            self._context.rest.submit(call, self._context.outbox, Priority.QUERY, throttles, (1, 1), now_ns)
