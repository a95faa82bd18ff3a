"""Captured steps train as eager ones do: with every schedule, every optimizer and a teacher."""

from collections.abc import Callable

from common import lists

from gpu_checking.context import Context, Run

# 5 epochs of 9 batches of 16 images and one of 12; some schedules go by images that are held out.
SIZES = ["--limit-train", 256, "--validation", 100, "--batch-size", 16, "--epochs", 5]

RATE = ["--lr", 0.02]
OPTIMIZERS = ["--lr", 0.002, "--schedule", "one-cycle"]

# In 9 steps come two graphs of four and one of one; SOAP's work, between them.
GRAPHS = ["--steps-per-graph", 4]

# By how much weights and losses may differ after 50 steps.
TOLERANCE = 1e-6

# What a rate that does not change would make of the weights, at least.
VISIBLE = 1e-4


def test_steps(context: Context, finding: Callable) -> None:
    """50 steps, once as a graph and once kernel by kernel."""
    settings = [("schedule", it["name"], [*RATE, *it["examples"][0]]) for it in lists()["schedules"]]
    settings += [("optimizer", it["name"], [*it["examples"][0], *OPTIMIZERS]) for it in lists()["optimizers"]]
    if context.quick:
        settings = [it for it in settings if it[1] in ("one-cycle", settings[-1][1])]
    steps = [(f"{kind} {name}", name, [*flags, f"--{kind}", name]) for kind, name, flags in settings]
    teacher = context.train("teacher", *SIZES, *RATE, *context.eager).folder / "model.safetensors"
    steps.append(("a teacher", "taught", [*RATE, "--teacher", teacher]))
    for setting, name, flags in steps:
        one, other = (
            context.train(f"{name}-{launch}", *SIZES, *flags, *how)
            for launch, how in [("captured", [*GRAPHS, *context.captured]), ("eager", context.eager)]
        )
        apart = difference(one, other)
        right = one.done["captured"] == context.on_gpu and not other.done["captured"]
        said = f"{apart:.1e}" if right else "steps were not launched as asked"
        what = f"50 steps with {setting}: captured and eager within {TOLERANCE}"
        finding(what, said, right and apart <= TOLERANCE, difference=apart)

    changing = context.train("one-cycle-captured", *SIZES, *RATE, "--schedule", "one-cycle", *context.captured)
    fixed = context.train("constant-captured", *SIZES, *RATE, "--schedule", "constant", *context.captured)
    rates = len({lr for lr, _ in changing.steps()})
    apart = difference(changing, fixed)
    what = "a replay takes each step's own learning rate"
    said = f"{rates} rates, {apart:.1e} from a run at one rate"
    finding(what, said, rates > 25 and apart > VISIBLE, rates=rates, difference=apart)


def difference(one: Run, other: Run) -> float:
    """The largest difference of any weight, statistic or loss of two runs."""
    weights = zip(one.weights().values(), other.weights().values(), strict=True)
    largest = max(float((a.double() - b.double()).abs().max()) for a, b in weights)
    losses = zip(one.steps(), other.steps(), strict=True)
    return max([largest, *(abs(a - b) for (_, a), (_, b) in losses)])
