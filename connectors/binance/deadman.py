"""USD-M's dead man's switch: `countdownCancelAll`, one countdown a symbol.

Armed while an order of ours may rest on the symbol, set again at a third of the countdown, and switched off when
nothing rests any more: a countdown left running would cancel the orders of later. Spot has none.
Source: USD-M "Auto-Cancel All Open Orders"; read 2026-11-22.
"""

from __future__ import annotations

from typing import Final

from connectors.binance.context import Context, MarketSide
from connectors.binance.endpoints import WEIGHT_DEAD_MAN
from connectors.binance.live import Live
from connectors.rest import RestAnswer
from connectors.session import MS, Priority

PATH: Final = "/fapi/v1/countdownCancelAll"


class DeadMan:
    def __init__(self, ctx: Context, side: MarketSide, live: Live) -> None:
        self._ctx = ctx
        self._side = side
        self._live = live
        self._countdown_ms = ctx.settings.dead_man_ms
        self._next_ns: dict[int, int] = {}  # armed instrument -> when to arm again
        self._in_flight: dict[int, int] = {}

    @property
    def armed(self) -> list[int]:
        return list(self._next_ns)

    def on_rested(self, instrument: int, now_ns: int) -> None:
        """An order that may rest was sent."""
        if self._countdown_ms and instrument in self._side.by_index and now_ns >= self._next_ns.get(instrument, 0):
            self._set(instrument, self._countdown_ms, now_ns)

    def on_timer(self, now_ns: int) -> None:
        if not self._countdown_ms:
            return
        for instrument, at_ns in list(self._next_ns.items()):
            if now_ns >= at_ns:
                is_resting = instrument in self._live.resting
                self._set(instrument, self._countdown_ms if is_resting else 0, now_ns)
        for instrument in self._live.resting:
            if instrument not in self._next_ns:
                self.on_rested(instrument, now_ns)

    def stop(self, now_ns: int) -> None:
        """Switch off where nothing rests; where something does, the countdown is the last guard and stays."""
        for instrument in list(self._next_ns):
            if instrument not in self._live.resting:
                self._set(instrument, 0, now_ns)
        self._countdown_ms = 0

    def _set(self, instrument: int, countdown_ms: int, now_ns: int) -> None:
        if countdown_ms:
            self._next_ns[instrument] = now_ns + countdown_ms * MS // 3
        else:
            self._next_ns.pop(instrument, None)
        if countdown_ms and self._in_flight.get(instrument, 0):
            return  # the venue is slow: one at a time, the next one follows at its time
        self._in_flight[instrument] = self._in_flight.get(instrument, 0) + 1

        def on_answer(answer: RestAnswer, now_ns: int) -> None:
            self._in_flight[instrument] -= 1

        symbol = self._side.by_index[instrument].instrument.symbol
        params = f"symbol={symbol}&countdownTime={countdown_ms}"
        self._ctx.call(self._side, "POST", PATH, params, WEIGHT_DEAD_MAN, on_answer, now_ns, priority=Priority.CANCEL)
