"""scripts/bench.py measures what it says, on rounds of a few steps."""

import json
import subprocess
import sys
from pathlib import Path

from conftest import ROOT, script


def test_contenders_take_turns(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    sizes = ["--rounds", 2, "--steps", 2, "--batch-size", 128, "--threads", 1]
    only = ["--only", "eager", "fused"]
    printed = script("bench.py", *sizes, *only, "--what", "steps", "evaluate", "start-up", "--out", out)
    assert printed.count("| PyTorch eager |") == 3
    assert printed.count("| tch-mnist --kernels fused |") == 3
    results = {result["what"]: result for result in json.loads(out.read_text())["results"]}
    assert list(results) == ["steps", "evaluate", "start-up"]
    for what, result in results.items():
        names = [row["name"] for row in result["rows"]]
        assert names == (["import", "eager", "fused"] if what == "start-up" else only[1:])
        for row in result["rows"]:
            assert len(row["seconds"]) == 2
            assert min(row["seconds"]) > 0
            # libtorch alone takes more; the unit is bytes.
            assert what == "start-up" or 100e6 < row["peak_memory"] < 10e9
    assert 0 <= results["steps"]["others"] <= results["steps"]["others_most"] <= 1


def test_wrong_flags_are_usage_errors() -> None:
    command = [sys.executable, ROOT / "scripts/bench.py", "--rounds", "0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--rounds" in done.stderr


def test_time_to_accuracy_trains_whole_recipes(tmp_path: Path) -> None:
    out = tmp_path / "runs.json"
    sizes = ["--recipes", "speed", "original", "--seeds", 2, "--limit-train", 512, "--threads", 1]
    printed = script("bench.py", "time-to-accuracy", *sizes, "--out", out)
    runs = json.loads(out.read_text())["runs"]
    assert {name: len(rows) for name, rows in runs.items()} == {"speed": 2, "original": 2, "original in PyTorch": 1}
    for name, rows in runs.items():
        assert f"| {name} | {rows[0]['epochs']} | {len(rows)} |" in printed
        assert [row["seed"] for row in rows] == [1, 2][: len(rows)]
        for row in rows:
            assert 0 < row["seconds"] < row["seconds_with_start_up"]
            assert 5 < row["test_accuracy"] < 100
    assert runs["original"][0]["epochs"] == runs["original in PyTorch"][0]["epochs"] == 15
