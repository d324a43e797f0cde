"""Compare what the engine's ledger says with what the local exchange knows. For the demonstration and for tests.

The exchange's control API is the judge: positions, fills, balances and every order it ever saw.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from engine.config import EngineConfig
from engine.ids import cl_ord_id_from_text
from engine.instrument import Instrument, atoms_from_text
from engine.ledger import LedgerRecord, OrderFilled, OrderPlaced
from engine.state import State
from engine.types import InstrumentKind, Side


def control(port: int, command: str, body: Any = None, *, token: str = "local-control") -> Any:
    """One call of the control API; GET without a body, POST with one."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/control/{command}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"X-Control-Token": token, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def exchange_state(port: int, account: str = "demo") -> dict[str, Any]:
    """{venue: {orders, open_orders, fills, positions, balances}} of one account."""
    accounts = control(port, f"state?account={account}")["accounts"]
    found: dict[str, Any] = accounts[account]
    return found


def differences(state: State, truth: dict[str, Any]) -> list[str]:
    """Every difference in positions, spot holdings, fills, open orders and intents; empty when they agree."""
    found: list[str] = []
    for instrument in state.portfolio.instruments.values():
        found += instrument_differences(state, instrument, truth[instrument.venue.name.lower()])
    for venue, known in truth.items():
        for order in known["open_orders"]:
            if cl_ord_id_from_text(order["client_id"]):
                found.append(f"{venue} order {order['client_id']} is still open")
    return found


def instrument_differences(state: State, instrument: Instrument, known: dict[str, Any]) -> list[str]:
    found: list[str] = []
    position = state.portfolio.positions.get(instrument.index)
    market = instrument.market.name.lower()
    theirs = [f for f in known["fills"] if (f["market"], f["symbol"]) == (market, instrument.symbol)]
    bought = sum(Decimal(f["qty"]) for f in theirs if f["side"] == "BUY")
    sold = sum(Decimal(f["qty"]) for f in theirs if f["side"] == "SELL")
    ours = (
        (instrument.lot_size * position.bought_lots, instrument.lot_size * position.sold_lots)
        if position
        else (Decimal(0), Decimal(0))
    )
    if ours != (bought, sold):
        found.append(f"{instrument.name}: fills {ours[0]} bought {ours[1]} sold, exchange {bought} and {sold}")
    if instrument.kind is InstrumentKind.SPOT:
        balances = known["balances"]
        wallet = balances["spot"] if "spot" in balances else balances["unified"]
        row = wallet.get(instrument.base, {"free": "0", "locked": "0"})
        total = atoms_from_text(row["free"]) + atoms_from_text(row["locked"])
        holding = state.portfolio.holdings.get((instrument.venue, instrument.base))
        expected = holding.expected_atoms if holding else 0
        if expected != total:
            found.append(f"{instrument.name}: holding {expected} atoms, exchange {total}")
        return found
    row = known["positions"].get(f"{market}:{instrument.symbol}", {"qty": "0"})
    held = instrument.lot_size * (position.qty_lots if position else 0)
    if held != Decimal(row["qty"]):
        found.append(f"{instrument.name}: position {held}, exchange {row['qty']}")
    return found


def orders_without_intent(intents: set[int], truth: dict[str, Any]) -> list[str]:
    """Orders of ours that the exchange saw and the journal did not: there must be none."""
    return [
        f"{venue} {order['client_id']}"
        for venue, known in truth.items()
        for order in known["orders"]
        if cl_ord_id_from_text(order["client_id"]) and cl_ord_id_from_text(order["client_id"]) not in intents
    ]


def limits_exceeded(records: Iterable[LedgerRecord], config: EngineConfig, start: State) -> list[str]:
    """Fold a run's ledger and hold every moment of it against the configured position limits.

    Open and unknown orders count in full on their side, whatever became of them. Independent of the gate: it sums
    what the ledger says, with nothing the gate has kept.
    """
    found: list[str] = []
    for record in records:
        start.apply(record)
        if isinstance(record, OrderPlaced | OrderFilled):
            found += over_limits(start, config)
        if len(found) > 10:
            break
    return found


def over_limits(state: State, config: EngineConfig) -> list[str]:
    portfolio = state.portfolio
    worst: dict[str, list[int]] = {base: [0, 0] for base in config.risk.underlyings}
    found: list[str] = []
    for index, instrument in portfolio.instruments.items():
        held = portfolio.position_lots(index)
        mine = [order for order in state.open_orders.values() if order.instrument == index]
        buys = sum(order.leaves_qty_lots for order in mine if order.side is Side.BUY)
        sells = sum(order.leaves_qty_lots for order in mine if order.side is Side.SELL)
        per_lot = instrument.base_atoms_per_lot
        limit = atoms_from_text(config.instruments[index].max_position)
        if max(held + buys, sells - held) * per_lot > limit:
            found.append(f"{instrument.name}: {held} lots, {buys} and {sells} open, limit {limit} atoms")
        worst[instrument.base][0] += (held + buys) * per_lot
        worst[instrument.base][1] += (sells - held) * per_lot
    for base, (long_atoms, short_atoms) in worst.items():
        limits = config.risk.underlyings[base]
        if long_atoms > atoms_from_text(limits.max_long) or short_atoms > atoms_from_text(limits.max_short):
            found.append(f"{base}: worst case {long_atoms} long, {short_atoms} short")
    return found
