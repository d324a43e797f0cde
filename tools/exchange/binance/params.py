"""Parameters of one request as text, and the signed text they came from.

REST signs the raw query followed by the raw body without `signature`; the WS API signs all parameters but
`signature`, sorted by name, as `k=v` joined with `&`, numbers by their JSON text. Source: binance-spot-api-docs,
"Signed request security" and "Request security" of the WebSocket API, read 2026-11-22.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from urllib.parse import parse_qsl

from tools.exchange.binance.errors import ApiError, illegal, missing

_SIGNATURE: Final = re.compile(r"(^|&)signature=[^&]*")
_INT: Final = re.compile(r"-?\d{1,19}\Z")
_DECIMAL: Final = re.compile(r"([0-9]{1,20})(\.[0-9]{1,20})?\Z")
CLIENT_ID: Final = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}\Z")


class Number(str):
    """A JSON number by its own text, told apart from a JSON string only where the id is echoed."""


class Params:
    """Values by name; `signed_text` is what a signature must cover."""

    __slots__ = ("signed_text", "values")

    def __init__(self, values: dict[str, str], signed_text: str) -> None:
        self.values = values
        self.signed_text = signed_text

    @classmethod
    def from_rest(cls, query: str, body: str) -> Params:
        values = dict(parse_qsl(query, keep_blank_values=True))
        values.update(parse_qsl(body, keep_blank_values=True))
        text = _SIGNATURE.sub("", query) + _SIGNATURE.sub("", body)
        return cls(values, text.removeprefix("&"))

    @classmethod
    def from_ws(cls, raw: dict[str, Any]) -> Params:
        values = {name: _text(value) for name, value in raw.items() if value is not None}
        text = "&".join(f"{name}={values[name]}" for name in sorted(values) if name != "signature")
        return cls(values, text)

    def get(self, name: str, default: str = "") -> str:
        return self.values.get(name, default)

    def need(self, name: str) -> str:
        value = self.values.get(name, "")
        if value == "":
            raise missing(name)
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        text = self.values.get(name, "")
        if text == "":
            if default is None:
                raise missing(name)
            return default
        if not _INT.match(text):
            raise illegal(name, "^[0-9]{1,20}$")
        return int(text)

    def decimal(self, name: str) -> Decimal | None:
        """None when not sent."""
        text = self.values.get(name, "")
        if text == "":
            return None
        if not _DECIMAL.match(text):
            raise illegal(name, "^([0-9]{1,20})(\\.[0-9]{1,20})?$")
        return Decimal(text)

    def need_decimal(self, name: str) -> Decimal:
        value = self.decimal(name)
        if value is None:
            raise missing(name)
        return value

    def flag(self, name: str) -> bool:
        text = self.values.get(name, "false").lower()
        if text not in ("true", "false"):
            raise illegal(name, "true|false")
        return text == "true"

    def choice(self, name: str, allowed: tuple[str, ...], error: ApiError, default: str = "") -> str:
        value = self.values.get(name, default)
        if value not in allowed:
            raise missing(name) if value == "" else error
        return value

    def client_id(self, name: str) -> str:
        """Empty when not sent."""
        text = self.values.get(name, "")
        if text and not CLIENT_ID.match(text):
            raise illegal(name, "^[\\.A-Z\\:/a-z0-9_-]{1,36}$")
        return text

    def rows(self, name: str) -> list[Any]:
        """A JSON list in one parameter; absent is empty."""
        text = self.values.get(name, "")
        if text == "":
            return []
        try:
            found = json.loads(text, parse_float=Number, parse_int=Number)
        except ValueError:
            raise illegal(name, "a JSON list") from None
        if not isinstance(found, list):
            raise illegal(name, "a JSON list")
        return found

    def sub(self, raw: dict[str, Any]) -> Params:
        """Parameters of one element of a batch."""
        return Params({name: _text(value) for name, value in raw.items() if value is not None}, "")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def loads(text: str | bytes) -> Any:
    """JSON with numbers kept as their text. Raises ValueError."""
    return json.loads(text, parse_float=Number, parse_int=Number)


def echo_id(value: Any) -> Any:
    """The request id with the JSON type it came with."""
    return int(value) if isinstance(value, Number) else value


def to_decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ApiError(-1102, f"Malformed number {text!r}") from None
