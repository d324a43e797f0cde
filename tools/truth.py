"""Compare what the engine's ledger says with what the local exchange knows. For the demonstration and for tests.

The exchange's control API is the judge: positions, fills, balances and every order it ever saw.
"""

from __future__ import annotations

import json
import urllib.request
from decimal import Decimal
from typing import Any

from engine.ids import cl_ord_id_from_text
from engine.instrument import Instrument, atoms_from_text
from engine.state import State
from engine.types import InstrumentKind


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
        wallet = known["balances"].get("spot") or known["balances"]["unified"]
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
