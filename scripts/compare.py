"""Compares two runs bit by bit: the weights in their model.pth and the losses in their losses.csv.

    python scripts/compare.py runs/twin runs/rust

Exit code 0 when nothing differs, 1 when something does.
"""

import csv
import sys
from pathlib import Path

import torch


def main() -> int:
    """Prints how many tensors and losses differ."""
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    one, other = (Path(folder) for folder in sys.argv[1:])
    weights = [torch.load(folder / "model.pth", map_location="cpu", weights_only=True) for folder in (one, other)]
    keys = sorted(weights[0].keys() | weights[1].keys())
    differing = [key for key in keys if not all(key in side for side in weights) or not same_bits(weights, key)]
    losses = [read_losses(folder) for folder in (one, other)]
    steps = max(len(side) for side in losses)
    other_losses = abs(len(losses[0]) - len(losses[1])) + sum(a != b for a, b in zip(*losses, strict=False))
    print(f"{len(differing)} of {len(keys)} tensors differ, {other_losses} of {steps} losses differ")
    for key in differing:
        print(f"  {key}")
    return 1 if differing or other_losses else 0


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
