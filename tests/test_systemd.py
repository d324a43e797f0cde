"""The unit is understood by systemd without a word on stderr, and exposes no more than 1.2."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "systemd" / "tickwright.service"
MAX_EXPOSURE = 1.2


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        assert os.environ.get("CI") != "true", "systemd-analyze is missing"
        pytest.skip("systemd-analyze is not installed")
    return found


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists here: verify looks for the executable."""
    made = tmp_path / "tickwright.service"
    made.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text()))
    return made


def test_unit_verifies_without_a_word(analyze: str, unit: Path) -> None:
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
    # Unknown keys are only warned about, with exit code 0: any output is a failure.
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


def test_exposure_is_low(analyze: str, unit: Path) -> None:
    command = [analyze, "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for tickwright.service: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= MAX_EXPOSURE


def test_exit_codes_of_the_program_are_never_restarted() -> None:
    line = next(row for row in UNIT.read_text().splitlines() if row.startswith("RestartPreventExitStatus="))
    assert line.split("=")[1].split() == ["64", "65", "73", "77", "78"]
