"""USD-M account, positions, margin settings. Formulas of the margin are the account's; this prints them."""

from __future__ import annotations

from typing import Any

from engine.types import Market
from tools.exchange.account import Account, Position
from tools.exchange.binance.errors import ApiError, usdm_error
from tools.exchange.binance.render import MS, money
from tools.exchange.binance.request import Request, need_listing, some_listing
from tools.exchange.core import VenueCore
from tools.exchange.model import Listing, Refused, fixed_text

Json = dict[str, Any]


class UsdmAccount:
    def __init__(self, core: VenueCore) -> None:
        self.core = core

    def _account(self, request: Request) -> Account:
        return self.core.accounts[request.account_id]

    def _asset_row(self, account: Account, asset: str) -> Json:
        wallet = account.balance(Market.LINEAR, asset).free
        unrealized = account.unrealized(asset)
        listings = account.margin_listings(asset)
        initial = sum(account.initial_margin(each) for each in listings)
        positions = sum(account.position_margin(each) for each in listings)
        available = max(0, account.available(asset))
        return {
            "asset": asset,
            "walletBalance": money(wallet),
            "unrealizedProfit": money(unrealized),
            "marginBalance": money(wallet + unrealized),
            "maintMargin": money(sum(account.maintenance_margin(each) for each in listings)),
            "initialMargin": money(initial),
            "positionInitialMargin": money(positions),
            "openOrderInitialMargin": money(initial - positions),
            "crossWalletBalance": money(wallet),
            "crossUnPnl": money(unrealized),
            "availableBalance": money(available),
            "maxWithdrawAmount": money(min(available, max(0, wallet))),
            "marginAvailable": True,
            "updateTime": account.updated_ns // MS,
        }

    def _assets(self, account: Account) -> list[str]:
        settles = {listing.instrument.settle: None for listing in self.core.listings if not listing.is_spot}
        return list(settles | dict.fromkeys(account.linear))

    def account(self, request: Request) -> Json:
        return self._account_row(request, is_v2=False)

    def account_v2(self, request: Request) -> Json:
        return self._account_row(request, is_v2=True)

    def _account_row(self, request: Request, *, is_v2: bool) -> Json:
        account = self._account(request)
        assets = [self._asset_row(account, asset) for asset in self._assets(account)]
        usdt = next((row for row in assets if row["asset"] == "USDT"), assets[0])
        totals = {
            "totalInitialMargin": usdt["initialMargin"],
            "totalMaintMargin": usdt["maintMargin"],
            "totalWalletBalance": usdt["walletBalance"],
            "totalUnrealizedProfit": usdt["unrealizedProfit"],
            "totalMarginBalance": usdt["marginBalance"],
            "totalPositionInitialMargin": usdt["positionInitialMargin"],
            "totalOpenOrderInitialMargin": usdt["openOrderInitialMargin"],
            "totalCrossWalletBalance": usdt["crossWalletBalance"],
            "totalCrossUnPnl": usdt["crossUnPnl"],
            "availableBalance": usdt["availableBalance"],
            "maxWithdrawAmount": usdt["maxWithdrawAmount"],
        }
        positions = [
            self._account_position(account, account.position(listing), is_v2=is_v2)
            for listing in self.core.listings
            if not listing.is_spot and (is_v2 or self._is_shown(account, listing))
        ]
        flags: Json = {}
        if is_v2:
            flags = {"feeTier": 0, "feeBurn": False, "canTrade": True, "canDeposit": True, "canWithdraw": False}
            flags |= {"updateTime": 0, "multiAssetsMargin": False, "tradeGroupId": -1}
        return flags | totals | {"assets": assets, "positions": positions}

    def _is_shown(self, account: Account, listing: Listing) -> bool:
        return bool(account.position(listing).qty_lots or account.open_sums(listing).count)

    def _account_position(self, account: Account, position: Position, *, is_v2: bool) -> Json:
        listing = position.listing
        row = {
            "symbol": listing.symbol,
            "positionSide": "BOTH",
            "positionAmt": listing.qty_text(position.qty_lots),
            "unrealizedProfit": money(position.unrealized()),
            "isolatedMargin": "0",
            "notional": money(position.mark_value()),
            "isolatedWallet": "0",
            "initialMargin": money(account.initial_margin(listing)),
            "maintMargin": money(account.maintenance_margin(listing)),
            "updateTime": position.updated_ns // MS,
        }
        if is_v2:
            margin, initial = account.position_margin(listing), account.initial_margin(listing)
            row |= {
                "positionInitialMargin": money(margin),
                "openOrderInitialMargin": money(initial - margin),
                "leverage": str(position.leverage),
                "isolated": False,
                "entryPrice": entry_px(position),
                "breakEvenPrice": break_even_px(position),
                "maxNotional": "250000000",
                "bidNotional": money(account.open_sums(listing).bid_atoms),
                "askNotional": money(account.open_sums(listing).ask_atoms),
            }
        return row

    def balance(self, request: Request) -> list[Json]:
        account = self._account(request)
        rows = []
        for asset in self._assets(account):
            row = self._asset_row(account, asset)
            rows.append(
                {
                    "accountAlias": f"acc{account.account_id}",
                    "asset": asset,
                    "balance": row["walletBalance"],
                    "crossWalletBalance": row["crossWalletBalance"],
                    "crossUnPnl": row["crossUnPnl"],
                    "availableBalance": row["availableBalance"],
                    "maxWithdrawAmount": row["maxWithdrawAmount"],
                    "marginAvailable": True,
                    "updateTime": row["updateTime"],
                }
            )
        return rows

    def position_risk(self, request: Request) -> list[Json]:
        """v3: only symbols with a position or an open order."""
        account, only = self._account(request), some_listing(self.core, request)
        return [
            self._risk_row(account, account.position(listing))
            for listing in self.core.listings
            if not listing.is_spot and only in (None, listing) and self._is_shown(account, listing)
        ]

    def position_risk_v2(self, request: Request) -> list[Json]:
        """v2: every symbol, with leverage and margin type."""
        account, only = self._account(request), some_listing(self.core, request)
        rows = []
        for listing in self.core.listings:
            if listing.is_spot or only not in (None, listing):
                continue
            position = account.position(listing)
            row = self._risk_row(account, position)
            row |= {"leverage": str(position.leverage), "maxNotionalValue": "250000000", "marginType": "cross"}
            row |= {"isAutoAddMargin": "false"}
            rows.append(row)
        return rows

    def _risk_row(self, account: Account, position: Position) -> Json:
        listing, sums = position.listing, account.open_sums(position.listing)
        initial, margin = account.initial_margin(listing), account.position_margin(listing)
        return {
            "symbol": listing.symbol,
            "positionSide": "BOTH",
            "positionAmt": listing.qty_text(position.qty_lots),
            "entryPrice": entry_px(position),
            "breakEvenPrice": break_even_px(position),
            "markPrice": listing.px_text(listing.mark_px_ticks, 8),
            "unRealizedProfit": money(position.unrealized()),
            "liquidationPrice": "0",
            "isolatedMargin": "0",
            "notional": money(position.mark_value()),
            "marginAsset": listing.instrument.settle,
            "isolatedWallet": "0",
            "initialMargin": money(initial),
            "maintMargin": money(account.maintenance_margin(listing)),
            "positionInitialMargin": money(margin),
            "openOrderInitialMargin": money(initial - margin),
            "adl": 0,
            "bidNotional": money(sums.bid_atoms),
            "askNotional": money(sums.ask_atoms),
            "updateTime": position.updated_ns // MS,
        }

    # --- settings ---------------------------------------------------------------------------------------------------

    def set_leverage(self, request: Request) -> Json:
        listing, leverage = need_listing(self.core, request), request.params.integer("leverage")
        if not 1 <= leverage <= listing.max_leverage:
            raise ApiError(-4028, f"Leverage {leverage} is not valid")
        try:
            self.core.set_leverage(request.account_id, listing, leverage, request.now_ns)
        except Refused as refused:
            raise usdm_error(refused, "") from None
        return {"leverage": leverage, "maxNotionalValue": "250000000", "symbol": listing.symbol}

    def set_margin_type(self, request: Request) -> Json:
        need_listing(self.core, request)
        if request.params.need("marginType") == "CROSSED":
            raise ApiError(-4046, "No need to change margin type.")
        raise ApiError(-4168, "Unable to adjust to isolated-margin mode: this exchange keeps cross margin only.")

    def position_mode(self, request: Request) -> Json:
        return {"dualSidePosition": False}

    def set_position_mode(self, request: Request) -> Json:
        if request.params.need("dualSidePosition").lower() == "false":
            raise ApiError(-4059, "No need to change position side.")
        raise ApiError(-4068, "Position side cannot be changed: this exchange keeps one-way mode only.")

    def multi_assets(self, request: Request) -> Json:
        return {"multiAssetsMargin": False}

    def set_multi_assets(self, request: Request) -> Json:
        if request.params.need("multiAssetsMargin").lower() == "false":
            raise ApiError(-4171, "No need to change multi-assets margin mode.")
        raise ApiError(-4167, "Unable to change to Multi-Assets mode: this exchange keeps single-asset mode only.")

    def symbol_config(self, request: Request) -> list[Json]:
        account, only = self._account(request), some_listing(self.core, request)
        return [
            {
                "symbol": listing.symbol,
                "marginType": "CROSSED",
                "isAutoAddMargin": False,
                "leverage": account.position(listing).leverage,
                "maxNotionalValue": "250000000",
            }
            for listing in self.core.listings
            if not listing.is_spot and only in (None, listing)
        ]

    def account_config(self, request: Request) -> Json:
        return {
            "feeTier": 0,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": False,
            "dualSidePosition": False,
            "updateTime": 0,
            "multiAssetsMargin": False,
            "tradeGroupId": -1,
        }

    def leverage_bracket(self, request: Request) -> Any:
        only = some_listing(self.core, request)
        return [
            {
                "symbol": listing.symbol,
                "brackets": [
                    {
                        "bracket": 1,
                        "initialLeverage": listing.max_leverage,
                        "notionalCap": 250_000_000,
                        "notionalFloor": 0,
                        "maintMarginRatio": listing.maint_margin_e8 / 10**8,
                        "cum": 0.0,
                    }
                ],
            }
            for listing in self.core.listings
            if not listing.is_spot and only in (None, listing)
        ]

    def commission_rate(self, request: Request) -> Json:
        listing = need_listing(self.core, request)
        return {
            "symbol": listing.symbol,
            "makerCommissionRate": fixed_text(listing.maker_fee_e8, 8, 6),
            "takerCommissionRate": fixed_text(listing.taker_fee_e8, 8, 6),
            "rpiCommissionRate": "0.000000",
        }


def entry_px(position: Position) -> str:
    if not position.qty_lots:
        return "0.0"
    return px_of(position.listing, position.cost_atoms, position.qty_lots)


def break_even_px(position: Position) -> str:
    """Entry moved by the fee a closing taker would pay."""
    if not position.qty_lots:
        return "0.0"
    cost = abs(position.cost_atoms)
    fee = cost * position.listing.taker_fee_e8 // 10**8
    sign = 1 if position.qty_lots > 0 else -1
    return px_of(position.listing, cost + sign * fee, abs(position.qty_lots))


def px_of(listing: Listing, atoms: int, lots: int) -> str:
    """Average price with 8 decimals: atoms of quote for one unit of base."""
    return fixed_text(abs(atoms) * 10**8 // (abs(lots) * listing.lot_atoms), 8)
