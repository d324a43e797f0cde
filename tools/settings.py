"""Configuration and credentials from files. The only place that reads them; secrets never leave it in a message."""

from __future__ import annotations

import hashlib
import os
import stat
import tomllib
from pathlib import Path

import msgspec

from engine.config import EngineConfig, parse_config
from engine.errors import ConfigError, CredentialError
from engine.types import Venue
from engine.venue import Credentials

CREDENTIALS_NAME = "venues.toml"


class LoadedConfig(msgspec.Struct, frozen=True):
    """The configuration, its text as it is journaled, and the hash that names it."""

    path: Path
    config: EngineConfig
    text: str
    hash: str


def load_config(path: Path, overrides: dict[str, dict[str, str]] | None = None) -> LoadedConfig:
    """Read and check one file. `overrides` = {venue: {url key: url}} for addresses known only at start.

    Raises ConfigError with every problem at once.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError([f"{path}: not found"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None
    for venue, urls in (overrides or {}).items():
        lines = "".join(f'{key} = "{value}"\n' for key, value in urls.items())
        text += f"\n[venues.{venue}.urls]\n{lines}"
    config = parse_config(text, str(path))
    return LoadedConfig(path, config, text, hashlib.sha256(text.encode()).hexdigest())


def state_dir(loaded: LoadedConfig) -> Path:
    return Path(loaded.config.engine.state_dir)


def load_credentials(loaded: LoadedConfig) -> dict[Venue, Credentials]:
    """Keys of every configured venue. Empty when trading is off.

    Raises CredentialError: no file, readable by others, a venue or a field missing, wrong environment.
    """
    engine = loaded.config.engine
    if engine.trading == "off":
        return {}
    path = credentials_path(loaded)
    refuse_readable_by_others(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise CredentialError(f"{path}: not TOML; trading is not started") from None
    found: dict[Venue, Credentials] = {}
    for venue in loaded.config.venue_list():
        name = venue.name.lower()
        if name not in raw:
            raise CredentialError(f"{path}: [{name}] is missing; trading is not started")
        try:
            credentials = msgspec.convert(raw[name], Credentials)
        except msgspec.ValidationError as error:
            raise CredentialError(f"{path}: [{name}]: {str(error).split(', got')[0]}") from None
        wanted = loaded.config.venues[name].environment
        if credentials.environment != wanted:
            raise CredentialError(
                f'{path}: [{name}] holds a key of environment "{credentials.environment}", '
                f'the configuration wants "{wanted}"; trading is not started'
            )
        found[venue] = credentials
    return found


def credentials_path(loaded: LoadedConfig) -> Path:
    """The configured file, relative to the configuration; else the unit's credential."""
    named = loaded.config.engine.credentials
    if named:
        return loaded.path.parent / named
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory:
        return Path(directory) / CREDENTIALS_NAME
    raise CredentialError(
        f"{loaded.path}: engine.credentials is not set and $CREDENTIALS_DIRECTORY is empty; trading is not started"
    )


def refuse_readable_by_others(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise CredentialError(f"{path}: credentials file not found; trading is not started") from None
    if stat.S_IMODE(mode) & 0o077:
        raise CredentialError(
            f"{path}: mode {stat.S_IMODE(mode):04o} lets others read the keys, must be 0600 or 0400; "
            f"run: chmod 600 {path}"
        )
