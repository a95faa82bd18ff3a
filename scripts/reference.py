"""The training run of the original in PyTorch, as a PyTorch user writes it: the twin of `tch-mnist train`.

On a CPU, with the same flags, `tch-mnist train --kernels torch` prints the same lines and ends in the same bits:

    python scripts/reference.py --seed 1 --epochs 2 --limit-train 6400 --out /tmp/twin
"""

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import net_file
import numpy as np
import torch
import torch.nn.functional as F
from mnist import load_split, locate, normalise
from net import Net
from torch import Tensor, nn, optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset


class Images(Dataset):
    """A split in memory. `__getitems__` gathers a batch at once; what is drawn at random is the same without it."""

    def __init__(self, folder: Path, train: bool, limit: int) -> None:
        images, labels = load_split(folder, train)
        limit = limit or len(labels)
        self.images, self.labels = normalise(images[:limit]), labels[:limit]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        chosen = torch.tensor(indices)
        return self.images[chosen], self.labels[chosen]


def train(
    net: nn.Module,
    device: str,
    loader: DataLoader,
    optimizer: optim.Optimizer,
    after_step: Callable[[], None],
    losses: list[tuple[float, float]],
) -> dict:
    """The original's train function: one epoch. Notes each step's learning rate and loss in `losses`."""
    net.train()
    started = time.perf_counter()
    correct, loss_sum = 0, 0.0
    lr = optimizer.param_groups[0]["lr"]
    for batch_id, (data, target) in enumerate(loader):
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        output = net(data)
        loss = F.nll_loss(output, target)
        loss.backward()
        step_lr, step_loss = optimizer.param_groups[0]["lr"], loss.item()
        losses.append((step_lr, step_loss))
        optimizer.step()
        after_step()
        loss_sum += step_loss * len(target)
        correct += (output.argmax(dim=1) == target).sum().item()
        if sys.stderr.isatty():
            bar = f"\rloss={step_loss} batch_id={batch_id}: {batch_id + 1}/{len(loader)}\033[K"
            print(bar, end="\n" if batch_id + 1 == len(loader) else "", file=sys.stderr, flush=True)
    count = len(loader.dataset)
    return {
        "lr": lr,
        "train_loss": loss_sum / count,
        "train_accuracy": 100 * correct / count,
        "images_per_second": count / (time.perf_counter() - started),
    }


def test(net: nn.Module, device: str, loader: DataLoader) -> dict:
    """The original's test function."""
    net.eval()
    test_loss, correct = 0.0, 0
    with torch.no_grad():
        for data, target in loader:
            data, target = data.to(device), target.to(device)
            output = net(data)
            test_loss += F.nll_loss(output, target, reduction="sum").item()
            correct += (output.argmax(dim=1) == target).sum().item()
    count = len(loader.dataset)
    return {"test_loss": test_loss / count, "test_accuracy": 100 * correct / count, "correct": correct}


# The schedules that change the rate after each step; the others do so after each epoch.
PER_STEP = ["one-cycle"]

# The schedules by name: the arguments, the optimizer and the steps per epoch to a scheduler.
SCHEDULES = {
    "step": lambda args, optimizer, _: lr_scheduler.StepLR(optimizer, step_size=args.step_size, gamma=args.gamma),
    "cosine": lambda args, optimizer, _: lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs),
    "one-cycle": lambda args, optimizer, steps: lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=args.epochs * steps, pct_start=args.pct_start, cycle_momentum=False
    ),
    "constant": lambda _args, optimizer, _: lr_scheduler.ConstantLR(optimizer, factor=1),
}


def nothing() -> None:
    """Leaves the rate as it is."""


def arguments() -> argparse.Namespace:
    """The flags, named and set by default as those of `tch-mnist train`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--dataset", default="mnist", help="as tch-mnist train --help lists them")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--nesterov", action="store_true")
    parser.add_argument("--schedule", choices=SCHEDULES, default="step")
    parser.add_argument("--step-size", type=int, default=6)
    parser.add_argument("--gamma", type=float, default=0.1)
    parser.add_argument("--pct-start", type=float, default=0.3)
    net_file.add_arguments(parser, "instead of the net of the original")
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: one per core")
    parser.add_argument("--limit-train", type=int, default=0, help="the first N training images only; 0: all")
    parser.add_argument("--limit-test", type=int, default=0, help="the first N test images only; 0: all")
    parser.add_argument("--log-format", choices=["text", "json"], default="text")
    parser.add_argument("--out", type=Path, help="write model.pth and losses.csv into this folder")
    args = parser.parse_args()
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    return args


def build(args: argparse.Namespace) -> nn.Module:
    """The net, its weights drawn from the seed."""
    torch.manual_seed(args.seed)
    if not args.net and not args.net_values:
        return Net(args.dropout)
    try:
        return net_file.load(args.net or Path("original"), {"dropout": args.dropout} | args.net_values)
    except net_file.NetFileError as error:
        sys.exit(f"error: {error}")


def main() -> None:
    """Trains, tests and saves."""
    args = arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    folder = locate(args.data, args.dataset)
    net = build(args).to(args.device)
    # Both splits are shuffled, as in the original. `collate_fn` passes on what `__getitems__` has put together.
    try:
        loaders = [
            DataLoader(Images(folder, train, limit), args.batch_size, shuffle=True, collate_fn=lambda batch: batch)
            for train, limit in [(True, args.limit_train), (False, args.limit_test)]
        ]
    except FileNotFoundError as error:
        sys.exit(f"error: {error.filename} is missing: run scripts/setup --dataset {args.dataset}, or give --data DIR")
    train_loader, test_loader = loaders
    optimizer = optim.SGD(
        net.parameters(), args.lr, args.momentum, weight_decay=args.weight_decay, nesterov=args.nesterov
    )
    scheduler = SCHEDULES[args.schedule](args, optimizer, len(train_loader))
    per_step = args.schedule in PER_STEP
    after_step, after_epoch = (scheduler.step, nothing) if per_step else (nothing, scheduler.step)

    started = time.perf_counter()
    losses: list[tuple[float, float]] = []
    for epoch in range(args.epochs):
        if args.log_format == "text":
            print("EPOCH:", epoch, flush=True)
        began = time.perf_counter()
        trained = train(net, args.device, train_loader, optimizer, after_step, losses)
        after_epoch()
        tested = test(net, args.device, test_loader)
        if args.log_format == "text":
            accuracy = f"{tested['correct']}/{len(test_loader.dataset)} ({tested['test_accuracy']:.2f}%)"
            print(f"\nTest set: Average loss: {tested['test_loss']:.4f}, Accuracy: {accuracy}\n", flush=True)
        else:
            seconds = time.perf_counter() - began
            print(json.dumps({"event": "epoch", "epoch": epoch, **trained, **tested, "seconds": seconds}), flush=True)
    if args.log_format == "json":
        seconds = time.perf_counter() - started
        print(json.dumps({"event": "done", "status": "done", "epochs": args.epochs, **tested, "seconds": seconds}))
    if args.out:
        save(args.out, net, losses, len(train_loader))


def save(out: Path, net: nn.Module, losses: list[tuple[float, float]], steps: int) -> None:
    """Writes the state_dict, and each step's loss with as many digits as float32 needs."""
    out.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), out / "model.pth")
    with open(out / "losses.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "epoch", "lr", "loss"])
        for step, (lr, loss) in enumerate(losses):
            writer.writerow([step, step // steps, lr, np.float32(loss)])


if __name__ == "__main__":
    main()
