"""`tickwright control` as an operator meets it: the words it sends, the answer it shows, and no engine there."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.control import COMMANDS, ControlServer
from tools.cli import main
from tools.control import SOCKET_NAME


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[list[tuple[str, dict[str, str]]]]:
    """An engine's control socket that writes down what it is told."""
    told: list[tuple[str, dict[str, str]]] = []
    loop = asyncio.new_event_loop()

    def answer(name: str, args: dict[str, str], operator: str) -> dict[str, object]:
        assert operator
        told.append((name, args))
        return {"open_orders": 2, "killed": name == "kill"}

    server = ControlServer(loop, tmp_path / SOCKET_NAME, answer)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield told

    def end() -> None:
        server.close()
        loop.stop()

    loop.call_soon_threadsafe(end)
    thread.join(5)
    loop.close()


def test_command_and_reason_reach_the_engine(
    heard: list[tuple[str, dict[str, str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["control", str(tmp_path), "kill", "--reason", "drill", "--json"]) == 0
    assert heard == [("kill", {"reason": "drill"})]
    assert json.loads(capsys.readouterr().out)["killed"] is True


def test_answer_is_shown_a_line_each(
    heard: list[tuple[str, dict[str, str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["control", str(tmp_path), "status"]) == 0
    assert heard == [("status", {})]
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["open_orders", "2"],
        ["killed", "False"],
    ]


def test_word_that_is_no_command_is_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["control", str(tmp_path), "dance"])
    assert ended.value.code == 64
    said = capsys.readouterr().err
    assert all(command in said for command in COMMANDS)


def test_no_engine_there_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["control", str(tmp_path), "status"]) not in (0, 64)
    said = capsys.readouterr().err
    assert SOCKET_NAME in said and len(said.splitlines()) == 1
