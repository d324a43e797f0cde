"""Configuration and keys from files: what is found, what is refused, and that no message holds a secret."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from engine.errors import ConfigError, CredentialError
from engine.types import Venue
from tools.settings import credentials_path, load_config, load_credentials, state_dir

ROOT = Path(__file__).resolve().parents[2]
DEMO = (ROOT / "config" / "demo.toml").read_text()
KEYS = "\n".join(
    f'[{venue}]\napi_key = "canary-{venue}-key"\nsecret = "canary-{venue}-secret"\nenvironment = "local"\n'
    for venue in ("binance", "bybit")
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "engine.toml"
    path.write_text(DEMO.replace("[engine]\n", '[engine]\ncredentials = "keys.toml"\n', 1))
    (tmp_path / "keys.toml").write_text(KEYS)
    (tmp_path / "keys.toml").chmod(0o600)
    return path


def refusal(config: Path) -> str:
    with pytest.raises(CredentialError) as caught:
        load_credentials(load_config(config))
    assert "canary" not in str(caught.value), "a secret was shown"
    return str(caught.value)


def test_configuration_keeps_its_text_and_the_hash_of_it(config: Path) -> None:
    loaded = load_config(config)
    assert loaded.text == config.read_text()
    assert loaded.hash == hashlib.sha256(config.read_bytes()).hexdigest()
    assert state_dir(loaded) == Path("var/demo")


def test_overrides_are_part_of_the_text_that_is_journaled(config: Path) -> None:
    loaded = load_config(config, {"binance": {"base_http": "http://127.0.0.1:1"}})
    assert loaded.config.venues["binance"].urls["base_http"] == "http://127.0.0.1:1"
    assert "http://127.0.0.1:1" in loaded.text
    assert loaded.hash != load_config(config).hash


def test_file_that_is_not_there_or_not_text_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.toml: not found"):
        load_config(tmp_path / "no.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"bad\.toml: cannot be read"):
        load_config(tmp_path / "bad.toml")


def test_keys_of_every_venue_are_found(config: Path) -> None:
    keys = load_credentials(load_config(config))
    assert list(keys) == [Venue.BINANCE, Venue.BYBIT]
    assert keys[Venue.BYBIT].secret == "canary-bybit-secret"
    assert "canary" not in repr(keys), "credentials do not print their secrets"


def test_no_keys_are_read_when_trading_is_off(config: Path) -> None:
    config.write_text(config.read_text().replace('trading = "test"', 'trading = "off"'))
    (config.parent / "keys.toml").unlink()
    assert load_credentials(load_config(config)) == {}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_mode_that_lets_others_in_is_refused(config: Path, mode: int) -> None:
    (config.parent / "keys.toml").chmod(mode)
    assert f"mode {mode:04o}" in refusal(config)


def test_read_only_keys_are_fine(config: Path) -> None:
    (config.parent / "keys.toml").chmod(0o400)
    assert len(load_credentials(load_config(config))) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[binance\nsecret = "canary"', "not TOML"),
        (KEYS.split("[bybit]")[0], "[bybit] is missing"),
        (KEYS.replace('secret = "canary-bybit-secret"\n', ""), "[bybit]"),
        (KEYS.replace('"canary-bybit-secret"', '["canary"]'), "[bybit]"),
        (KEYS.replace('"local"', '"live"'), 'environment "live"'),
    ],
    ids=["not TOML", "venue missing", "field missing", "wrong type", "other environment"],
)
def test_keys_that_do_not_fit_are_refused_without_showing_them(config: Path, text: str, words: str) -> None:
    keys = config.parent / "keys.toml"
    keys.write_text(text)
    assert words in refusal(config)


def test_unit_gives_its_credentials_by_directory(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text(DEMO)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert "CREDENTIALS_DIRECTORY is empty" in refusal(config)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert credentials_path(load_config(config)) == tmp_path / "venues.toml"
    assert "not found" in refusal(config)
