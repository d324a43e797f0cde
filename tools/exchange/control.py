"""The control API under `/control/`: the venues' own truth for tests and for the engine's last check, and the faults.

`GET state [?account=&venue=]`, `GET books [?depth=]`, `GET faults`, `POST fault` (a FaultSpec as JSON),
`POST clear [?id=]`, `POST market` (pause, shock, state). Every request carries the token in `X-Control-Token`.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec
import orjson

from engine.instrument import text_from_atoms
from engine.types import InstrumentState, Market, Side
from tools.exchange.account import Account
from tools.exchange.bybit.front import BybitFront
from tools.exchange.core import VenueCore
from tools.exchange.faults import FaultSpec, preset
from tools.exchange.front import HttpAnswer
from tools.exchange.market import SyntheticMarket
from tools.exchange.model import Fill, Order

if TYPE_CHECKING:
    from tools.exchange.exchange import Exchange


class MarketCommand(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /control/market`; every field is optional."""

    pause: bool | None = None
    shock: str = ""  # base asset
    bps: float = 0.0
    venue: str = ""  # of `symbol`
    market: str = "linear"
    symbol: str = ""
    state: str = ""  # an InstrumentState
    cancel_orders: bool = False
    funding_rate_e8: int | None = None
    restart_books: bool = False  # Bybit: snapshots with u = 1, as after a restart of the service


class BadCommand(Exception):
    """What the caller asked for cannot be done."""


def order_row(order: Order) -> dict[str, Any]:
    listing = order.listing
    return {
        "order_id": str(order.order_id),
        "client_id": order.client_id,
        "market": listing.market.name.lower(),
        "symbol": listing.symbol,
        "side": order.side.name,
        "type": order.ord_type.name,
        "tif": order.tif.name,
        "px": listing.px_text(order.px_ticks),
        "qty": listing.qty_text(order.qty_lots),
        "cum_qty": listing.qty_text(order.cum_lots),
        "cum_quote": text_from_atoms(order.cum_quote),
        "status": order.status.name,
        "reason": order.reason.name,
        "is_open": order.is_open,
        "created_ns": order.created_ns,
        "updated_ns": order.updated_ns,
    }


def fill_row(fill: Fill) -> dict[str, Any]:
    listing = fill.listing
    return {
        "exec_id": str(fill.exec_id),
        "trade_id": str(fill.trade_id),
        "order_id": str(fill.order.order_id),
        "client_id": fill.order.client_id,
        "market": listing.market.name.lower(),
        "symbol": listing.symbol,
        "side": fill.side.name,
        "px": listing.px_text(fill.px_ticks),
        "qty": listing.qty_text(fill.qty_lots),
        "fee": text_from_atoms(fill.fee_atoms),
        "fee_asset": fill.fee_asset,
        "is_maker": fill.is_maker,
        "ts_ns": fill.ts_ns,
    }


def balances_of(account: Account) -> dict[str, dict[str, dict[str, str]]]:
    wallets = (
        {"unified": account.spot}
        if account.linear is account.spot
        else {
            "spot": account.spot,
            "linear": account.linear,
        }
    )
    return {
        name: {
            asset: {"free": text_from_atoms(balance.free), "locked": text_from_atoms(balance.locked)}
            for asset, balance in wallet.items()
        }
        for name, wallet in wallets.items()
    }


def account_state(core: VenueCore, account: Account) -> dict[str, Any]:
    """Everything the venue knows of one account, undelayed."""
    orders = [order_row(order) for order in account.orders.values()]
    return {
        "orders": orders,
        "open_orders": [row for row in orders if row["is_open"]],
        "fills": [fill_row(fill) for fill in account.fills],
        "positions": {
            f"{position.listing.market.name.lower()}:{position.listing.symbol}": {
                "qty": position.listing.qty_text(position.qty_lots),
                "cost": text_from_atoms(position.cost_atoms),
                "realized": text_from_atoms(position.realized_atoms),
                "fees": text_from_atoms(position.fee_atoms),
                "funding": text_from_atoms(position.funding_atoms),
            }
            for position in account.positions.values()
        },
        "balances": balances_of(account),
    }


class Control:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def http(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, now_ns: int
    ) -> HttpAnswer:
        token = headers.get("x-control-token", "")
        if not hmac.compare_digest(token.encode(), self._exchange.settings.control_token.encode()):
            return _answer(401, {"error": "X-Control-Token is missing or wrong"})
        name = f"{method} {path.removeprefix('/control/')}"
        handler = {
            "GET state": self._state,
            "GET books": self._books,
            "GET faults": self._faults,
            "POST fault": self._fault,
            "POST clear": self._clear,
            "POST market": self._market,
            "GET check": self._check,
        }.get(name)
        if handler is None:
            return _answer(404, {"error": f"no such command: {name}"})
        try:
            return _answer(200, handler({key: values[-1] for key, values in parse_qs(query).items()}, body, now_ns))
        except (BadCommand, ValueError, KeyError, msgspec.ValidationError) as error:
            return _answer(400, {"error": str(error)})

    def _state(self, query: Mapping[str, str], body: bytes, now_ns: int) -> dict[str, Any]:
        exchange = self._exchange
        accounts: dict[str, dict[str, Any]] = {}
        wanted, venue = query.get("account", ""), query.get("venue", "")
        for name, core in exchange.cores.items():
            if venue not in ("", name):
                continue
            for account in core.accounts.values():
                if not account.unlimited and wanted in ("", account.name):
                    accounts.setdefault(account.name, {})[name] = account_state(core, account)
        if wanted and not accounts:
            raise BadCommand(f"no account {wanted!r}")
        return {
            "utc_ns": now_ns,
            "started_ns": exchange.started_ns,
            "accounts": accounts,
            "faults": dict(exchange.plan.counts),
            "market": dict(exchange.source.counters()) if exchange.source is not None else {},
            "connections": [
                {
                    "id": conn.conn_id,
                    "venue": conn.venue,
                    "channel": conn.channel,
                    "path": conn.path,
                    "sent": conn.sent,
                    "received": conn.received,
                }
                for conn in exchange.conns.values()
            ],
        }

    def _books(self, query: Mapping[str, str], body: bytes, now_ns: int) -> dict[str, Any]:
        depth = int(query.get("depth", "5"))
        books = {}
        for name, core in self._exchange.cores.items():
            for listing in core.listings:
                books[f"{name}.{listing.market.name.lower()}.{listing.symbol}"] = {
                    word: [[listing.px_text(px), listing.qty_text(qty)] for px, qty in core.depth(listing, side, depth)]
                    for word, side in (("bids", Side.BUY), ("asks", Side.SELL))
                }
        return {"utc_ns": now_ns, "books": books}

    def _faults(self, query: Mapping[str, str], body: bytes, now_ns: int) -> dict[str, Any]:
        plan = self._exchange.plan
        return {"faults": plan.rows(), "counts": dict(plan.counts)}

    def _fault(self, query: Mapping[str, str], body: bytes, now_ns: int) -> dict[str, Any]:
        """One FaultSpec, a list of them, or `{"preset": NAME}`."""
        message = orjson.loads(body)
        if isinstance(message, dict) and set(message) == {"preset"}:
            specs = preset(message["preset"])
        else:
            specs = msgspec.convert(message if isinstance(message, list) else [message], list[FaultSpec])
        ids = [self._exchange.plan.add(spec, now_ns) for spec in specs]
        # What is due at once is in force when the caller has the answer.
        self._exchange.act_on_faults(now_ns)
        return {"ids": ids}

    def _clear(self, query: Mapping[str, str], body: bytes, now_ns: int) -> dict[str, Any]:
        ended = self._exchange.plan.clear(now_ns, int(query.get("id", "0")))
        self._exchange.shell.restore()
        return {"ended": ended}

    def _market(self, query: Mapping[str, str], body: bytes, now_ns: int) -> dict[str, Any]:
        command = msgspec.json.decode(body, type=MarketCommand)
        source = self._exchange.source
        if command.pause is not None:
            if source is None:
                raise BadCommand("there is no market to pause")
            source.is_paused = command.pause
        if command.shock:
            if not isinstance(source, SyntheticMarket) or command.shock not in source.latents:
                raise BadCommand(f"no synthetic price of {command.shock!r}")
            source.shock(command.shock, command.bps)
        if command.symbol:
            self._listing_command(command, now_ns)
        return {"ok": True}

    def _listing_command(self, command: MarketCommand, now_ns: int) -> None:
        core = self._exchange.cores.get(command.venue)
        listing = None if core is None else core.listing(Market[command.market.upper()], command.symbol)
        if core is None or listing is None:
            raise BadCommand(f"no listing {command.venue}.{command.market}.{command.symbol}")
        if command.state:
            core.set_state(listing, InstrumentState[command.state], now_ns, cancel_orders=command.cancel_orders)
        if command.funding_rate_e8 is not None:
            core.apply_funding(listing, command.funding_rate_e8, now_ns)
        front = self._exchange.fronts[command.venue]
        if command.restart_books and isinstance(front, BybitFront):
            front.restart_books(listing, now_ns)

    def _check(self, query: Mapping[str, str], body: bytes, now_ns: int) -> dict[str, Any]:
        """Assert every invariant of the venues' books and accounts."""
        problems = []
        for name, core in self._exchange.cores.items():
            try:
                core.check()
            except AssertionError as error:
                problems.append(f"{name}: {error}")
        return {"ok": not problems, "problems": problems}


def _answer(status: int, content: Mapping[str, Any]) -> HttpAnswer:
    return HttpAnswer(status, orjson.dumps(content), {"Content-Type": "application/json"})
