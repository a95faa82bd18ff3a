"""What all checks use: the program, the device, a folder for runs, and the runs that are done."""

import argparse
import json
import subprocess
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from common import wait_for
from compare import read_run

# What takes longer than this hangs, in seconds: a run of 15 epochs takes a minute on a small GPU.
LIMIT = 600


@dataclass
class Run:
    """A training that has ended well."""

    folder: Path
    epochs: list[dict]  # the lines of metrics.jsonl
    done: dict  # the last line
    host_memory: int  # its peak, in bytes
    gpu_memory: int  # the same on the GPU, as seen from outside; 0 on a CPU

    @property
    def seconds(self) -> float:
        """How long the epochs took, with their tests."""
        return sum(epoch["seconds"] for epoch in self.epochs)

    def weights(self) -> dict[str, torch.Tensor]:
        """The state_dict that was saved."""
        return read_run(self.folder).weights

    def steps(self) -> list[tuple[float, float]]:
        """The learning rate and the loss of each step."""
        return [(lr, loss) for *_, lr, loss in read_run(self.folder).losses]


class GpuMemory(threading.Thread):
    """Watches by how much the memory in use on a GPU, by any process, rises. On a CPU it watches nothing."""

    def __init__(self, device: str) -> None:
        super().__init__(daemon=True)
        self.device, self.peak, self.over = device, 0, threading.Event()

    def __enter__(self) -> "GpuMemory":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()

    def run(self) -> None:
        """Looks every few milliseconds until it is over."""
        before = None
        while self.device != "cpu" and not self.over.wait(0.005):
            free, total = torch.cuda.mem_get_info(self.device)
            before = total - free if before is None else before
            self.peak = max(self.peak, total - free - before)


class Context:
    """The machine and the program under test."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.quick: bool = args.quick
        self.on_gpu = args.device != "cpu"
        self.gpu = torch.cuda.get_device_name(args.device) if self.on_gpu else None
        # How steps are launched; a CPU takes them as they come.
        self.captured = ["--cuda-graph", "on"] if self.on_gpu else []
        self.eager = ["--cuda-graph", "off"]
        self.where = ["--data", args.data, "--device", args.device, "--threads", args.threads]
        self.runs: dict[str, Run] = {}

    def call(self, *command: object, **options: object) -> subprocess.CompletedProcess:
        """Runs a command, and returns how it ended."""
        line = [str(part) for part in command]
        try:
            return subprocess.run(line, capture_output=True, text=True, timeout=LIMIT, **options)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{' '.join(line[1:3])} was not done after {LIMIT} s") from None

    def run(self, *command: object, **options: object) -> subprocess.CompletedProcess:
        """Runs the program, and returns how it ended."""
        return self.call(self.args.program, *command, **options)

    @cached_property
    def doctor(self) -> dict:
        """What `doctor` found."""
        done = self.run("doctor", "--log-format", "json", "--data", self.args.data)
        assert done.returncode == 0, f"doctor failed: {last_line(done.stderr)}"
        return json.loads(done.stdout)

    def choices(self, setting: str) -> list[str]:
        """The names that a setting of the program takes."""
        return self.doctor["choices"][setting]

    def flags(self, name: str, *flags: object) -> list[str]:
        """The command line of a training into the folder `name`."""
        files = ["--report=false", "--tensorboard=false", "--out", self.folder / name]
        return [str(part) for part in ["train", "-q", "--log-format", "json", *self.where, *files, *flags]]

    def train(self, name: str, *flags: object) -> Run:
        """A training that must end well; one that is done already is not made again."""
        if name not in self.runs:
            self.runs[name] = self.finish(name, self.flags(name, *flags))
        return self.runs[name]

    def finish(self, name: str, command: list[str]) -> Run:
        """Runs a command that ends the training in the folder `name`."""
        line = [str(self.args.program), *command]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with GpuMemory(self.args.device) as memory, subprocess.Popen(line, **pipes) as process:
            limit = threading.Timer(LIMIT, process.kill)
            limit.start()
            # Quiet, so that what it says fits into the pipe.
            lines = [json.loads(text) for text in process.stdout]
            said = process.stderr.read()
            usage = wait_for(process)
            limit.cancel()
        assert process.returncode == 0, f"the run {name} failed: {last_line(said)}"
        whole = [json.loads(text) for text in (self.folder / name / "metrics.jsonl").read_text().splitlines()]
        return Run(self.folder / name, whole[:-1], lines[-1], usage.ru_maxrss * 1024, memory.peak)


def last_line(text: str) -> str:
    """The last line of what a program said."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
