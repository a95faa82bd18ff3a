"""The flags, and the checks in their order."""

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch
from common import PROGRAM, ROOT

from gpu_checking.report import Report

# A new check is a module, and its name here.
CHECKS = ["doctor", "steps", "resume", "recipes", "weights", "memory", "precision", "speed", "profile"]


def main(about: str) -> int:
    """Runs the checks; 1 if a promise is broken."""
    args = arguments(about)
    here = Path(__file__).parent
    # The report prints, instead of pytest's own table; the project's settings for its tests are not for these.
    flags = ["-p", "no:terminal", "-p", "no:cacheprovider", "--disable-plugin-autoload", "--capture=no"]
    flags += ["-c", os.devnull, "--rootdir", str(here), "--continue-on-collection-errors"]
    with tempfile.TemporaryDirectory() as folder:
        report = Report(args, Path(folder))
        ended = pytest.main([*flags, *(str(here / f"{name}.py") for name in args.only or CHECKS)], plugins=[report])
    return {pytest.ExitCode.OK: 0, pytest.ExitCode.INTERRUPTED: 130}.get(ended, 1)


def arguments(about: str) -> argparse.Namespace:
    """The flags. Afterwards the program can be started, and child processes find it."""
    parser = argparse.ArgumentParser(
        prog="gpu-check", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: cuda)")
    parser.add_argument("--only", nargs="+", choices=CHECKS, help="only these checks")
    parser.add_argument("--quick", action="store_true", help="on slices of the data; promises of accuracy are left out")
    parser.add_argument("--program", type=Path, default=PROGRAM, help="the program (default: that of cargo build)")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="the folder with the data (default: data)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: one per core (default: 0)")
    parser.add_argument("--out", type=Path, help="write everything as JSON to this file")
    args = parser.parse_args()
    if not torch.__version__.startswith("2.11."):
        parser.error(f"this Python has PyTorch {torch.__version__}, and the program needs 2.11")
    if args.device != "cpu" and not torch.cuda.is_available():
        parser.error(
            f"--device {args.device}: PyTorch finds no GPU; {args.program} doctor says why, --device cpu needs none"
        )
    if problem := cannot_start(args.program):
        parser.error(f"--program {args.program} cannot be started: {problem}; build it by cargo build --release")
    os.environ["TCH_MNIST"] = str(args.program)
    return args


def cannot_start(program: Path) -> str | None:
    """Why the program does not start. One that was built elsewhere gets the libtorch of this Python."""
    here = Path(torch.__file__).parent / "lib"
    before = os.environ.get("LD_LIBRARY_PATH")
    for path in [before, f"{here}:{before}" if before else str(here)]:
        if path:
            os.environ["LD_LIBRARY_PATH"] = path
        try:
            done = subprocess.run([program, "--version"], capture_output=True, text=True)
        except OSError as error:
            return error.strerror
        if done.returncode == 0:
            return None
    return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
