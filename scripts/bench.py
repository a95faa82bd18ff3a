"""Compares `tch-mnist` with PyTorch on this machine: all contenders take turns in every round.

    python scripts/bench.py                       # on the CPU: training steps, epochs, evaluation, start-up
    python scripts/bench.py --device cuda         # on a GPU
    python scripts/bench.py --what steps --only eager fused
    python scripts/bench.py time-to-accuracy      # whole trainings of a recipe: accuracy and seconds; --help says more

Prints a table for each measure, and writes all rounds as JSON with --out. `times eager` is the median over the rounds
of PyTorch eager's time to the contender's in the same round, with its least and greatest.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import machine
import time_to_accuracy
from common import PROGRAM, ROOT, need_program, write_json

ON_CPU = ["eager", "channels-last", "compile", "torch", "fused"]
ON_CUDA = ["eager", "channels-last", "compile", "reduce-overhead", "cuda-graph", "torch", "captured"]
# What each contender is in the tables.
NAMES = {
    "eager": "PyTorch eager",
    "channels-last": "PyTorch channels_last",
    "compile": "torch.compile",
    "reduce-overhead": 'torch.compile, mode="reduce-overhead"',
    "cuda-graph": "PyTorch, its own torch.cuda.CUDAGraph",
    "torch": "tch-mnist --kernels torch",
    "fused": "tch-mnist --kernels fused",
    "captured": "tch-mnist, captured",
    "import": 'python -c "import torch"',
}


def command(contender: str, what: str, args: argparse.Namespace) -> list[str]:
    """The process that measures `what` for a contender."""
    shared = ["--what", what, "--batch-size", args.batch_size, "--device", args.device, "--threads", args.threads]
    shared += ["--steps", args.steps, "--data", args.data]
    if contender in ("torch", "fused", "captured"):
        own = ["--kernels", "fused" if contender == "fused" else "torch"]
        if args.device != "cpu":
            own += ["--cuda-graph", "on" if contender == "captured" else "off"]
        line = [PROGRAM, "bench", "-q", "--on-request", "--log-format", "json", "--rounds", args.rounds, *own, *shared]
    else:
        line = [sys.executable, ROOT / "scripts/twins.py", "--way", contender, *shared]
    return [str(part) for part in line]


@dataclass
class Contender:
    """A process that measures rounds on request."""

    name: str
    process: subprocess.Popen
    seconds: list[float] = field(default_factory=list)
    peak_memory: int = 0  # bytes

    @classmethod
    def start(cls, name: str, what: str, args: argparse.Namespace) -> "Contender":
        """Starts it and waits until it is ready for its first round."""
        pipe = subprocess.PIPE
        contender = cls(name, subprocess.Popen(command(name, what, args), stdin=pipe, stdout=pipe, text=True))
        ready = contender.read("ready")
        if what != "evaluate" and name in ("torch", "captured") and ready["captured"] != (name == "captured"):
            sys.exit(f"error: {NAMES[name]}: its steps are {'' if ready['captured'] else 'not '}captured")
        return contender

    def read(self, event: str) -> dict:
        """Its next line, which must be of this event."""
        line = self.process.stdout.readline()
        if not line or json.loads(line)["event"] != event:
            sys.exit(f"error: {NAMES[self.name]} ended before its {event} (see above)")
        return json.loads(line)

    def round(self) -> None:
        """Measures a round."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.seconds.append(self.read("round")["seconds"])

    def stop(self) -> None:
        """Ends it and records its peak resident memory."""
        self.process.stdin.close()
        self.process.stdout.close()
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = status
        self.peak_memory = usage.ru_maxrss * 1024


class Others:
    """The share of the machine's cores that other processes, or other virtual machines, used."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    @staticmethod
    def own(pid: int) -> int:
        """Ticks that a process was busy."""
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def during(self, contender: Contender) -> None:
        """Measures a round and what others did meanwhile."""
        (busy, total), own = machine.ticks(), self.own(contender.process.pid)
        contender.round()
        after_busy, after_total = machine.ticks()
        others = after_busy - busy - (self.own(contender.process.pid) - own)
        self.shares.append(max(others, 0) / max(after_total - total, 1))


def measure(what: str, names: list[str], args: argparse.Namespace) -> dict:
    """All rounds of one measure, the contenders in turn."""
    contenders = []
    for name in names:
        print(f"{what}: {NAMES[name]} gets ready", file=sys.stderr)
        contenders.append(Contender.start(name, what, args))
    others = Others()
    for number in range(args.rounds):
        # Each round starts with another contender, so that none always follows the same one.
        for contender in contenders[number % len(contenders) :] + contenders[: number % len(contenders)]:
            others.during(contender)
        print(f"{what}: round {number + 1} of {args.rounds} is done", file=sys.stderr)
    for contender in contenders:
        contender.stop()
    rows = [{"name": c.name, "seconds": c.seconds, "peak_memory": c.peak_memory} for c in contenders]
    return {"what": what, "rows": rows, "others": statistics.median(others.shares), "others_most": max(others.shares)}


def start_up(names: list[str], args: argparse.Namespace) -> dict:
    """The seconds from exec to the end of the first training step, and of Python's import of torch alone."""
    seconds: dict[str, list[float]] = {name: [] for name in ["import", *names]}
    for _ in range(args.rounds):
        for name, values in seconds.items():
            began = time.perf_counter()
            if name == "import":
                subprocess.run([sys.executable, "-c", "import torch"], check=True)
            else:
                contender = Contender.start(name, "steps", args)
            values.append(time.perf_counter() - began)
            if name != "import":
                contender.stop()
    return {"what": "start-up", "rows": [{"name": name, "seconds": values} for name, values in seconds.items()]}


def table(result: dict, args: argparse.Namespace) -> str:
    """A measure as a table in Markdown."""
    what, rows = result["what"], result["rows"]
    base = next((row["seconds"] for row in rows if row["name"] in ("eager", "import")), rows[0]["seconds"])
    unit, scale, images = {
        "steps": ("ms a step", 1e3 / args.steps, args.batch_size * args.steps),
        "epoch": ("s an epoch with its test", 1, 60000),
        "evaluate": ("ms for 10,000 images", 1e3, 10000),
        "start-up": ("s to the first step", 1, 0),
    }[what]
    reference = "import torch" if what == "start-up" else "eager"
    lines = [f"| {what} | {unit} | images a second | times {reference} | peak memory |", "|---|---|---|---|---|"]
    for row in rows:
        middle = statistics.median(row["seconds"])
        ratios = [b / s for b, s in zip(base, row["seconds"], strict=True)]
        rate = f"{images / middle:,.0f}" if images else "-"
        memory = f"{row['peak_memory'] / 2**20:,.0f} MiB" if row.get("peak_memory") else "-"
        spread = f"{scale * min(row['seconds']):.3g} to {scale * max(row['seconds']):.3g}"
        times = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {NAMES[row['name']]} | {scale * middle:.3g} ({spread}) | {rate} | {times} | {memory} |")
    if "others" in result:
        share, most = result["others"], result["others_most"]
        lines.append(f"\nOther processes took {share:.1%} of the machine (at most {most:.1%} in a round).")
        lines.extend(machine.verdict(share))
    return "\n".join(lines)


def about(args: argparse.Namespace) -> dict:
    """The machine and the versions."""
    program = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    names = {"cpu": machine.name("cpu"), "cores": os.cpu_count(), "threads": args.threads or os.cpu_count()}
    return {**names, "program": program} | ({"gpu": machine.name(args.device)} if args.device != "cpu" else {})


def arguments() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measures = ["steps", "epoch", "evaluate", "start-up"]
    parser.add_argument("--what", nargs="+", choices=measures, default=measures, help="which measures (default: all)")
    parser.add_argument("--only", nargs="+", choices=[*ON_CPU, *ON_CUDA[3:]], help="only these contenders")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds per measure, at least 1 (default: 5)")
    parser.add_argument("--steps", type=int, default=50, help="training steps per round (default: 50)")
    parser.add_argument("--batch-size", type=int, default=128, help="images per step (default: 128)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: one per core (default: 0)")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="the folder with the data (default: data)")
    parser.add_argument("--out", type=Path, help="write all rounds as JSON to this file")
    args = parser.parse_args()
    if args.rounds < 1 or args.steps < 1 or args.batch_size < 1 or args.threads < 0:
        parser.error("--rounds, --steps and --batch-size take whole numbers from 1 up, --threads from 0 up")
    need_program()
    return args


def main() -> None:
    """Measures, prints, writes."""
    if sys.argv[1:2] == ["time-to-accuracy"]:
        return time_to_accuracy.main(sys.argv[2:])
    args = arguments()
    names = [name for name in (ON_CPU if args.device == "cpu" else ON_CUDA) if not args.only or name in args.only]
    measured_on = about(args)
    print(", ".join(f"{key}: {value}" for key, value in measured_on.items()), flush=True)
    results = []
    for what in args.what:
        if what == "start-up":
            result = start_up([name for name in names if name in ("eager", "torch", "fused", "captured")], args)
        elif what == "epoch":
            # The original's own functions take a plain net.
            result = measure(what, [name for name in names if name in ("eager", "torch", "fused", "captured")], args)
        else:
            result = measure(what, names, args)
        results.append(result)
        print("\n" + table(result, args), flush=True)
    if args.out:
        write_json(args.out, {"machine": measured_on, "settings": vars(args), "results": results})


if __name__ == "__main__":
    main()
