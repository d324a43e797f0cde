"""Run the judges: clients that nobody here wrote, each in its own virtual environment, against the local exchange.

`run.py [NAME...]` makes the environments below build/judges (kept for the next run), starts a fresh exchange for each
judge, and prints one line a judge; exit code 1 when one failed. Versions are pinned here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "build" / "judges"
TOKEN = "judge-token"
TIMEOUT_S = 240


@dataclass(frozen=True)
class Judge:
    name: str
    script: str
    packages: tuple[str, ...]
    env: str  # judges with the same environment share it
    arguments: tuple[str, ...] = ()


CCXT = ("ccxt==4.5.90",)
SDK = ("binance-sdk-spot==13.2.0", "binance-sdk-derivatives-trading-usds-futures==18.0.1")
JUDGES = (
    Judge("ccxt-binance", "judge_ccxt_binance.py", CCXT, "ccxt"),
    Judge("ccxt-bybit", "judge_ccxt_bybit.py", CCXT, "ccxt"),
    Judge("binance-sdk", "judge_binance_sdk.py", SDK, "binance-sdk"),
    Judge("python-binance", "judge_python_binance.py", ("python-binance==1.0.37",), "python-binance"),
    Judge("binance-connector", "judge_binance_connector.py", ("binance-connector==3.13.0",), "binance-connector"),
    Judge("pybit", "judge_pybit.py", ("pybit==5.17.0",), "pybit"),
)


def environment(judge: Judge) -> Path:
    """The python of the judge's environment, made when it is not there or holds other versions."""
    home = HOME / judge.env
    mark = home / "packages.txt"
    python = home / "bin" / "python"
    wanted = "\n".join(judge.packages)
    if not mark.is_file() or mark.read_text() != wanted:
        venv.create(home, clear=True, with_pip=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *judge.packages], check=True
        )
        mark.write_text(wanted)
    return python


def start_exchange(ready: Path) -> tuple[subprocess.Popen[bytes], int]:
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tools.exchange", "--port", "0", "--seed", "7"]
    command += ["--control-token", TOKEN, "--ready-file", str(ready)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        if ready.is_file() and ready.read_text().strip():
            return process, int(json.loads(ready.read_text())["port"])
        time.sleep(0.05)
    process.kill()
    raise RuntimeError(f"the exchange did not start; exit code {process.poll()}")


def run_judge(judge: Judge) -> bool:
    python = environment(judge)
    log = HOME / f"{judge.name}.log"
    process, port = start_exchange(HOME / f"{judge.name}.ready")
    begin = time.monotonic()
    try:
        command = [python, ROOT / "tests" / "judges" / judge.script, str(port), TOKEN, *judge.arguments]
        with log.open("wb") as out:
            code = subprocess.run(
                command, cwd=HOME, stdout=out, stderr=subprocess.STDOUT, timeout=TIMEOUT_S, check=False
            ).returncode
    except subprocess.TimeoutExpired:
        code = 124
    finally:
        process.terminate()
        process.wait(10)
    lines = log.read_text(errors="replace").splitlines()
    good = sum(line.startswith("ok ") for line in lines)
    print(
        f"{judge.name:18} {'ok' if code == 0 else 'FAILED'}  {good} checks  {time.monotonic() - begin:.1f} s",
        flush=True,
    )
    if code:
        print("\n".join(f"    {line}" for line in lines[-60:]), flush=True)
    return code == 0


def main(names: list[str]) -> int:
    HOME.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    known = {judge.name for judge in JUDGES}
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"unknown judge {', '.join(unknown)}; known: {', '.join(sorted(known))}", file=sys.stderr)
        return 64
    chosen = [judge for judge in JUDGES if not names or judge.name in names]
    results = [run_judge(judge) for judge in chosen]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
