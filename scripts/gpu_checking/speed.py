"""Training steps beside PyTorch's, by `scripts/bench.py`: contenders take turns in the same run."""

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator

from common import ROOT

from gpu_checking.context import Context, last_line
from gpu_checking.findings import BrokenError, Finding

# How many times as fast as PyTorch's own ways the captured steps are.
TIMES = {"eager": 5.0, "cuda-graph": 1.2}


def check(context: Context) -> Iterator[Finding]:
    """The ways that need no compiler, then torch.compile."""
    if not context.on_gpu:
        yield from ratios(measure(context, ["eager", "fused"]), "fused", {})
        return
    yield from ratios(measure(context, ["eager", "cuda-graph", "torch", "captured", "captured/1"]), "captured", TIMES)
    if any(map(shutil.which, ["cc", "gcc", "clang"])):
        yield from ratios(measure(context, ["reduce-overhead", "captured"]), "captured", {})
    else:
        yield Finding('torch.compile, mode="reduce-overhead"', "left out: it needs a C compiler")


def measure(context: Context, names: list[str]) -> dict[str, list[float]]:
    """The milliseconds of a step in each round, by contender."""
    args, out = context.args, context.folder / f"bench-{names[0]}.json"
    rounds, steps = (2, 2) if context.quick else (5, 100)
    command = [sys.executable, ROOT / "scripts/bench.py", "--what", "steps", "--only", *names, "--out", out]
    command += ["--device", args.device, "--data", args.data, "--threads", args.threads]
    command += ["--rounds", rounds, "--steps", steps]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise BrokenError(f"scripts/bench.py failed: {last_line(done.stderr)}")
    rows = json.loads(out.read_text())["results"][0]["rows"]
    return {row["name"]: [1e3 * seconds / steps for seconds in row["seconds"]] for row in rows}


def ratios(rounds: dict[str, list[float]], own: str, promises: dict[str, float]) -> Iterator[Finding]:
    """Each contender's step, and how many times as fast the program's `own` is in the same rounds."""
    for name, times in rounds.items():
        middle = statistics.median(times)
        if name == own:
            yield Finding(f"a step of {name}, batches of 128", f"{middle:.3f} ms", None, {"ms": times})
            continue
        factor = statistics.median(a / b for a, b in zip(times, rounds[own], strict=True))
        least = promises.get(name)
        what = f"{own} against {name}" + (f": at least {least} times as fast" if least else "")
        said = f"{factor:.2f} times, {middle:.3f} ms"
        yield Finding(what, said, factor >= least if least else None, {"ms": times, "times": factor})
