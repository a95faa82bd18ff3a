"""Training steps beside PyTorch's, by `scripts/bench.py`: contenders take turns in the same run."""

import json
import shutil
import statistics
import sys
from collections.abc import Callable

from common import ROOT

from gpu_checking.context import Context, last_line

# How many times as fast as PyTorch's own ways the captured steps are.
TIMES = {"eager": 5.0, "cuda-graph": 1.2}


def test_speed(context: Context, finding: Callable) -> None:
    """The ways that need no compiler, then torch.compile."""
    if not context.on_gpu:
        compare(context, finding, ["eager", "fused"], "fused")
        return
    compare(context, finding, ["eager", "cuda-graph", "torch", "captured", "captured/1"], "captured", TIMES)
    if any(map(shutil.which, ["cc", "gcc", "clang"])):
        compare(context, finding, ["reduce-overhead", "captured"], "captured")
    else:
        finding('torch.compile, mode="reduce-overhead"', "left out: it needs a C compiler")


def measure(context: Context, names: list[str]) -> dict[str, list[float]]:
    """The milliseconds of a step in each round, by contender."""
    out = context.folder / f"bench-{names[0]}.json"
    rounds, steps = (2, 2) if context.quick else (5, 100)
    command = [sys.executable, ROOT / "scripts/bench.py", "--what", "steps", "--only", *names, "--out", out]
    done = context.call(*command, *context.where, "--rounds", rounds, "--steps", steps)
    assert done.returncode == 0, f"scripts/bench.py failed: {last_line(done.stderr)}"
    rows = json.loads(out.read_text())["results"][0]["rows"]
    return {row["name"]: [1e3 * seconds / steps for seconds in row["seconds"]] for row in rows}


def compare(
    context: Context, finding: Callable, names: list[str], own: str, promises: dict[str, float] | None = None
) -> None:
    """Each contender's step, and how many times as fast the program's `own` is in the same rounds."""
    rounds = measure(context, names)
    for name, times in rounds.items():
        middle = statistics.median(times)
        if name == own:
            finding(f"a step of {name}, batches of 128", f"{middle:.3f} ms", ms=times)
            continue
        factor = statistics.median(a / b for a, b in zip(times, rounds[own], strict=True))
        least = (promises or {}).get(name)
        what = f"{own} against {name}" + (f": at least {least} times as fast" if least else "")
        kept = factor >= least if least else None
        finding(what, f"{factor:.2f} times, {middle:.3f} ms", kept, ms=times, times=factor)
