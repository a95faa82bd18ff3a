"""What the Python tests share: the built program, the twin in PyTorch, the real data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("TCH_MNIST", ROOT / "target/release/tch-mnist"))
DATA = ROOT / "data"

sys.path.insert(0, str(ROOT / "scripts"))


def run(*command: object) -> str:
    """Runs a command in the repository's folder and returns its stdout; what it said on stderr when it fails."""
    done = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tch_mnist(*args: object) -> str:
    """Runs the program."""
    return run(PROGRAM, *args)


def script(name: str, *args: object) -> str:
    """Runs one of the Python scripts."""
    return run(sys.executable, ROOT / "scripts" / name, *args)


def json_lines(text: str) -> list[dict]:
    """The objects of a JSON Lines text."""
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run of the program."""
    out = tmp_path_factory.mktemp("runs") / "trained"
    options = ["--kernels", "torch", "--epochs", 1, "--limit-train", 6400, "--limit-test", 1000, "--threads", 2]
    tch_mnist("train", "--data", DATA, "--device", "cpu", "--out", out, *options)
    return out
