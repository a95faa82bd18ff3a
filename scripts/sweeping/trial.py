"""One trial: a run of `tch-mnist train` for each seed, its JSON lines as they come, and how it ended.

This module is sent to the machines of a Ray cluster as it is, so it uses nothing but the standard library.
"""

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
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
    training_seconds: float = 0.0
    """Of the epochs alone, the mean over the seeds."""
    parameters: int | None = None
    """How many the net has, if it was trained to its end."""
    error: str | None = None
    """One sentence, if it failed."""


Epochs = Generator[tuple[int, float], bool | None, Result]
"""Yields after each epoch how many are done and its accuracy, is sent whether to prune, and returns the result."""

Decide = Callable[[int, float], bool]
"""Answers to `Epochs`: whether to prune."""

Start = Callable[[list[str], IO[str]], "subprocess.Popen[str]"]
"""Starts a process, its stderr going to the file."""


def start(command: list[str], stderr: IO[str]) -> "subprocess.Popen[str]":
    """Starts a program that ends when this process ends, and that a Ctrl-C in the terminal does not reach."""
    leash = [sys.executable, "-I", "-S", "-c", LEASH, str(os.getpid()), *command]
    return subprocess.Popen(leash, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True)


def send(epochs: Epochs, prune: bool | None) -> tuple[int, float] | Result:
    """Answers the last epoch, and returns the next one, or the result."""
    try:
        return epochs.send(prune)
    except StopIteration as end:
        return end.value


def follow(send: Callable[[bool | None], tuple[int, float] | Result], decide: Decide) -> Result:
    """Answers every epoch, and returns the result."""
    event = send(None)
    while isinstance(event, tuple):
        event = send(decide(*event))
    return event


class Runner:
    """A job under way, on the machine that this object is on."""

    def __init__(self, job: Job) -> None:
        self._epochs = run(job)

    def send(self, prune: bool | None) -> tuple[int, float] | Result:
        """Answers the last epoch, and returns the next one, or the result."""
        return send(self._epochs, prune)


def run(job: Job, start: Start = start) -> Epochs:
    """Runs a job. The first seed's epochs are given; the other seeds run only if it was not pruned."""
    began = time.monotonic()
    runs: list[Result] = []
    for seed in job.seeds:
        with contextlib.ExitStack() as stack:
            if job.keep is None:
                folder = tempfile.TemporaryDirectory(prefix="tch-mnist-", dir=job.scratch, ignore_cleanup_errors=True)
                out = Path(stack.enter_context(folder)) / "run"
            else:
                out = job.keep
            epochs = run_once([*job.command, f"--seed={seed}", f"--out={out}"], start)
            ended = (yield from epochs) if not runs else follow(partial(send, epochs), lambda *_: False)
        runs.append(ended)
        if ended.status != "done":
            break
    whole = replace(ended, epochs=sum(one.epochs for one in runs), seconds=time.monotonic() - began)
    if ended.status != "done":
        return whole
    accuracy = statistics.fmean(one.accuracy for one in runs)
    return replace(whole, accuracy=accuracy, training_seconds=statistics.fmean(one.training_seconds for one in runs))


def run_once(command: list[str], start: Start) -> Epochs:
    """Runs the program once."""
    host = socket.gethostname()
    if not os.access(command[0], os.X_OK):
        return Result("failed", error=f"the program {command[0]} does not exist on {host}")
    accuracy, epochs, seconds, last = None, 0, 0.0, {}
    with tempfile.TemporaryFile("w+") as stderr:
        with start(command, stderr) as process:
            try:
                for line in process.stdout:
                    event = json.loads(line)
                    # The test accuracy if nothing is held out. The last line has that of the weights that are saved.
                    accuracy = event.get("validation_accuracy", event.get("test_accuracy"))
                    if event["event"] == "epoch":
                        epochs = event["epoch"] + 1
                        seconds += event["seconds"]
                        if (yield epochs, accuracy):
                            process.send_signal(signal.SIGUSR1)
                    else:
                        last = event
            except GeneratorExit:
                process.kill()
                raise
        stderr.seek(0)
        said = stderr.read().strip().removeprefix("error: ")
    status = last.get("status")
    if process.returncode == 2:
        return Result("usage", error=said)
    if status in ("done", "target_reached", "stopped_early"):
        return Result("done", accuracy, epochs, training_seconds=seconds, parameters=last["parameters"])
    if status in ("pruned", "diverged"):
        return Result(status, accuracy, epochs)
    if process.returncode == 1:
        return Result("failed", accuracy, epochs, error=last.get("error", said))
    return Result("lost", accuracy, epochs, error=f"its process ended on {host} with the code {process.returncode}")
