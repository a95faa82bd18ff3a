"""One trial: a run of `tch-mnist train` for each seed, its JSON lines as they come, and how it ended.

This module is sent to the machines of a Ray cluster as it is, so it uses nothing but the standard library.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# Becomes the program, which the kernel then kills when the process that started it dies (prctl's PR_SET_PDEATHSIG, 1),
# so that even a sweep killed by SIGKILL leaves no orphan. A `preexec_fn` would do the same, but is not safe in a
# process with threads.
LEASH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Job:
    """What a trial runs."""

    number: int
    """The trial's number, or another one that no other job has at the same time."""
    command: list[str]
    """The program and its flags, without --seed and --out."""
    seeds: list[int]
    """One run each, one after the other."""
    keep: Path | None = None
    """The folder that the (only) run writes; without it a run writes a temporary one."""
    scratch: Path | None = None
    """Where temporary folders are made; the system's place when not given."""


@dataclass(frozen=True)
class Result:
    """How a job ended."""

    status: str
    """done, pruned, diverged or failed, as the program reports; `usage`: it refused its flags; `lost`: its process is
    gone, and the job must be run again."""
    accuracy: float | None = None
    """The mean over the seeds, in percent, of the accuracy of the last epoch, or of the one whose weights are saved."""
    epochs: int = 0
    """Epochs trained, of all seeds together."""
    seconds: float = 0.0
    error: str | None = None
    """One sentence, if it failed."""


Decide = Callable[[int, float], bool]
"""Takes the epochs that are done and the last one's accuracy, and says whether to prune."""

Start = Callable[[list[str], IO[str]], "subprocess.Popen[str]"]
"""Starts a process, its stderr going to the file."""


def start(command: list[str], stderr: IO[str]) -> "subprocess.Popen[str]":
    """Starts a program that ends when this process ends, and that a Ctrl-C in the terminal does not reach."""
    leash = [sys.executable, "-I", "-S", "-c", LEASH, str(os.getpid()), *command]
    return subprocess.Popen(leash, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True)


def run(job: Job, decide: Decide, start: Start = start) -> Result:
    """Runs a job to its end. `decide` sees the first seed's epochs; the others run only if it was not pruned."""
    began = time.monotonic()
    accuracies: list[float] = []
    epochs = 0
    for index, seed in enumerate(job.seeds):
        with contextlib.ExitStack() as stack:
            if job.keep is None:
                folder = tempfile.TemporaryDirectory(prefix="tch-mnist-", dir=job.scratch, ignore_cleanup_errors=True)
                out = Path(stack.enter_context(folder)) / "run"
            else:
                out = job.keep
            command = [*job.command, f"--seed={seed}", f"--out={out}"]
            ended = run_once(command, decide if index == 0 else lambda *_: False, start)
        epochs += ended.epochs
        accuracies.append(ended.accuracy or 0.0)
        if ended.status != "done":
            return Result(ended.status, ended.accuracy, epochs, time.monotonic() - began, ended.error)
    return Result("done", sum(accuracies) / len(accuracies), epochs, time.monotonic() - began)


def run_once(command: list[str], decide: Decide, start: Start) -> Result:
    """Runs the program once."""
    host = socket.gethostname()
    if not os.access(command[0], os.X_OK):
        return Result("failed", error=f"the program {command[0]} does not exist on {host}")
    accuracy, epochs, last = None, 0, {}
    with tempfile.TemporaryFile("w+") as stderr:
        with start(command, stderr) as process:
            for line in process.stdout:
                event = json.loads(line)
                # The test's when nothing is held out, as in the report; in the last line, that of the weights saved.
                accuracy = event.get("validation_accuracy", event.get("test_accuracy"))
                if event["event"] == "epoch":
                    epochs = event["epoch"] + 1
                    if decide(epochs, accuracy):
                        process.send_signal(signal.SIGUSR1)
                else:
                    last = event
        stderr.seek(0)
        said = stderr.read().strip().removeprefix("error: ")
    status = last.get("status")
    if process.returncode == 2:
        return Result("usage", error=said)
    if status in ("done", "target_reached", "stopped_early"):
        return Result("done", accuracy, epochs)
    if status in ("pruned", "diverged"):
        return Result(status, accuracy, epochs)
    if process.returncode == 1:
        return Result("failed", accuracy, epochs, error=last.get("error", said))
    return Result("lost", accuracy, epochs, error=f"its process ended on {host} with the code {process.returncode}")
