"""The flags, the checks in their order, the table, the JSON."""

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import machine
import torch
from common import PROGRAM, ROOT, write_json

from gpu_checking import doctor, memory, precision, profile, recipes, resume, speed, steps, weights
from gpu_checking.context import Context
from gpu_checking.findings import BrokenError, Finding

# A new check is a module, and a line here.
CHECKS: dict[str, Callable[[Context], Iterator[Finding]]] = {
    "doctor": doctor.check,
    "steps": steps.check,
    "resume": resume.check,
    "recipes": recipes.check,
    "weights": weights.check,
    "memory": memory.check,
    "precision": precision.check,
    "speed": speed.check,
    "profile": profile.check,
}

VERDICTS = {True: "kept", False: "BROKEN", None: ""}


def main(about: str) -> int:
    """Runs the checks; 1 if a promise is broken."""
    args = arguments(about)
    print(f"on {machine.name(args.device)}, PyTorch {torch.__version__}, program {args.program}\n", flush=True)
    print("| check | what | measured | promise |\n|---|---|---|---|", flush=True)
    began, results = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder:
        context = Context(args, Path(folder))
        for name in args.only or CHECKS:
            results.append(examine(name, context))
            findings = [finding for result in results for finding in result["findings"]]
            broken = sum(finding["kept"] is False for finding in findings)
            seconds = time.perf_counter() - began
            # After each check: a machine may be lent for a while only.
            if args.out:
                named = {"machine": machine.name(args.device), "torch": torch.__version__, "settings": vars(args)}
                write_json(args.out, {**named, "kept": broken == 0, "seconds": seconds, "checks": results})
    kept = sum(finding["kept"] is True for finding in findings)
    print(f"\n{kept} promises kept, {broken} broken, in {seconds:.0f} s", flush=True)
    return 1 if broken else 0


def examine(name: str, context: Context) -> dict:
    """Runs a check and prints what it finds, as it comes."""
    began, findings = time.perf_counter(), []
    try:
        for finding in CHECKS[name](context):
            findings.append(finding)
            show(name, finding)
    # Whatever happens in one check, the others are still of interest.
    except Exception as error:
        said = str(error) if isinstance(error, BrokenError) else f"{type(error).__name__}: {error}"
        findings.append(Finding("it runs to its end", said.strip().splitlines()[0], False))
        show(name, findings[-1])
    return {"name": name, "seconds": time.perf_counter() - began, "findings": [asdict(it) for it in findings]}


def show(name: str, finding: Finding) -> None:
    """Prints a row of the table."""
    print(f"| {name} | {finding.what} | {finding.measured} | {VERDICTS[finding.kept]} |", flush=True)


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
