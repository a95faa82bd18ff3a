"""Compares `tch-mnist` with PyTorch on this machine: all contenders take turns in every round.

    python scripts/bench.py                       # on the CPU: training steps, epochs, evaluation, start-up
    python scripts/bench.py --device cuda         # on a GPU
    python scripts/bench.py --what steps --only eager fused
    python scripts/bench.py --instruction-set     # with the fused kernels for the other instruction sets
    python scripts/bench.py --peers PYTHON        # with JAX, ONNX Runtime and OpenVINO, as far as PYTHON has them
    python scripts/bench.py time-to-accuracy      # whole trainings of a recipe: accuracy and seconds; --help says more

"busy" is training steps beside another program's busy process, and in the same rounds without it.

Prints a table for each measure, and writes all rounds as JSON with --out. `times eager` is the median over the rounds
of PyTorch eager's time to the contender's in the same round, with its least and greatest. --only is about the usual
contenders; --instruction-set and --peers add to them.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import machine
import time_to_accuracy
from common import PROGRAM, ROOT, need_program, wait_for, write_json
from peers import PEERS

ON_CPU = ["eager", "channels-last", "compile", "torch", "fused"]
ON_CUDA = ["eager", "channels-last", "compile", "reduce-overhead", "cuda-graph", "torch", "captured", "captured/1"]
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
    "jax": "JAX, jitted",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "import": 'python -c "import torch"',
}
# `fused/SET` and `captured/N` are contenders with this value of a flag.
FLAGS = {"fused": "--instruction-set", "captured": "--steps-per-graph"}


def title(contender: str) -> str:
    """What a contender is in the tables."""
    name, _, value = contender.partition("/")
    return f"{NAMES[name]} {FLAGS[name]} {value}" if value else NAMES[name]


def command(contender: str, what: str, args: argparse.Namespace) -> list[str]:
    """The process that measures `what` for a contender."""
    contender, _, value = contender.partition("/")
    shared = ["--what", what, "--batch-size", args.batch_size, "--device", args.device, "--threads", args.threads]
    shared += ["--steps", args.steps, "--data", args.data]
    if contender in ("torch", "fused", "captured"):
        own = ["--kernels", "fused" if contender == "fused" else "torch"]
        if args.device != "cpu":
            own += ["--cuda-graph", "on" if contender == "captured" else "off"]
        if value:
            own += [FLAGS[contender], value]
        line = [PROGRAM, "bench", "-q", "--on-request", "--log-format", "json", "--rounds", args.rounds, *own, *shared]
    elif contender in PEERS:
        line = [args.peers, ROOT / "scripts/peers.py", "--way", contender, "--weights", args.weights, *shared]
    else:
        line = [sys.executable, ROOT / "scripts/twins.py", "--way", contender, *shared]
    return [str(part) for part in line]


@dataclass
class Contender:
    """A process that measures rounds on request."""

    name: str
    process: subprocess.Popen
    seconds: list[float] = field(default_factory=list)
    quiet: list[float] = field(default_factory=list)  # without the busy process that `seconds` are beside
    peak_memory: int = 0  # bytes

    @classmethod
    def start(cls, name: str, what: str, args: argparse.Namespace) -> "Contender":
        """Starts it and waits until it is ready for its first round."""
        pipe = subprocess.PIPE
        contender = cls(name, subprocess.Popen(command(name, what, args), stdin=pipe, stdout=pipe, text=True))
        ready = contender.read("ready")
        way = name.partition("/")[0]
        if what != "evaluate" and way in ("torch", "captured") and ready["captured"] != (way == "captured"):
            sys.exit(f"error: {title(name)}: its steps are {'' if ready['captured'] else 'not '}captured")
        return contender

    def read(self, event: str) -> dict:
        """Its next line, which must be of this event."""
        line = self.process.stdout.readline()
        if not line or json.loads(line)["event"] != event:
            sys.exit(f"error: {title(self.name)} ended before its {event} (see above)")
        return json.loads(line)

    def round(self, steps: int) -> float:
        """Measures a round in seconds; one of steps as if it had so many of them."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        round = self.read("round")
        # With graphs of several steps, a round may make some more than were asked for.
        return round["seconds"] * steps / round.get("steps", steps)

    def stop(self) -> None:
        """Ends it and records its peak resident memory."""
        self.process.stdin.close()
        self.process.stdout.read()
        self.process.stdout.close()
        self.peak_memory = wait_for(self.process).ru_maxrss * 1024
        if self.process.returncode != 0:
            sys.exit(f"error: {title(self.name)} ended with the exit code {self.process.returncode} (see above)")


class Others:
    """The share of the machine's cores that other processes, or other virtual machines, used."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    @staticmethod
    def own(pid: int) -> int:
        """Ticks that a process was busy."""
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def during(self, contender: Contender, steps: int, load: "Load | None" = None) -> float:
        """Measures a round, in seconds, and what others did meanwhile, except for the contender and the load."""
        pids = [contender.process.pid] + ([load.process.pid] if load else [])
        before, own_before = machine.ticks(), sum(map(self.own, pids))
        seconds = contender.round(steps)
        after, own_after = machine.ticks(), sum(map(self.own, pids))
        self.shares.append(machine.share_of_others(before, after, own_after - own_before))
        return seconds


class Load:
    """Another program's process that is always busy, at the same priority: within `with load.busy():`."""

    def __enter__(self) -> "Load":
        self.process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        self.process.send_signal(signal.SIGSTOP)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """While it lasts, the process runs."""
        self.process.send_signal(signal.SIGCONT)
        yield
        self.process.send_signal(signal.SIGSTOP)


def program(*line: object) -> str:
    """What a command of the program prints."""
    done = subprocess.run([PROGRAM, *line], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"error: tch-mnist {line[0]} ended with the exit code {done.returncode} (see above)")
    return done.stdout


def instruction_sets() -> list[str]:
    """The fused kernels for the instruction sets that the processor has, but for the first, which `fused` uses."""
    found = json.loads(program("doctor", "--log-format", "json"))
    return [f"fused/{name}" for name in found["cpu"]["instruction_sets"][1:]]


def importable(python: str) -> list[str]:
    """Those of PEERS that a Python has; says which ones it does not have."""
    try:
        done = {name: subprocess.run([python, "-c", f"import {name}"], capture_output=True) for name in PEERS}
    except OSError as error:
        sys.exit(f"error: --peers {python} cannot be run: {error.strerror}")
    found = [name for name in PEERS if done[name].returncode == 0]
    missing = ", ".join(name for name in PEERS if name not in found)
    if not found:
        sys.exit(f"error: --peers {python} can import none of {missing}: install one with its pip")
    if missing:
        print(f"left out, because {python} cannot import them: {missing}", file=sys.stderr)
    return found


def export_weights(folder: Path, args: argparse.Namespace) -> None:
    """Writes the weights that peers read, model.onnx and model.npz, after a few steps of training."""
    quick = ["--limit-train", "1280", "--limit-test", "100", "--epochs", "1", "--report=false", "--tensorboard=false"]
    program("train", "-q", "--device", "cpu", "--data", args.data, *quick, "--out", folder)
    program("export", "-q", "--weights", folder / "model.pth", "--to", folder / "model.npz")


def measure(what: str, names: list[str], args: argparse.Namespace) -> dict:
    """All rounds of one measure, the contenders in turn."""
    contenders = []
    asked = argparse.Namespace(**{**vars(args), "rounds": args.rounds * (2 if what == "busy" else 1)})
    for name in names:
        print(f"{what}: {title(name)} gets ready", file=sys.stderr)
        contenders.append(Contender.start(name, process_of(what), asked))
    others = Others()
    with Load() if what == "busy" else contextlib.nullcontext() as load:
        for number in range(args.rounds):
            # Each round starts with another contender, so that none always follows the same one.
            for contender in contenders[number % len(contenders) :] + contenders[: number % len(contenders)]:
                if load:
                    contender.quiet.append(others.during(contender, args.steps))
                with load.busy() if load else contextlib.nullcontext():
                    contender.seconds.append(others.during(contender, args.steps, load))
            print(f"{what}: round {number + 1} of {args.rounds} is done", file=sys.stderr)
    for contender in contenders:
        contender.stop()
    rows = [{"name": c.name, "seconds": c.seconds, "quiet": c.quiet, "peak_memory": c.peak_memory} for c in contenders]
    for row in rows:
        row["times"] = statistics.median(ratios(row, rows))
    return {"what": what, "rows": rows, "others": statistics.median(others.shares), "others_most": max(others.shares)}


def process_of(what: str) -> str:
    """What the contenders' processes measure: steps, whether or not another process is busy."""
    return "steps" if what == "busy" else what


def ratios(row: dict, rows: list[dict]) -> list[float]:
    """How many times as fast as eager a contender was in each round; without it, as the first row."""
    base = next((row["seconds"] for row in rows if row["name"] in ("eager", "import")), rows[0]["seconds"])
    return [b / s for b, s in zip(base, row["seconds"], strict=True)]


def slowdowns(row: dict) -> list[float]:
    """How many times as long a round beside the busy process took as the one before it without."""
    return [busy / quiet for busy, quiet in zip(row["seconds"], row["quiet"], strict=True)]


def start_up(names: list[str], args: argparse.Namespace) -> dict:
    """The seconds from exec to the end of the first training step (or graph), and of Python's import of torch alone."""
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
    unit, scale, images = {
        "steps": ("ms a step", 1e3 / args.steps, args.batch_size * args.steps),
        "busy": ("ms a step beside a busy process", 1e3 / args.steps, args.batch_size * args.steps),
        "epoch": ("s an epoch with its test", 1, 60000),
        "evaluate": ("ms for 10,000 images", 1e3, 10000),
        "start-up": ("s to the first step", 1, 0),
    }[what]
    reference = "import torch" if what == "start-up" else "eager"
    slower = " times its quiet time |" if what == "busy" else ""
    lines = [
        f"| {what}, batch {args.batch_size} | {unit} | images a second | times {reference} | peak memory |{slower}",
        "|---|---|---|---|---|" + ("---|" if slower else ""),
    ]
    for row in rows:
        middle = statistics.median(row["seconds"])
        times = ratios(row, rows)
        rate = f"{images / middle:,.0f}" if images else "-"
        memory = f"{row['peak_memory'] / 2**20:,.0f} MiB" if row.get("peak_memory") else "-"
        spread = f"{scale * min(row['seconds']):.3g} to {scale * max(row['seconds']):.3g}"
        times = f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
        line = f"| {title(row['name'])} | {scale * middle:.3g} ({spread}) | {rate} | {times} | {memory} |"
        lines.append(line + (f" {statistics.median(slowdowns(row)):.2f} |" if slower else ""))
    if "others" in result:
        share, most = result["others"], result["others_most"]
        lines.append(f"\nOther processes took {share:.1%} of the machine (at most {most:.1%} in a round).")
        lines.extend(machine.verdict(share))
    return "\n".join(lines)


def summary(results: list[dict]) -> str:
    """How many times as fast as PyTorch eager the fused kernels are, on one line; empty if not both were measured."""
    parts = []
    for result in results:
        rows = {row["name"]: row for row in result["rows"]}
        if result["what"] != "start-up" and {"eager", "fused"} <= set(rows):
            parts.append(f"{result['what']} at batch {result['batch_size']}: {rows['fused']['times']:.2f}")
    return f"{title('fused')}, times {title('eager')}: " + ", ".join(parts) if parts else ""


def about(args: argparse.Namespace) -> dict:
    """The machine and the versions."""
    names = {"cpu": machine.name("cpu"), "cores": os.cpu_count(), "threads": args.threads or os.cpu_count()}
    return {**names, "program": program("--version").strip()} | (
        {"gpu": machine.name(args.device)} if args.device != "cpu" else {}
    )


def arguments() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measures = ["steps", "busy", "epoch", "evaluate", "start-up"]
    parser.add_argument("--what", nargs="+", choices=measures, default=measures, help="which measures (default: all)")
    parser.add_argument(
        "--only", nargs="+", choices=list(dict.fromkeys(ON_CPU + ON_CUDA)), help="only these contenders"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds per measure, at least 1 (default: 5)")
    parser.add_argument("--steps", type=int, default=50, help="training steps per round (default: 50)")
    sizes = {"nargs": "+", "type": int, "default": [128], "dest": "batch_sizes", "metavar": "N"}
    parser.add_argument("--batch-size", **sizes, help="images per step, one or several sizes (default: 128)")
    help = "the fused kernels for the processor's other instruction sets too"
    parser.add_argument("--instruction-set", action="store_true", help=help)
    help = "a Python with some of jax, onnxruntime and openvino: measure those too"
    parser.add_argument("--peers", metavar="PYTHON", help=help)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: one per core (default: 0)")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="the folder with the data (default: data)")
    parser.add_argument("--out", type=Path, help="write all rounds as JSON to this file")
    args = parser.parse_args()
    if args.rounds < 1 or args.steps < 1 or min(args.batch_sizes) < 1 or args.threads < 0:
        parser.error("--rounds, --steps and --batch-size take whole numbers from 1 up, --threads from 0 up")
    if args.device != "cpu" and (args.instruction_set or args.peers):
        parser.error("--instruction-set and --peers measure a CPU: leave out --device")
    if args.only and not set(args.only) & set(usual(args)) and not args.peers:
        parser.error(f"--only {' '.join(args.only)}: on this device there are {', '.join(usual(args))}")
    need_program()
    return args


def usual(args: argparse.Namespace) -> list[str]:
    """The contenders for the device."""
    return ON_CPU if args.device == "cpu" else ON_CUDA


def contenders(args: argparse.Namespace) -> list[str]:
    """All that were asked for."""
    names = [name for name in usual(args) if not args.only or name in args.only]
    if args.instruction_set:
        names += instruction_sets()
    return names + (importable(args.peers) if args.peers else [])


def results_of(names: list[str], args: argparse.Namespace) -> Iterator[dict]:
    """All measures at all batch sizes, printed as they are done."""
    # An epoch is the original's own functions, which take a plain net.
    plain = [name for name in names if name.partition("/")[0] in ("eager", "torch", "fused", "captured")]
    with tempfile.TemporaryDirectory() as weights:
        if args.peers:
            export_weights(Path(weights), args)
        for size, what in product(args.batch_sizes, args.what):
            sized = argparse.Namespace(**vars(args), batch_size=size, weights=weights)
            whole, process = what in ("epoch", "start-up"), process_of(what)
            fitting = plain if whole else [name for name in names if PEERS.get(name, process) == process]
            if not fitting:
                print(f"{what}: left out, none of {', '.join(names)} has it", file=sys.stderr)
                continue
            result = start_up(fitting, sized) if what == "start-up" else measure(what, fitting, sized)
            print("\n" + table(result, sized), flush=True)
            yield {"batch_size": size, **result}


def main() -> None:
    """Measures, prints, writes."""
    if sys.argv[1:2] == ["time-to-accuracy"]:
        return time_to_accuracy.main(sys.argv[2:])
    args = arguments()
    names = contenders(args)
    measured_on = about(args)
    print(", ".join(f"{key}: {value}" for key, value in measured_on.items()), flush=True)
    results = []
    for result in results_of(names, args):
        results.append(result)
        if args.out:
            write_json(args.out, {"machine": measured_on, "settings": vars(args), "results": results})
    if line := summary(results):
        print("\n" + line)


if __name__ == "__main__":
    main()
