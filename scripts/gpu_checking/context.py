"""What all checks use: the program, the device, a folder for runs, and the runs that are done."""

import argparse
import csv
import json
import subprocess
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from common import wait_for

from gpu_checking.findings import BrokenError


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
        return torch.load(self.folder / "model.pth", weights_only=True)

    def steps(self) -> list[tuple[float, float]]:
        """The learning rate and the loss of each step."""
        with open(self.folder / "losses.csv", newline="") as file:
            return [(float(row["lr"]), float(row["loss"])) for row in csv.DictReader(file)]


class GpuMemory(threading.Thread):
    """Watches how much of a GPU's memory is in use, and by how much that rises."""

    def __init__(self, device: str) -> None:
        super().__init__(daemon=True)
        self.device, self.peak, self.over = device, 0, threading.Event()

    def used(self) -> int:
        """Bytes in use, by any process."""
        free, total = torch.cuda.mem_get_info(self.device)
        return total - free

    def run(self) -> None:
        """Looks every few milliseconds until it is over."""
        before = self.used()
        while not self.over.wait(0.005):
            self.peak = max(self.peak, self.used() - before)


# What takes longer than this hangs, in seconds: a run of 15 epochs takes a minute on a small GPU.
LIMIT = 600


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
        self.runs: dict[str, Run] = {}

    def run(self, *command: object, **options: object) -> subprocess.CompletedProcess:
        """Runs the program, and returns how it ended."""
        line = [str(part) for part in [self.args.program, *command]]
        try:
            return subprocess.run(line, capture_output=True, text=True, timeout=LIMIT, **options)
        except subprocess.TimeoutExpired:
            raise BrokenError(f"{' '.join(line[1:3])} was not done after {LIMIT} s") from None

    @cached_property
    def doctor(self) -> dict:
        """What `doctor` found."""
        done = self.run("doctor", "--log-format", "json", "--data", self.args.data)
        if done.returncode != 0:
            raise BrokenError(f"doctor failed: {last_line(done.stderr)}")
        return json.loads(done.stdout)

    def choices(self, setting: str) -> list[str]:
        """The names that a setting of the program takes."""
        return self.doctor["choices"][setting]

    def flags(self, name: str, *flags: object) -> list[str]:
        """The command line of a training into the folder `name`."""
        where = ["--data", self.args.data, "--device", self.args.device, "--threads", self.args.threads]
        files = ["--report=false", "--tensorboard=false", "--out", self.folder / name]
        return [str(part) for part in ["train", "-q", "--log-format", "json", *where, *files, *flags]]

    def train(self, name: str, *flags: object) -> Run:
        """A training that must end well; one that is done already is not made again."""
        if name not in self.runs:
            self.runs[name] = self.finish(name, self.flags(name, *flags))
        return self.runs[name]

    def finish(self, name: str, command: list[str]) -> Run:
        """Runs a command that ends the training in the folder `name`."""
        memory = GpuMemory(self.args.device) if self.on_gpu else None
        if memory:
            memory.start()
        pipe = subprocess.PIPE
        process = subprocess.Popen([str(self.args.program), *command], stdout=pipe, stderr=pipe, text=True)
        limit = threading.Timer(LIMIT, process.kill)
        limit.start()
        # Quiet, so that what it says fits into the pipe.
        lines = [json.loads(line) for line in process.stdout]
        said = process.stderr.read()
        process.stdout.close()
        process.stderr.close()
        usage = wait_for(process)
        limit.cancel()
        if memory:
            memory.over.set()
            memory.join()
        if process.returncode != 0:
            raise BrokenError(f"the run {name} failed: {last_line(said)}")
        whole = [json.loads(line) for line in (self.folder / name / "metrics.jsonl").read_text().splitlines()]
        gpu_memory = memory.peak if memory else 0
        return Run(self.folder / name, whole[:-1], lines[-1], usage.ru_maxrss * 1024, gpu_memory)


def last_line(text: str) -> str:
    """The last line of what a program said."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
