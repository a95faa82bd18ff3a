"""The training run of the original in PyTorch, as a PyTorch user writes it: the twin of `tch-mnist train`.

On a CPU, with the same flags, `tch-mnist train --kernels torch` prints the same lines and ends in the same bits:

    python scripts/reference.py --seed 1 --epochs 2 --limit-train 6400 --out /tmp/twin
"""

import argparse
import csv
import json
import math
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from copy import copy
from functools import cache
from inspect import signature
from pathlib import Path

import net_file
import numpy as np
import torch
import torch.nn.functional as F
from common import PROGRAM, lists
from mnist import load_split, normalise
from net import Net
from soap import Soap
from torch import Tensor, nn, optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset


class Images(Dataset):
    """A split in memory. `__getitems__` gathers a batch at once; what is drawn at random is the same without it."""

    def __init__(self, data: Path, dataset: str, train: bool, limit: int) -> None:
        images, labels = load_split(data, dataset, train)
        limit = limit or len(labels)
        self.images, self.labels = normalise(images[:limit]), labels[:limit]
        self.soft_targets: Tensor | None = None

    def hold_out(self, count: int, seed: int) -> "Images":
        """Moves `count` images to a split of their own. Each label gives its share, and `seed` chooses its images."""
        total = len(self)
        shares = torch.bincount(self.labels, minlength=10) * count
        wanted = shares // total
        # One more for the labels with the largest remainders.
        order = torch.argsort(shares % total, descending=True, stable=True)
        wanted[order[: count - int(wanted.sum())]] += 1
        drawn = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
        held = [drawn[self.labels[drawn] == label][: int(wanted[label])] for label in range(10)]
        is_held = torch.zeros(total, dtype=torch.bool)
        is_held[torch.cat(held)] = True
        rest = copy(self)
        rest.images, rest.labels = self.images[is_held], self.labels[is_held]
        self.images, self.labels = self.images[~is_held], self.labels[~is_held]
        return rest

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor | None]:
        chosen = torch.tensor(indices)
        soft_targets = None if self.soft_targets is None else self.soft_targets[chosen]
        return self.images[chosen], self.labels[chosen], soft_targets

    def ask(self, teachers: list[nn.Module], temperature: float) -> None:
        """Sets the soft targets of all images: the mean of what the teachers say."""
        rows = []
        with torch.no_grad():
            # In batches of 500: another size might round otherwise.
            for images in self.images.split(500):
                answers = [F.log_softmax(teacher(images) / temperature, dim=1).exp() for teacher in teachers]
                rows.append(sum(answers) / len(answers))
        self.soft_targets = torch.cat(rows)


# The loss of a batch by the net's output, the labels, and the soft targets if there are teachers.
Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def original_loss(output: Tensor, target: Tensor, _soft_target: None = None) -> Tensor:
    """The original's loss."""
    return F.nll_loss(output, target)


def distillation_loss(weight: float, temperature: float) -> Loss:
    """The original's loss, mixed with the distillation loss of Hinton, Vinyals and Dean (2015)."""

    def loss(output: Tensor, target: Tensor, soft_target: Tensor) -> Tensor:
        log_probabilities = F.log_softmax(output / temperature, dim=1)
        divergence = F.kl_div(log_probabilities, soft_target, reduction="sum")
        from_teachers = divergence * (temperature**2 / len(target))
        return original_loss(output, target) * (1 - weight) + from_teachers * weight

    return loss


def train(
    net: nn.Module,
    device: str,
    loader: DataLoader,
    optimizer: optim.Optimizer,
    after_step: Callable[[], None],
    losses: list[tuple[float, float]],
    max_norm: float = 0,
    loss_of: Loss = original_loss,
) -> dict:
    """The original's train function: one epoch. Notes each step's learning rate and loss in `losses`.

    With a `max_norm` above 0, gradients are clipped to it.
    """
    net.train()
    started = time.perf_counter()
    correct, loss_sum, norm_sum = 0, 0.0, 0.0
    lr = optimizer.param_groups[0]["lr"]
    for batch_id, (data, target, soft_target) in enumerate(loader):
        data, target = data.to(device), target.to(device)
        soft_target = None if soft_target is None else soft_target.to(device)
        optimizer.zero_grad()
        output = net(data)
        loss = loss_of(output, target, soft_target)
        loss.backward()
        step_lr, step_loss = optimizer.param_groups[0]["lr"], loss.item()
        losses.append((step_lr, step_loss))
        norm_sum += nn.utils.clip_grad_norm_(net.parameters(), max_norm or math.inf).item()
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
        "grad_norm": norm_sum / len(loader),
        "images_per_second": count / (time.perf_counter() - started),
    }


def test(net: nn.Module, device: str, loader: DataLoader) -> tuple[float, int]:
    """The original's test function: the mean loss, and the number of images that are classified correctly."""
    net.eval()
    test_loss, correct = 0.0, 0
    with torch.no_grad():
        for data, target, _ in loader:
            data, target = data.to(device), target.to(device)
            output = net(data)
            test_loss += F.nll_loss(output, target, reduction="sum").item()
            correct += (output.argmax(dim=1) == target).sum().item()
    return test_loss / len(loader.dataset), correct


def listed(kinds: str, name: str) -> dict:
    """What the program says of an optimizer or a schedule: its class in PyTorch, and which settings it has."""
    (kind,) = [it for it in lists()[kinds] if it["name"] == name]
    return kind


# Optimizers that PyTorch has not.
OPTIMIZERS = {"soap": Soap}


def make_optimizer(args: argparse.Namespace, net: nn.Module) -> optim.Optimizer:
    """The optimizer that was asked for. Parameters of one dimension that do not decay are a group of their own."""
    groups = [{"params": list(net.parameters())}]
    if not args.weight_decay_norm:
        wide, flat = ([p for p in net.parameters() if (p.dim() > 1) is many] for many in [True, False])
        groups = [{"params": wide}, {"params": flat, "weight_decay": 0.0}]
    kind = listed("optimizers", args.optimizer)
    own = {setting["key"]: getattr(args, setting["key"]) for setting in kind["settings"]}
    make = getattr(optim, kind["torch"]) if kind["torch"] else OPTIMIZERS[args.optimizer]
    return make(groups, **own)


# The schedules that change the rate after each step; the others do so after each epoch.
PER_STEP = ["one-cycle"]

# The schedules that look at the loss that was measured.
PER_LOSS = ["reduce-on-plateau"]

# Settings of schedules that PyTorch calls by another name.
RENAMED = {"plateau_patience": "patience"}


def make_schedule(args: argparse.Namespace, optimizer: optim.Optimizer, steps: int) -> lr_scheduler.LRScheduler:
    """The schedule that was asked for, for epochs of so many steps."""
    kind = listed("schedules", args.schedule)
    make = getattr(lr_scheduler, kind["torch"])
    # In PyTorch some begin with a capital: T_0.
    names = {name.lower(): name for name in signature(make).parameters}
    own = {setting["key"]: getattr(args, setting["key"]) for setting in kind["settings"]}
    lists_of_epochs = {key: [int(epoch) for epoch in it.split(",")] for key, it in own.items() if isinstance(it, str)}
    own = {names[RENAMED.get(key, key)]: value for key, value in {**own, **lists_of_epochs}.items()}
    # What the program knows without a setting: the run's length in epochs and in steps, and the highest rate.
    epochs = args.epochs - args.warmup_epochs
    known = {"T_max": epochs, "total_iters": epochs, "total_steps": epochs * steps, "max_lr": args.lr}
    known |= {"cycle_momentum": False, "factor": 1}
    return make(optimizer, **{name: known[name] for name in names.values() if name in known} | own)


def nothing() -> None:
    """Leaves the rate as it is."""


class Rates:
    """The learning rate of each step: a schedule, and the warm-up in front of it.

    SequentialLR counts all its parts in the same unit, so it does for a schedule that goes by steps. Most go by epochs.
    """

    def __init__(self, args: argparse.Namespace, optimizer: optim.Optimizer, steps: int) -> None:
        self.schedule = make_schedule(args, optimizer, steps)
        self.per_step, self.per_loss = args.schedule in PER_STEP, args.schedule in PER_LOSS
        self.groups, self.warmup_epochs = optimizer.param_groups, args.warmup_epochs
        self.first = self.groups[0]["lr"]
        if self.warmup_epochs:
            # It rises to the rate that the schedule begins with.
            rising = self.warmup_epochs * steps
            self.warmup = lr_scheduler.LinearLR(optimizer, start_factor=1 / (rising + 1), total_iters=rising)
            if self.per_step:
                self.schedule = lr_scheduler.SequentialLR(optimizer, [self.warmup, self.schedule], milestones=[rising])

    def after_step(self) -> None:
        """After each step."""
        if self.per_step:
            self.schedule.step()
        elif self.warmup_epochs:
            self.warmup.step()

    def after_epoch(self, loss: float) -> None:
        """After each epoch and its test, which measured `loss`."""
        if self.per_step:
            return
        if self.warmup_epochs:
            self.warmup_epochs -= 1
            if not self.warmup_epochs:
                for group in self.groups:
                    group["lr"] = self.first
        elif self.per_loss:
            self.schedule.step(loss)
        else:
            self.schedule.step()


# Settings of the program that are the twin's too, beside those of optimizers and schedules.
SETTINGS = [
    *["dataset", "limit_train", "limit_test", "validation", "epochs", "batch_size", "seed"],
    *["net", "net_values", "dropout", "teacher", "distillation_weight", "temperature"],
    *["optimizer", "lr", "weight_decay", "weight_decay_norm", "clip_grad_norm", "schedule", "warmup_epochs"],
]

# Settings by which the same training is computed in another way.
HOW = ["recipe", "kernels", "precision", "cuda_graph"]


def program(*arguments: str) -> str:
    """What the program prints; exits as it does if it refuses its arguments."""
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, end="", file=sys.stderr)
        sys.exit(done.returncode)
    return done.stdout


@cache
def unknown() -> dict[str, object]:
    """The settings that shape a training and that the twin has not, with their defaults."""
    kinds = [*lists()["optimizers"], *lists()["schedules"]]
    known = {setting["key"] for kind in kinds for setting in kind["settings"]}.union(SETTINGS, HOW)
    shaping = [setting["key"] for setting in lists()["settings"] if setting["is_hyperparameter"]]
    defaults = tomllib.loads(program("train", "--print-config"))
    return {key: defaults.get(key) for key in shaping if key not in known}


def check(settings: dict[str, object]) -> None:
    """Refuses settings that the twin has not."""
    for key, default in unknown().items():
        if settings.get(key) != default:
            sys.exit(f"error: the twin has no --{key.replace('_', '-')}: leave it out")


def arguments() -> argparse.Namespace:
    """The settings that `tch-mnist train` makes of the same flags."""
    epilog = "Every other flag is a setting of tch-mnist train."
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=epilog, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log-format", choices=["text", "json"], default="text")
    parser.add_argument("--out", type=Path, help="write model.pth and losses.csv into this folder")
    own, flags = parser.parse_known_args()
    settings = tomllib.loads(program("train", "--print-config", *flags))
    check(settings)
    args = argparse.Namespace(**{"teacher": None, **settings}, **vars(own))
    args.data, args.betas = Path(args.data), tuple(float(beta) for beta in args.betas.split(","))
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    return args


def build(args: argparse.Namespace) -> nn.Module:
    """The net, its weights drawn from the seed."""
    torch.manual_seed(args.seed)
    if args.net == "original":
        return Net(args.dropout)
    values = [f"--net-values={args.net_values}", f"--dropout={args.dropout}"]
    return net_file.read(program("summary", "--print", f"--net={args.net}", *values))


def teacher(file: str) -> nn.Module:
    """The net of the original with the weights in a file."""
    net = Net()
    net.load_state_dict(torch.load(file, weights_only=True))
    return net.eval()


def main() -> None:
    """Trains, tests and saves."""
    args = arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    # Before the seed, because a net draws its first weights.
    teachers = [teacher(file) for file in args.teacher.split(",")] if args.teacher else []
    net = build(args).to(args.device)
    images = Images(args.data, args.dataset, train=True, limit=args.limit_train)
    tested_on = Images(args.data, args.dataset, train=False, limit=args.limit_test)
    part, loss_of = "test", original_loss
    if args.validation:
        part, tested_on = "validation", images.hold_out(args.validation, args.seed)
    if teachers:
        images.ask(teachers, args.temperature)
        loss_of = distillation_loss(args.distillation_weight, args.temperature)
    # Both splits are shuffled, as in the original. `collate_fn` passes on what `__getitems__` has put together.
    train_loader, test_loader = (
        DataLoader(split, args.batch_size, shuffle=True, collate_fn=lambda batch: batch)
        for split in [images, tested_on]
    )
    optimizer = make_optimizer(args, net)
    rates = Rates(args, optimizer, len(train_loader))

    started = time.perf_counter()
    losses: list[tuple[float, float]] = []
    for epoch in range(args.epochs):
        if args.log_format == "text":
            print("EPOCH:", epoch, flush=True)
        began = time.perf_counter()
        trained = train(
            net, args.device, train_loader, optimizer, rates.after_step, losses, args.clip_grad_norm, loss_of
        )
        loss, correct = test(net, args.device, test_loader)
        # The original steps its schedule before the test, which does not depend on it.
        rates.after_epoch(loss)
        count = len(test_loader.dataset)
        accuracy = 100 * correct / count
        tested = {f"{part}_loss": loss, f"{part}_accuracy": accuracy, "correct": correct}
        if args.log_format == "text":
            line = f"{part.title()} set: Average loss: {loss:.4f}, Accuracy: {correct}/{count} ({accuracy:.2f}%)"
            print(f"\n{line}\n", flush=True)
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
