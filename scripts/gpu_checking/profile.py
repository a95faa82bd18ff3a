"""One training step under PyTorch's profiler: what runs, for how long, and the time between.

The step is the twin's, `scripts/twins.py`; the program's has the same operations of libtorch.
"""

from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator

import torch
import twins
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from gpu_checking.context import Context
from gpu_checking.findings import Finding

STEPS = 5
LONGEST = 10


def check(context: Context) -> Iterator[Finding]:
    """Eager, and on a GPU also as a CUDA graph."""
    twins.set_up(context.args.device, context.args.threads)
    for way in ["eager", "cuda-graph"] if context.on_gpu else ["eager"]:
        numbers = profiled(context, way)
        said = f"{numbers['kernels']:.0f} kernels, {numbers['busy_us']:.0f} us"
        if context.on_gpu:
            said += f" busy, {numbers['between_us']:.0f} us between them"
        first, time = next(iter(numbers["longest_us"].items()), ("nothing", 0.0))
        yield Finding(f"a step of PyTorch, {way}", f"{said}; longest: {first[:60]}, {time:.0f} us", None, numbers)


def profiled(context: Context, way: str) -> dict:
    """Kernels per step, and microseconds per step in them and between them."""
    args = Namespace(way=way, batch_size=128, device=context.args.device, data=context.args.data)
    twin = twins.Twin(args)
    twin.net.train()
    step = twin.capture() if way == "cuda-graph" else twin.step
    batches = torch.randperm(128 * (STEPS + 3), device=args.device).split(128)
    made(step, batches[:3], context.on_gpu)
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if context.on_gpu else [])
    with profile(activities=kinds, acc_events=True) as profiler:
        made(step, batches[3:], context.on_gpu)
    return summary(profiler, context.on_gpu)


def made(step: Callable, batches: tuple, on_gpu: bool) -> None:
    """Makes the steps, and waits for them."""
    for chosen in batches:
        step(chosen)
    if on_gpu:
        torch.cuda.synchronize()


def summary(profiler: profile, on_gpu: bool) -> dict:
    """What a profile says of a step."""
    if not on_gpu:
        rows = [(row.key, row.count, row.self_cpu_time_total) for row in profiler.key_averages()]
        longest = Counter({name: time / STEPS for name, _, time in rows})
        count, busy, between = sum(count for _, count, _ in rows), sum(time for _, _, time in rows), 0.0
    else:
        of_gpu = [event for event in profiler.events() if event.device_type == DeviceType.CUDA]
        kernels = [event for event in of_gpu if not event.is_user_annotation]
        spans = sorted((event.time_range.start, event.time_range.end) for event in kernels)
        longest = Counter()
        for event in kernels:
            longest[event.name] += (event.time_range.end - event.time_range.start) / STEPS
        count, busy = len(spans), sum(end - start for start, end in spans)
        between = sum(max(later[0] - earlier[1], 0.0) for earlier, later in zip(spans, spans[1:], strict=False))
    top = dict(longest.most_common(LONGEST))
    return {"kernels": count / STEPS, "busy_us": busy / STEPS, "between_us": between / STEPS, "longest_us": top}
