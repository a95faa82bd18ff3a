"""Every recipe, whole: accuracy, seconds, memory."""

import statistics
from collections.abc import Callable

from gpu_checking.context import Context

# On a slice they show that they run, and no more; a capture needs two steps in an epoch.
TEST_SLICE = 500
SLICE = ["--limit-train", 1280, "--limit-test", TEST_SLICE, "--epochs", 1]

# Mean accuracy on the test set in percent, over so many seeds.
ACCURACY = {"original": 99.2, "best": 99.45, "speed": 99.4}
SEEDS = {"speed": 5}

# Seconds of all epochs and their tests, on the GPUs that they were promised for.
SECONDS = {"original": 3.0, "speed": 2.0}
PROMISED_ON = ["H100", "H200"]


def test_recipes(context: Context, finding: Callable) -> None:
    """One recipe after the other."""
    for recipe in context.choices("recipe"):
        seeds = 1 if context.quick else SEEDS.get(recipe, 1)
        sizes = SLICE if context.quick else []
        flags = ["--recipe", recipe, *sizes, *context.captured]
        runs = [context.train(f"{recipe}-seed-{seed}", *flags, "--seed", seed) for seed in range(1, seeds + 1)]
        accuracies = [run.done["test_accuracy"] for run in runs]
        accuracy, seconds = statistics.mean(accuracies), statistics.median(run.seconds for run in runs)
        least = None if context.quick else ACCURACY.get(recipe)
        what = f"{recipe}, {len(runs[0].epochs)} epochs, {seeds} seeds: test accuracy"
        promise = f", at least {least} %" if least else ""
        kept = accuracy >= least if least else None
        finding(what + promise, f"{accuracy:.2f} %", kept, accuracies=accuracies)

        fast = context.gpu is not None and any(name in context.gpu for name in PROMISED_ON)
        most = SECONDS.get(recipe) if fast and not context.quick else None
        what = f"{recipe}: all epochs and their tests" + (f" in at most {most} s" if most else "")
        before = statistics.median(run.done["preparation_seconds"] for run in runs)
        said = f"{seconds:.2f} s, after {before:.2f} s to get ready"
        kept, each = seconds <= most if most else None, [run.seconds for run in runs]
        finding(what, said, kept, seconds=each, preparation_seconds=before)

        captured = [run.done["captured"] for run in runs]
        if context.on_gpu:
            finding(f"{recipe}: steps are captured", f"{sum(captured)} of {seeds} runs", all(captured))
        host, gpu = max(run.host_memory for run in runs), max(run.gpu_memory for run in runs)
        said = f"{host / 2**20:,.0f} MiB" + (f", {gpu / 2**20:,.0f} MiB on the GPU" if context.on_gpu else "")
        finding(f"{recipe}: peak memory", said, host=host, gpu=gpu)
