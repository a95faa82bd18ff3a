"""The precisions beside float32: on a GPU they train, on a CPU they are refused."""

from collections.abc import Callable

from gpu_checking.context import Context, last_line

# After one epoch on a part of the images; float32 has more.
LEAST = 90.0


def test_precision(context: Context, finding: Callable) -> None:
    """One after the other."""
    for precision in context.choices("precision"):
        if precision == "float32":
            continue
        flags = ["--precision", precision, "--epochs", 1, "--limit-train", 25600, "--batch-size", 64, "--lr", 0.05]
        flags += ["--schedule", "one-cycle"]
        if context.on_gpu:
            run = context.train(precision, *flags, *context.captured)
            accuracy = run.done["test_accuracy"]
            what = f"{precision}: captured, at least {LEAST:.0f} % after an epoch on 25,600 images"
            finding(what, f"{accuracy:.2f} %", run.done["captured"] and accuracy >= LEAST)
        else:
            done = context.run(*context.flags(precision, *flags))
            said = last_line(done.stderr)
            kept = done.returncode == 2 and f"--precision {precision} needs CUDA" in said
            finding(f"{precision} is refused on a CPU", said, kept)
