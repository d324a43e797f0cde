"""`tickwright check`: everything that can be known before a start. Starts nothing, sends no order.

Configuration, credentials, state folder, journal and host are looked at; `--online` asks each venue for its time.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import VenueUnreachable
from engine.journal import file_system_warning
from engine.types import Venue
from tools.recovery import recover
from tools.settings import LoadedConfig, load_config, load_credentials, state_dir

TIMEOUT_S = 5.0


class Finding(msgspec.Struct, frozen=True):
    """`level` is ok, note (costs speed or comfort) or problem (the engine would not start, or not well)."""

    level: str
    what: str
    text: str


def look(loaded: LoadedConfig, *, online: bool) -> list[Finding]:
    """All findings. Raises only what ends a start: ConfigError, CredentialError, JournalError, VenueUnreachable."""
    config = loaded.config
    found = [Finding("ok", "config", f"{loaded.path}: {len(config.instruments)} instruments, hash {loaded.hash[:16]}")]
    keys = load_credentials(loaded)
    found.append(
        Finding("ok", "credentials", f"{len(keys)} venues, trading is {config.engine.trading}")
        if keys
        else Finding("note", "credentials", "trading is off: market data only")
    )
    found += state_findings(loaded)
    found += host_findings(loaded)
    if online:
        found += [reach(loaded, venue) for venue in config.venue_list()]
    return found


def state_findings(loaded: LoadedConfig) -> list[Finding]:
    folder = state_dir(loaded)
    parent = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    if not os.access(parent, os.W_OK):
        return [Finding("problem", "state", f"{folder}: cannot be written by uid {os.getuid()}")]
    found = [Finding("ok", "state", f"{folder}: writable")]
    warning = file_system_warning(parent)
    if warning:
        found.append(Finding("note", "state", warning))
    journal = folder / "journal"
    if journal.exists():
        recovered = recover(journal)
        end = "ended in order" if recovered.ended_cleanly else "did not end in order: it will be recovered"
        found.append(
            Finding("ok", "journal", f"{recovered.run_count} runs, {recovered.record_count} ledger records, last {end}")
        )
    return found


def host_findings(loaded: LoadedConfig) -> list[Finding]:
    """What the host lacks for low latency, with what it costs where that was measured."""
    found: list[Finding] = []
    clock = read_text("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    if clock and clock not in ("tsc", "kvm-clock"):
        found.append(Finding("note", "clock", f"clock source is {clock}, tsc costs a tenth of it a reading"))
    governor = read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor and governor != "performance":
        found.append(Finding("note", "cpu", f"frequency governor is {governor}, performance is steadier"))
    cpu = loaded.config.loop.cpu
    if cpu is not None and cpu not in os.sched_getaffinity(0):
        found.append(Finding("problem", "cpu", f"loop.cpu = {cpu} is not among CPUs {sorted(os.sched_getaffinity(0))}"))
    if loaded.config.loop.spin and len(os.sched_getaffinity(0)) < 2:
        found.append(Finding("problem", "cpu", "loop.spin needs a second CPU for the journal's writer"))
    if os.environ.get("SSLKEYLOGFILE"):
        found.append(Finding("problem", "tls", "SSLKEYLOGFILE is set: it would write the keys of every connection"))
    return found


def reach(loaded: LoadedConfig, venue: Venue) -> Finding:
    """Ask one venue for its time, without a key. Raises VenueUnreachable."""
    settings = loaded.config.venues[venue.name.lower()]
    url = importlib.import_module(f"connectors.{venue.name.lower()}.endpoints").time_url(settings)
    begin = time.monotonic()
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S, context=ssl.create_default_context()) as answer:
            answer.read(4_096)
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise VenueUnreachable(f"{venue.name}: {url} cannot be reached: {reason}") from None
    return Finding("ok", venue.name.lower(), f"{url} answers in {(time.monotonic() - begin) * 1e3:.0f} ms")


def read_text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "check",
        help="look at configuration, keys, journal and host",
        epilog="example: tickwright check -c config/demo.toml",
    )
    parser.add_argument("-c", "--config", type=Path, required=True, help="configuration file")
    parser.add_argument("--online", action="store_true", help="ask each venue for its time")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    findings = look(load_config(args.config), online=args.online)
    is_bad = any(finding.level == "problem" for finding in findings)
    if args.json:
        print(json.dumps({"ok": not is_bad, "findings": msgspec.to_builtins(findings)}))
    else:
        for finding in findings:
            print(f"{finding.level:8} {finding.what:12} {finding.text}")
    return 1 if is_bad else 0
