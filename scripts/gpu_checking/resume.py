"""A run that is killed in the middle of an epoch and resumed ends in the bits of one that was not."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from compare import differences, read_run

from gpu_checking.context import Context

SETTINGS = ["--epochs", 2, "--schedule", "one-cycle", "--ema-decay", 0.9, "--rotate", 10, "--limit-test", 500]


def test_resume(context: Context, finding: Callable) -> None:
    """Captured steps, and eager ones."""
    sizes = ["--limit-train", 640, "--batch-size", 32] if context.quick else ["--limit-train", 12800]
    for name, launch in [("captured", context.captured), ("eager", context.eager)]:
        settings = [*SETTINGS, *sizes, *launch]
        straight = context.train(f"straight-{name}", *settings)
        epoch, step = kill(context, f"killed-{name}", settings)
        folder = context.folder / f"killed-{name}"
        again = ["train", "-q", "--log-format", "json", "--checkpoint-every", "0", "--resume", str(folder)]
        resumed = context.finish(f"killed-{name}", again)
        differing, losses = differences([read_run(run.folder) for run in [straight, resumed]])
        said = f"killed after step {step} of epoch {epoch}: {len(differing)} tensors and {losses} losses differ"
        finding(f"a resumed run of {name} steps is the run itself", said, not differing and not losses)


def kill(context: Context, name: str, settings: list) -> tuple[int, int]:
    """Trains and kills the process when its last checkpoint is of the middle of an epoch; returns epoch and step."""
    folder = context.folder / name
    command = context.flags(name, *settings, "--checkpoint-every", 3)
    for _ in range(5):
        shutil.rmtree(folder, ignore_errors=True)
        process = subprocess.Popen([str(context.args.program), *command], stdout=subprocess.DEVNULL)
        while not (folder / "checkpoint.safetensors").exists() and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        process.wait()
        assert (folder / "checkpoint.safetensors").exists(), "a run ended before its first checkpoint"
        epoch, step = position(folder / "checkpoint.safetensors")
        if step > 0 and not (folder / "model.pth").exists():
            return epoch, step
    raise AssertionError("no run could be killed in the middle of an epoch")


def position(checkpoint: Path) -> tuple[int, int]:
    """The epoch of a checkpoint, and how many of its steps are done."""
    with open(checkpoint, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    at = json.loads(header["__metadata__"]["tch-mnist-checkpoint"])["position"]
    return at["epoch"], at["step"]
