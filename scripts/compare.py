"""Compares two runs bit by bit: the weights in their model.pth and the losses in their losses.csv.

    python scripts/compare.py runs/twin runs/rust

Exit code 0 when nothing differs, 1 when something does, 2 when a run cannot be read.
"""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import torch


def main() -> int:
    """Prints how many tensors and losses differ."""
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        runs = [read_run(Path(folder)) for folder in sys.argv[1:]]
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    differing, other_losses = differences(runs)
    tensors, steps = len(runs[0].weights.keys() | runs[1].weights.keys()), max(len(run.losses) for run in runs)
    print(f"{len(differing)} of {tensors} tensors differ, {other_losses} of {steps} losses differ")
    for key in differing:
        print(f"  {key}")
    return 1 if differing or other_losses else 0


class RunError(Exception):
    """What is wrong with a run's folder, in a sentence."""


@dataclass
class Run:
    """What is compared of a run."""

    weights: dict[str, torch.Tensor]
    losses: list[tuple[float, ...]]


def differences(runs: list[Run]) -> tuple[list[str], int]:
    """The keys of the tensors that two runs do not share bit by bit, and how many of their losses differ."""
    weights, losses = [run.weights for run in runs], [run.losses for run in runs]
    keys = sorted(weights[0].keys() | weights[1].keys())
    differing = [key for key in keys if not all(key in side for side in weights) or not same_bits(weights, key)]
    return differing, abs(len(losses[0]) - len(losses[1])) + sum(a != b for a, b in zip(*losses, strict=False))


def read_run(folder: Path) -> Run:
    """Reads a run's folder."""
    for name in ["model.pth", "losses.csv"]:
        if not (folder / name).is_file():
            raise RunError(f"{folder / name} does not exist: give the folders of two runs that have ended")
    try:
        weights = torch.load(folder / "model.pth", map_location="cpu", weights_only=True)
    # PyTorch has many errors for a damaged file.
    except Exception as error:
        raise RunError(f"{folder / 'model.pth'} is not a whole state_dict: train this run again") from error
    try:
        return Run(weights, read_losses(folder))
    except (OSError, ValueError) as error:
        raise RunError(f"{folder / 'losses.csv'} is not a table of numbers: train this run again") from error


def read_losses(folder: Path) -> list[tuple[float, ...]]:
    """A run's steps: number, epoch, learning rate and loss. Both programs write the digits that float32 needs."""
    with open(folder / "losses.csv", newline="") as file:
        return [tuple(map(float, row)) for row in list(csv.reader(file))[1:]]


def same_bits(weights: list[dict[str, torch.Tensor]], key: str) -> bool:
    """Whether both tensors have the same type, shape and bytes."""
    a, b = (side[key].contiguous() for side in weights)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


if __name__ == "__main__":
    sys.exit(main())
