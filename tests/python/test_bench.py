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
    sizes = ["--recipes", "speed", "original", "--seeds", 2, "--limit-train", 256, "--threads", 1]
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


def test_ablations_are_measured_once(tmp_path: Path) -> None:
    variants, out = tmp_path / "variants.toml", tmp_path / "ablations.json"
    variants.write_text('[best."the recipe"]\nepochs = 1\n[best."no average"]\nepochs = 1\nema_decay = 0\n')
    sizes = ["--seeds", 1, 2, "--validation", 200, "--limit-train", 840, "--jobs", 2]
    printed = script("ablate.py", variants, *sizes, "--out", out)
    assert printed.count("| 2 |") == 2
    known = json.loads(out.read_text())
    assert len(known) == 4
    assert all("validation = 200\n" in config and run["status"] == "done" for config, run in known.items())
    # The same again trains nothing; another setting is another run.
    assert script("ablate.py", variants, *sizes, "--out", out) == printed
    assert json.loads(out.read_text()) == known
    variants.write_text(variants.read_text() + '[best."no Nesterov"]\nepochs = 1\nnesterov = false\n')
    script("ablate.py", variants, *sizes, "--out", out)
    assert len(json.loads(out.read_text())) == 6


def test_a_variant_that_the_program_refuses_ends_it(tmp_path: Path) -> None:
    variants = tmp_path / "variants.toml"
    variants.write_text('[best."too much"]\nrotate = 1000\n')
    command = [sys.executable, ROOT / "scripts/ablate.py", variants, "--out", tmp_path / "out.json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "--rotate takes degrees from 0 to 180" in done.stderr
    assert "{'rotate': 1000} were refused" in done.stderr
    assert not (tmp_path / "out.json").exists()
