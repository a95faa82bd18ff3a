"""What the Python tests share: the built program, the twin in PyTorch, the real data."""

import io
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import reference
from common import PROGRAM, ROOT
from playwright.sync_api import Browser, sync_playwright

DATA = ROOT / "data"

# A run without what is drawn at its end, which takes longer than a short training.
NO_PICTURES = ["--report=false", "--tensorboard=false"]

Twin = Callable[..., str]
Both = Callable[..., tuple[Path, Path]]

# Headless, it draws on the page of `serve` and looks at the page of a run.
BROWSERS = ["chromium", "chromium-browser", "google-chrome"]
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


def pytest_sessionstart() -> None:
    """Refuses to test a program that was built before the last change of its source."""
    if PROGRAM != ROOT / "target/release/tch-mnist":
        return
    files = (path for folder in ["src", "crates"] for path in (ROOT / folder).rglob("*") if path.is_file())
    source = max(files, key=lambda path: path.stat().st_mtime)
    if not PROGRAM.exists() or PROGRAM.stat().st_mtime < source.stat().st_mtime:
        pytest.exit(f"{PROGRAM} is missing, or older than {source}: run cargo build --release", returncode=1)


def run(*command: object) -> str:
    """Runs a command in the repository's folder and returns its stdout; if it fails, its stderr is shown."""
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


def call(main: Callable[[], None], *args: object) -> tuple[str, str, int | str | None]:
    """Runs a script's main in this process: importing torch takes long. Its stdout, stderr and exit code or error."""
    out, err, code = io.StringIO(), io.StringIO(), None
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["script.py", *map(str, args)])
        patch.setattr(sys, "path", list(sys.path))
        try:
            main()
        except SystemExit as exit:
            code = exit.code
    return out.getvalue(), err.getvalue(), code


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run of the program."""
    out = tmp_path_factory.mktemp("runs") / "trained"
    options = ["--kernels", "torch", "--epochs", 1, "--limit-train", 6400, "--limit-test", 1000, "--threads", 2]
    tch_mnist("train", "--data", DATA, "--device", "cpu", "--out", out, *options)
    return out


@pytest.fixture(scope="session", name="run")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one epoch on all of MNIST, at a learning rate that suits one epoch."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    options = ["--epochs", 1, "--schedule", "one-cycle", "--lr", 0.05, "--batch-size", 64]
    tch_mnist("train", "--data", DATA, "--device", "cpu", "--out", out, "-q", *options)
    return out


@pytest.fixture(scope="session")
def address(run: Path) -> Iterator[str]:
    """The address of a server with the weights of the run."""
    command = [PROGRAM, "serve", "--weights", run / "model.pt", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        line = server.stdout.readline()
        served = re.fullmatch(r"serving on (http://127\.0\.0\.1:\d+/) .*\n", line)
        assert served, line
        yield served[1]
        server.send_signal(signal.SIGINT)
        server.wait(timeout=30)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Twin:
    """Runs the twin and returns its stdout: in this process: starting PyTorch takes longer than these runs."""

    def run(*options: object) -> str:
        monkeypatch.setattr("sys.argv", [str(option) for option in ["reference.py", *options]])
        reference.main()
        return capsys.readouterr().out

    return run


@pytest.fixture
def both(tmp_path: Path, twin: Twin) -> Both:
    """Runs the twin and the program with the same options; returns their folders, after comparing what they printed."""

    def run(*options: object) -> tuple[Path, Path]:
        folders = tmp_path / "twin", tmp_path / "program"
        options = ("--data", DATA, "--device", "cpu", *options)
        printed = twin(*options, "--out", folders[0])
        own = ["--kernels", "torch", *NO_PICTURES]
        assert tch_mnist("train", *own, *options, "--out", folders[1]) == printed
        return folders

    return run
