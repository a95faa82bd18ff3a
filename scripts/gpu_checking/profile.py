"""A training step under libtorch's profiler: what runs, for how long, and the time between.

The program's step by `bench --profile`, and PyTorch's, that of `scripts/twins.py`.
"""

import json
import os
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable

import torch
import twins
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from gpu_checking.context import Context, last_line

STEPS = 20
LONGEST = 10


def test_profile(context: Context, finding: Callable) -> None:
    """Eager, and on a GPU also as a CUDA graph."""
    if not context.on_gpu:
        os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # without a GPU, the profiler logs an error
    ways = {"a captured step": context.captured, "an eager step": context.eager} if context.on_gpu else {"a step": []}
    for what, flags in ways.items():
        show(finding, what, of_program(context, *flags))
    twins.set_up(context.args.device, context.args.threads)
    for way in ["eager", "cuda-graph"] if context.on_gpu else ["eager"]:
        show(finding, f"a step of PyTorch, {way}", of_twin(context, way))


def show(finding: Callable, what: str, numbers: dict) -> None:
    """What a profile of steps says."""
    first, longest = next(iter(numbers["longest_us"].items()), ("nothing", 0.0))
    said = f"{numbers['calls']:.0f} calls, {numbers['busy_us']:.0f} us, {numbers['between_us']:.0f} us between them"
    finding(what, f"{said}; longest: {first[:60]}, {longest:.0f} us", **numbers)


def of_program(context: Context, *flags: str) -> dict:
    """Kernels per step, on a CPU operations, and microseconds per step in them and between them."""
    rounds = ["--rounds", 3, "--steps", STEPS, "--profile", context.folder / "trace.json"]
    done = context.run("bench", "-q", "--log-format", "json", *context.where, *rounds, *flags)
    assert done.returncode == 0, f"bench --profile failed: {last_line(done.stderr)}"
    profile = json.loads(done.stdout.splitlines()[-1])
    steps, operations = profile["steps"], profile["operations"]
    busy = sum(operation["seconds"] for operation in operations)
    return {
        "calls": sum(operation["calls"] for operation in operations) / steps,
        "busy_us": 1e6 * busy / steps,
        "between_us": 1e6 * profile["idle_seconds"] / steps,
        "longest_us": {each["name"]: 1e6 * each["seconds"] / steps for each in operations[:LONGEST]},
    }


def of_twin(context: Context, way: str) -> dict:
    """The same for PyTorch."""
    args = Namespace(way=way, batch_size=128, device=context.args.device, data=context.args.data)
    twin = twins.Twin(args)
    twin.net.train()
    step = twin.capture() if way == "cuda-graph" else twin.step
    batches = torch.randperm(128 * (STEPS + 3)).to(args.device).split(128)
    made(step, batches[:3], context.on_gpu)
    # On a GPU the profiler delays the launches, but not the kernels.
    began = time.perf_counter()
    made(step, batches[3:], context.on_gpu)
    seconds = time.perf_counter() - began
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if context.on_gpu else [])
    with profile(activities=kinds, acc_events=True) as profiler:
        began = time.perf_counter()
        made(step, batches[3:], context.on_gpu)
        seconds = seconds if context.on_gpu else time.perf_counter() - began
    calls, longest = totals(profiler, context.on_gpu)
    assert calls, "PyTorch's profiler saw no kernel: with KINETO_LOG_LEVEL=2 in the environment it says why"
    busy, whole = longest.total(), 1e6 * seconds / STEPS
    top = dict(longest.most_common(LONGEST))
    return {"calls": calls, "busy_us": busy, "between_us": max(whole - busy, 0.0), "longest_us": top}


def made(step: Callable, batches: tuple, on_gpu: bool) -> None:
    """Makes the steps, and waits for them."""
    for chosen in batches:
        step(chosen)
    if on_gpu:
        torch.cuda.synchronize()


def totals(profiler: profile, on_gpu: bool) -> tuple[float, Counter[str]]:
    """Calls per step, and the microseconds per step of each kernel, on a CPU of each operation without its own ones."""
    if not on_gpu:
        rows = profiler.key_averages()
        times = Counter({row.key: row.self_cpu_time_total / STEPS for row in rows})
        return sum(row.count for row in rows) / STEPS, times
    of_gpu = [event for event in profiler.events() if event.device_type == DeviceType.CUDA]
    kernels = [event for event in of_gpu if not event.is_user_annotation]
    times = Counter()
    for kernel in kernels:
        times[kernel.name] += (kernel.time_range.end - kernel.time_range.start) / STEPS
    return len(kernels) / STEPS, times
