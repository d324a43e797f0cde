"""`tickwright journal` and `tickwright latency` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import lmdb
import pytest

from engine.journal import Journal
from engine.metrics import PAGE_NAME, Metrics
from engine.records import RecordKind, encode_response
from ext.stats import clock_ns
from tools.cli import main

FRAME = '{"e":"trade","s":"BTCUSDT","p":"61829.04"}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    journal = Journal.open(tmp_path / "j", ring_mib=0.0625, segment_mib=1)
    journal.raise_epoch()
    for number in range(5):
        journal.append(RecordKind.FRAME, 257, 1_000_000 * number, FRAME.encode())
    journal.append(RecordKind.RESPONSE, 1, 9, encode_response(7, 200, {"Retry-After": "1"}, b"[]"))
    journal.append(RecordKind.FRAME, 257, 10, b"\xff\xfe")
    journal.append(40, 0, 11, b"")
    journal.close()
    return tmp_path / "j"


def shown(capsys: pytest.CaptureFixture[str], *args: object) -> list[dict[str, object]]:
    assert main(["journal", "show", "--json", *map(str, args)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_show_gives_each_record_as_a_line_of_json(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, path)
    assert [line["seq"] for line in lines] == list(range(1, 10))
    first = {"seq": 1, "stream": "ledger", "kind": "EPOCH_RAISED", "source": 0, "payload": 1}
    assert first.items() <= lines[0].items()
    assert lines[1]["payload"] == FRAME and lines[1]["stream"] == "tape"
    assert lines[6]["payload"] == {"request_id": 7, "status": 200, "headers": {"Retry-After": "1"}, "body": "[]"}
    assert lines[7]["payload"] == {"base64": "//4="} and lines[8]["kind"] == "40"


@pytest.mark.parametrize(
    ("options", "seqs"),
    [
        (["--from", 3, "--to", 5], [3, 4, 5]),
        (["--limit", 2], [1, 2]),
        (["--kind", "response"], [7]),
        (["--kind", "response", "--kind", "epoch_raised"], [1, 7]),
        (["--stream", "ledger"], [1]),
        (["--stream", "tape", "--from", 6], [6, 7, 8, 9]),
        (["--kind", "40"], [9]),
    ],
)
def test_show_selects(path: Path, capsys: pytest.CaptureFixture[str], options: list[object], seqs: list[int]) -> None:
    assert [line["seq"] for line in shown(capsys, *options, path)] == seqs


def test_show_prints_frames_as_text(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["journal", "show", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9 and FRAME in lines[1] and "FRAME" in lines[1]


def test_show_refuses_an_unknown_kind_and_lists_the_known_ones(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["journal", "show", "--kind", "fames", str(path)]) == 64
    assert "order_placed" in capsys.readouterr().err


def test_ls_lists_segments(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["journal", "ls", "--json", str(path)]) == 0
    (segment,) = json.loads(capsys.readouterr().out)["segments"]
    assert (segment["number"], segment["first_seq"], segment["last_seq"], segment["epoch"]) == (1, 1, 9, 1)
    assert main(["journal", "ls", str(path)]) == 0
    assert "1..9" in capsys.readouterr().out


def test_verify_exits_0_on_a_true_journal_and_1_on_a_changed_one(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["journal", "verify", "--json", str(path)]) == 0
    head = json.loads(capsys.readouterr().out)["head"]
    assert main(["journal", "verify", "--head", head, str(path)]) == 0
    assert main(["journal", "verify", "--head", "nonsense", str(path)]) == 64
    with lmdb.open(str(path / "seg-00000001"), max_dbs=4) as env:
        tape = env.open_db(b"tape")
        with env.begin(write=True, db=tape) as txn:
            ((key, value), *_) = list(txn.cursor())
            assert txn.put(key, value[:-20] + b"X" + value[-19:])
    capsys.readouterr()
    assert main(["journal", "verify", str(path)]) == 1
    assert "first bad record" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["ls", "show", "verify"])
def test_unreadable_journal_exits_65_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    (tmp_path / "seg-00000001").mkdir()
    (tmp_path / "seg-00000001" / "data.mdb").write_bytes(b"no store" * 2000)
    code = main(["journal", verb, str(tmp_path)])
    captured = capsys.readouterr()
    if verb == "verify":
        assert code == 1 and "first bad record 1" in captured.out
    else:
        assert code == 65 and len(captured.err.splitlines()) == 1


def test_missing_journal_exits_65(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["journal", "ls", str(tmp_path / "none")]) == 65
    assert "no journal here" in capsys.readouterr().err


def test_latency_prints_stages_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = Metrics(tmp_path / PAGE_NAME, ["binance"])
    for _ in range(10):
        metrics.stages.begin(clock_ns())
        for stage in range(5):
            metrics.stages.mark(stage)
        metrics.stages.commit(0)
    assert main(["latency", "--json", str(tmp_path)]) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert [row["stage"] for row in stages] == ["decoded", "decided", "risk", "signed", "written", "tick_to_trade"]
    assert all(row["count"] == 10 and row["p50"] <= row["p99"] <= row["max"] for row in stages)
    assert main(["latency", str(tmp_path / PAGE_NAME)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 7


def test_latency_of_no_page_exits_64(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["latency", str(tmp_path)]) == 64
    assert PAGE_NAME in capsys.readouterr().err
