"""scripts/gpu-check on a CPU: everything but the capture, and what a broken promise does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bench import Contender
from common import PROGRAM, ROOT
from conftest import DATA
from gpu_checking.main import CHECKS, main


def gpu_check(*args: object) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "scripts/gpu-check", "--device", "cpu", "--quick", "--threads", 1, *args]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def write_program(path: Path, text: str) -> Path:
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)
    return path


def test_on_a_cpu_every_check_runs_and_keeps_its_promises(tmp_path: Path) -> None:
    out = tmp_path / "check.json"
    done = gpu_check("--data", DATA, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text())
    assert result["kept"] is True
    assert [check["name"] for check in result["checks"]] == list(CHECKS)
    for check in result["checks"]:
        assert check["findings"], check["name"]
        for finding in check["findings"]:
            assert f"| {check['name']} | {finding['what']} | {finding['measured']} |" in done.stdout
    kept = {check["name"] for check in result["checks"] for finding in check["findings"] if finding["kept"]}
    # Speed is promised on a GPU only, and accuracy for whole trainings.
    assert kept == set(CHECKS) - {"recipes", "speed", "profile"}
    assert "BROKEN" not in done.stdout


def test_a_broken_promise_is_exit_code_1_and_the_other_checks_go_on(tmp_path: Path) -> None:
    # Eager steps at another rate than those that they are compared with.
    own = f'case " $* " in *" --cuda-graph off "*) set -- "$@" --lr 0.5 ;; esac\nexec {PROGRAM} "$@"'
    program = write_program(tmp_path / "tch-mnist", own)
    out = tmp_path / "check.json"
    done = gpu_check("--data", DATA, "--program", program, "--only", "steps", "doctor", "--out", out)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "captured and eager within 1e-06" in next(line for line in done.stdout.splitlines() if "BROKEN" in line)
    result = json.loads(out.read_text())
    assert result["kept"] is False
    assert all(finding["kept"] is not False for finding in result["checks"][1]["findings"])


def test_a_run_that_fails_is_a_broken_promise(tmp_path: Path) -> None:
    own = f'[ "$1" != train ] || {{ echo "error: too bad" >&2; exit 1; }}\nexec {PROGRAM} "$@"'
    done = gpu_check("--data", DATA, "--program", write_program(tmp_path / "tch-mnist", own), "--only", "resume")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the run straight-captured failed: error: too bad | BROKEN |" in done.stdout


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--device", "cuda:99"], "PyTorch finds no GPU"),
        (["--program", "/nowhere/tch-mnist"], "cannot be started: No such file"),
        (["--only", "luck"], "invalid choice: 'luck'"),
    ],
)
def test_wrong_flags_are_usage_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: list[str], sentence: str
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu-check", "--device", "cpu", *args])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        main("")
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(("name", "captured"), [("captured", "false"), ("torch", "true")])
def test_bench_refuses_a_contender_whose_steps_are_launched_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, captured: str
) -> None:
    line = f'{{"event": "ready", "captured": {captured}}}'
    command = write_program(tmp_path / "tch-mnist", f"echo '{line}'")
    monkeypatch.setattr("bench.command", lambda *_: [str(command)])
    with pytest.raises(SystemExit, match="captured"):
        Contender.start(name, "steps", None)
