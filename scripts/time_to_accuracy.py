"""Whole trainings by `tch-mnist train --recipe`: the mean final test accuracy of a recipe, and its seconds.

    python scripts/bench.py time-to-accuracy          # --recipe speed beside the original in PyTorch
    python scripts/bench.py time-to-accuracy --recipes best original --pytorch-seeds 0

Every seed is trained for the recipe's epochs and counted: nothing stops at a test accuracy, no epoch is picked by it.
`seconds` are those of all epochs and the test after each; `with start-up` is the whole process, from exec to exit. In
PyTorch it is scripts/reference.py: the original's settings, with the images in memory. Contenders take turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
from common import PROGRAM, ROOT, need_program, spread, wait_for, write_json

PYTORCH = "original in PyTorch"


def train(line: list[object]) -> dict:
    """Runs a training that prints JSON lines: its accuracy, its seconds, the share of the machine that others used."""
    before, began = machine.ticks(), time.perf_counter()
    process = subprocess.Popen([str(part) for part in line], stdout=subprocess.PIPE, text=True)
    lines = [json.loads(text) for text in process.stdout]
    process.stdout.close()
    usage = wait_for(process)
    wall = time.perf_counter() - began
    if process.returncode != 0:
        sys.exit(f"error: {line[0]} {line[1]} ended with the exit code {process.returncode} (see above)")
    own = (usage.ru_utime + usage.ru_stime) * os.sysconf("SC_CLK_TCK")
    epochs = [line for line in lines if line["event"] == "epoch"]
    return {
        "epochs": len(epochs),
        "test_accuracy": epochs[-1]["test_accuracy"],
        "seconds": sum(epoch["seconds"] for epoch in epochs),
        "seconds_with_start_up": wall,
        "others": machine.share_of_others(before, machine.ticks(), own),
    }


def command(name: str, seed: int, args: argparse.Namespace, out: Path) -> list[object]:
    """The training of a contender from a seed."""
    shared = ["--seed", seed, "--device", args.device, "--threads", args.threads, "--data", args.data]
    shared += ["--log-format", "json"]
    if args.limit_train:
        shared += ["--limit-train", args.limit_train]
    if name == PYTORCH:
        return [sys.executable, ROOT / "scripts/reference.py", *shared]
    own = ["--recipe", name, "--report=false", "--tensorboard=false", "--out", out / f"{name}-{seed}", "-q"]
    return [PROGRAM, "train", *own, *shared]


def table(runs: dict[str, list[dict]]) -> str:
    """The contenders in Markdown; factors are ratios of mean seconds."""
    head = "| recipe | epochs | seeds | test accuracy, % | seconds | with start-up | times faster |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    mean = {name: statistics.mean(run["seconds"] for run in rows) for name, rows in runs.items() if rows}
    for name, rows in runs.items():
        values = {key: [run[key] for run in rows] for key in rows[0]}
        factor = f"{mean[PYTORCH] / mean[name]:.1f}" if PYTORCH in mean else "-"
        lines.append(
            f"| {name} | {values['epochs'][0]} | {len(rows)} | {spread(values['test_accuracy'], '.3f')} "
            f"| {spread(values['seconds'], '.2f')} | {spread(values['seconds_with_start_up'], '.2f')} | {factor} |"
        )
    return "\n".join(lines)


def arguments(argv: list[str]) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="bench.py time-to-accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    recipes = ["original", "best", "speed"]
    parser.add_argument("--recipes", nargs="+", choices=recipes, default=["speed"], help="default: speed")
    parser.add_argument("--seeds", type=int, default=5, help="seeds per recipe, from 1 on (default: 5)")
    parser.add_argument("--pytorch-seeds", type=int, default=1, help="seeds in PyTorch; 0: leave it out (default: 1)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: one per core (default: 0)")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="the folder with the data (default: data)")
    parser.add_argument("--limit-train", type=int, default=0, help="the first N training images only; 0: all")
    parser.add_argument("--out", type=Path, help="write all runs as JSON to this file")
    args = parser.parse_args(argv)
    if args.seeds < 1 or args.pytorch_seeds < 0 or args.threads < 0 or args.limit_train < 0:
        parser.error("--seeds takes a whole number from 1 up; --pytorch-seeds, --threads and --limit-train from 0 up")
    need_program()
    return args


def main(argv: list[str]) -> None:
    """Trains, prints, writes."""
    args = arguments(argv)
    about = f"{machine.name(args.device)}, {args.threads or os.cpu_count()} CPU threads"
    print(f"on {about}", flush=True)
    contenders = dict.fromkeys(args.recipes, args.seeds)
    if args.pytorch_seeds:
        contenders[PYTORCH] = args.pytorch_seeds
    runs: dict[str, list[dict]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as out:
        for seed in range(1, max(contenders.values()) + 1):
            for name in [name for name, seeds in contenders.items() if seed <= seeds]:
                run = train(command(name, seed, args, Path(out)))
                runs[name].append({"seed": seed, **run})
                accuracy, seconds, others = run["test_accuracy"], run["seconds"], run["others"]
                print(f"{name}, seed {seed}: {accuracy:.2f} % in {seconds:.2f} s, others {others:.1%}", file=sys.stderr)
    print("\n" + table(runs))
    most = max(run["others"] for rows in runs.values() for run in rows)
    print(
        "\n".join([f"\nOther processes took at most {most:.1%} of the machine during a run.", *machine.verdict(most)])
    )
    if args.out:
        write_json(args.out, {"machine": about, "settings": vars(args), "runs": runs})
