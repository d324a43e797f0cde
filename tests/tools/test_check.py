"""What `tickwright check` finds out without starting anything."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import tools.check
from engine import ledger
from engine.errors import VenueUnreachable
from engine.journal import Journal
from engine.ledger import encode_ledger
from engine.records import RecordKind, RunStart, encode_run_start
from engine.types import Venue
from tools.check import Finding, host_findings, look, reach, state_findings
from tools.cli import main
from tools.settings import LoadedConfig, load_config

ROOT = Path(__file__).resolve().parents[2]
DEMO = (ROOT / "config" / "demo.toml").read_text()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    text = DEMO.replace('state_dir = "var/demo"', f'state_dir = "{tmp_path}/state"')
    for venue in ("binance", "bybit"):
        text += f'\n[venues.{venue}.urls]\nbase_http = "http://127.0.0.1:1"\nbase_ws = "ws://127.0.0.1:1"\n'
    made = tmp_path / "engine.toml"
    made.write_text(text.replace('trading = "test"', 'trading = "off"'))
    return made


@pytest.fixture
def loaded(path: Path) -> LoadedConfig:
    return load_config(path)


def named(findings: list[Finding], what: str) -> list[tuple[str, str]]:
    return [(finding.level, finding.text) for finding in findings if finding.what == what]


def test_nothing_is_made_by_a_look(loaded: LoadedConfig, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    findings = look(loaded, online=False)
    assert sorted(tmp_path.rglob("*")) == before
    assert named(findings, "credentials") == [("note", "trading is off: market data only")]
    assert named(findings, "state")[0] == ("ok", f"{tmp_path}/state: writable")


def test_journal_is_folded_and_its_end_told(loaded: LoadedConfig, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    journal = Journal.open(tmp_path / "state" / "journal", ring_mib=1, segment_mib=8)
    journal.append(RecordKind.RUN_START, 0, 0, encode_run_start(RunStart("0", "", "", 1, 1, 0, [])))
    journal.append(RecordKind.KILL_SWITCH, 0, 0, encode_ledger(ledger.KillSwitch(True, "drill", "me")))
    journal.close()
    ((level, text),) = named(state_findings(loaded), "journal")
    assert level == "ok" and text.startswith("1 runs, 2 ledger records") and "did not end in order" in text


def test_state_folder_that_cannot_be_written_is_a_problem(
    loaded: LoadedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *args: False)
    ((level, text),) = named(state_findings(loaded), "state")
    assert level == "problem" and "cannot be written" in text


def test_tls_key_log_is_a_problem_and_the_exit_code_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", "/tmp/keys")
    assert main(["check", "--json", "--config", str(path)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert [row["what"] for row in told["findings"] if row["level"] == "problem"] == ["tls"]
    assert main(["check", "--config", str(path)]) == 1
    assert "problem  tls" in capsys.readouterr().out


def test_cpu_that_the_host_does_not_have_is_a_problem(path: Path) -> None:
    path.write_text(path.read_text().replace("[loop]\n", "[loop]\ncpu = 1023\n"))
    assert named(host_findings(load_config(path)), "cpu")[-1][0] == "problem"


def test_spinning_on_the_only_cpu_is_a_problem(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(path.read_text().replace("spin = false", "spin = true"))
    loaded = load_config(path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert [level for level, _ in named(host_findings(loaded), "cpu")][-1:] == ["problem"]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    assert "problem" not in [level for level, _ in named(host_findings(loaded), "cpu")]


def test_slow_clock_and_saving_cpu_are_notes(loaded: LoadedConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"current_clocksource": "acpi_pm", "scaling_governor": "powersave"}
    monkeypatch.setattr(tools.check, "read_text", lambda path: words[Path(path).name])
    findings = host_findings(loaded)
    assert "acpi_pm" in named(findings, "clock")[0][1] and "powersave" in named(findings, "cpu")[0][1]
    assert {finding.level for finding in findings if finding.what in ("clock", "cpu")} == {"note"}


@pytest.mark.parametrize("venue", [Venue.BINANCE, Venue.BYBIT])
def test_venue_that_does_not_answer_is_named_with_its_address(loaded: LoadedConfig, venue: Venue) -> None:
    with pytest.raises(VenueUnreachable, match=rf"{venue.name}: http://127\.0\.0\.1:1/.* cannot be reached"):
        reach(loaded, venue)
