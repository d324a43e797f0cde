"""Keys, secrets, signatures and listen keys of a run are in no file that the run leaves behind."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from engine.journal import read_records
from engine.records import RecordKind, decode_run_start
from tools.demo import Exchange, engine_command, prepare
from tools.replay import replay
from tools.settings import load_config

ROOT = Path(__file__).resolve().parents[2]
SECRETS = tuple(f"demo-{kind}-{venue}-0001".encode() for kind in ("key", "secret") for venue in ("binance", "bybit"))
SIGNATURE = re.compile(rb"\bsign(?:ature)?\W{1,5}[0-9a-f]{64}", re.IGNORECASE)
LISTEN_KEY = re.compile(rb"(?<![0-9A-Za-z])[0-9A-Za-z]{64}(?![0-9A-Za-z])")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What three seconds of trading leave behind; the key file, which is meant to hold keys, taken out."""
    base = tmp_path_factory.mktemp("secrets")
    config, state = base / "demo.toml", base / "state"
    text = (ROOT / "config" / "demo.toml").read_text()
    config.write_text(text.replace('state_dir = "var/demo"', f'state_dir = "{state}"'))
    state.mkdir()
    exchange = Exchange(base, seed=7, faults="")
    try:
        command = engine_command(prepare(load_config(config), exchange.port), 3)
        with (state / "engine.log").open("wb") as log:
            done = subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, timeout=60, check=False)
    finally:
        exchange.stop()
    assert done.returncode == 0, (state / "engine.log").read_text()[-4_000:]
    (state / "credentials.toml").unlink()
    return state


def run_texts(journal: Path) -> list[bytes]:
    """Every record but the head of the run, which holds the hash of the configuration: 64 hexadecimal digits too."""
    return [record.payload for record in read_records(journal, tail=True) if record.kind != RecordKind.RUN_START]


def test_the_run_traded_and_had_its_keys(folder: Path) -> None:
    kinds = {record.kind for record in read_records(folder / "journal", tail=True)}
    assert {RecordKind.FRAME, RecordKind.RESPONSE, RecordKind.ORDER_PLACED, RecordKind.ORDER_FILLED} <= kinds
    (start,) = (r for r in read_records(folder / "journal", tail=True) if r.kind == RecordKind.RUN_START)
    assert decode_run_start(start.payload).venues_with_keys == ["BINANCE", "BYBIT"]


def test_no_key_and_no_secret_is_in_any_file(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"stats", "engine.log"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        assert [secret for secret in SECRETS if secret in content] == [], path


def test_no_key_and_no_secret_is_in_any_record(folder: Path) -> None:
    """The blocks of the journal may be stored in another form than the records that come out of them."""
    for record in read_records(folder / "journal", tail=True):
        assert [secret for secret in SECRETS if secret in record.payload] == [], record


def test_no_signature_is_in_any_file(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            assert not SIGNATURE.search(path.read_bytes()), path


def test_no_listen_key_is_in_any_record(folder: Path) -> None:
    for payload in run_texts(folder / "journal"):
        found = LISTEN_KEY.search(payload)
        assert found is None, payload[:400]


def test_log_names_no_address_with_a_listen_key(folder: Path) -> None:
    assert not LISTEN_KEY.search((folder / "engine.log").read_bytes())


def test_run_replays_without_keys(folder: Path) -> None:
    (report,) = replay(folder / "journal")
    assert report.different == 0, report.first_difference
    assert report.recorded > 0
