"""The command as a person meets it: one clear line and the right exit code for every kind of trouble."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = (ROOT / "config" / "demo.toml").read_text()
KEYS = "\n".join(
    f'[{venue}]\napi_key = "canary-{venue}-key"\nsecret = "canary-{venue}-secret"\nenvironment = "local"\n'
    for venue in ("binance", "bybit")
)


def tickwright(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.cli", *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration that is good but for the venues, which nobody serves."""
    keys = tmp_path / "keys.toml"
    keys.write_text(KEYS)
    keys.chmod(0o600)
    port = closed_port()
    text = DEMO.replace('state_dir = "var/demo"', f'state_dir = "{tmp_path}/state"\ncredentials = "keys.toml"')
    for venue in ("binance", "bybit"):
        text += f'\n[venues.{venue}.urls]\nbase_http = "http://127.0.0.1:{port}"\nbase_ws = "ws://127.0.0.1:{port}"\n'
    path = tmp_path / "engine.toml"
    path.write_text(text)
    return path


def assert_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert "canary" not in done.stderr + done.stdout, "a secret was shown"


def test_usage_is_64() -> None:
    assert_line(tickwright("fly"), 64, "invalid choice")
    assert_line(tickwright("run"), 64, "--config")


def test_good_configuration_checks_out(config: Path) -> None:
    done = tickwright("check", "--config", config, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] is True


def test_unknown_key_is_78_with_file_and_key(config: Path) -> None:
    config.write_text(config.read_text().replace("stale_ms", "stale_mss"))
    assert_line(tickwright("check", "--config", config), 78, str(config), "risk.stale_mss: unknown key")


def test_missing_configuration_is_78(tmp_path: Path) -> None:
    assert_line(tickwright("run", "--config", tmp_path / "no.toml"), 78, "no.toml: not found")


def test_key_file_that_others_can_read_is_77(config: Path) -> None:
    (config.parent / "keys.toml").chmod(0o644)
    assert_line(tickwright("run", "--config", config), 77, "mode 0644", "chmod 600")


def test_missing_credential_is_77(config: Path) -> None:
    keys = config.parent / "keys.toml"
    keys.write_text(KEYS.split("[bybit]")[0])
    assert_line(tickwright("run", "--config", config), 77, "[bybit] is missing")
    keys.unlink()
    assert_line(tickwright("run", "--config", config), 77, "credentials file not found")


def test_key_of_another_environment_is_77(config: Path) -> None:
    keys = config.parent / "keys.toml"
    keys.write_text(KEYS.replace('"local"', '"live"', 1))
    assert_line(tickwright("run", "--config", config), 77, 'environment "live"', 'wants "local"')


def test_unreachable_venue_is_69(config: Path) -> None:
    assert_line(tickwright("check", "--config", config, "--online"), 69, "cannot be reached")


def test_second_engine_on_the_journal_is_73(config: Path) -> None:
    from engine.journal import Journal

    folder = config.parent / "state"
    folder.mkdir()
    journal = Journal.open(folder / "journal", ring_mib=1, segment_mib=8)
    try:
        assert_line(tickwright("run", "--config", config), 73, str(os.getpid()))
    finally:
        journal.close()


def test_journal_of_an_unknown_version_is_65(config: Path, tmp_path: Path) -> None:
    import lmdb

    from engine.journal import Journal

    path = tmp_path / "state" / "journal"
    path.parent.mkdir()
    Journal.open(path, ring_mib=1, segment_mib=8).close()
    segment = next(folder for folder in path.iterdir() if folder.name.startswith("seg-"))
    env = lmdb.open(str(segment), max_dbs=8, lib_version=0)
    meta = env.open_db(b"meta")
    with env.begin(write=True) as txn:
        header = bytearray(txn.get(b"segment", db=meta))
        header[4:6] = (99).to_bytes(2, "little")
        txn.put(b"segment", bytes(header), db=meta)
    env.close()
    for verb in (("run", "--config", config), ("replay", path), ("journal", "ls", path)):
        assert_line(tickwright(*verb), 65, "99")


def test_replay_of_no_journal_is_65(tmp_path: Path) -> None:
    assert_line(tickwright("replay", tmp_path / "nothing"), 65, "no journal there")


def test_version_says_what_runs() -> None:
    told = json.loads(tickwright("version", "--json").stdout)
    assert told["tickwright"] == "0.1.0" and told["journal_format"] == 1


@pytest.mark.parametrize("verb", ["run", "check", "exchange", "replay", "journal", "book", "latency", "version"])
def test_every_verb_has_help(verb: str) -> None:
    done = tickwright(verb, "--help")
    assert done.returncode == 0 and "usage: tickwright" in done.stdout


@pytest.mark.slow
def test_engine_without_a_venue_ends_with_69(config: Path) -> None:
    assert_line(tickwright("run", "--config", config), 69, "no venue could be reached")
