"""The end of a sweep: the best settings and those of [fixed] alone, measured on the test set.

Both are trained on the whole training split, with seeds that no trial had; only settings that need images held out,
such as `keep = "best"`, hold out as many as the trials did. It is the only place where a sweep looks at the test
images, and nothing is chosen by them.
"""

import json
import shutil
import statistics
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from common import write_json

from sweeping.places import Epoch, Place
from sweeping.settings import Setting, flags
from sweeping.storage import SweepFailed
from sweeping.study import RETRIES
from sweeping.trial import Job, Result

Settings = Mapping[str, Setting]


def report(
    folder: Path, place: Place, command: list[str], validation: int, candidates: dict[str, Settings],
    seeds: list[int], stopped: Callable[[], bool],
) -> dict | None:  # fmt: skip
    """Trains each candidate with each seed, and writes and returns `report.json`; None if it was stopped.

    One that is there already for the same settings and seeds is kept.
    """
    path = folder / "report.json"
    wanted = {name: {"settings": dict(settings), "seeds": seeds} for name, settings in candidates.items()}
    if path.exists():
        known = json.loads(path.read_text())
        if {name: {key: entry[key] for key in ["settings", "seeds"]} for name, entry in known.items()} == wanted:
            return known
    runs = {name: Run(command, settings, validation) for name, settings in candidates.items()}
    accuracies = measure(folder / "report", place, runs, seeds, stopped)
    if accuracies is None:
        return None
    result = {}
    for name, entry in wanted.items():
        values = accuracies[name]
        # The standard deviation of a sample: one value has none.
        deviation = statistics.stdev(values) if len(values) > 1 else None
        result[name] = {**entry, "test_accuracy": values, "mean": statistics.mean(values), "std": deviation}
    write_json(path, result)
    return result


def needs_held_out(command: list[str], settings: Settings) -> bool:
    """Whether the program takes these settings only with images held out."""
    return subprocess.run([*command, *flags(settings), "--print-config"], capture_output=True).returncode == 2


class Run:
    """How a candidate is trained and tested."""

    def __init__(self, command: list[str], settings: Settings, validation: int) -> None:
        self.command = [*command, *flags(settings)]
        self.held_out = needs_held_out(command, settings)
        if self.held_out:
            self.command.append(f"--validation={validation}")

    def test_accuracy(self, folder: Path, result: Result) -> float:
        """Of the run in `folder`, in percent."""
        if not self.held_out:
            return result.accuracy
        shared = [
            flag for flag in self.command if flag.startswith(("--data=", "--dataset=", "--limit-test=", "--threads="))
        ]
        evaluate = [self.command[0], "evaluate", "-q", "--log-format=json", *shared]
        done = subprocess.run([*evaluate, f"--weights={folder / 'model.safetensors'}"], capture_output=True, text=True)
        if done.returncode != 0:
            raise SweepFailed(f"the report's weights in {folder} cannot be tested: {done.stderr.strip()}")
        return json.loads(done.stdout)["test_accuracy"]


def measure(
    folder: Path, place: Place, candidates: dict[str, Run], seeds: list[int], stopped: Callable[[], bool]
) -> dict[str, list[float]] | None:
    """The test accuracy of each candidate by seed, in percent."""
    shutil.rmtree(folder, ignore_errors=True)
    runs = [(name, seed) for name in candidates for seed in seeds]
    jobs = [
        Job(number, candidates[name].command, [seed], keep=folder / f"{name}-seed-{seed}")
        for number, (name, seed) in enumerate(runs)
    ]
    waiting, running, losses, accuracies = deque(jobs), 0, 0, {}
    while waiting or running:
        if stopped():
            return None
        while waiting and running < place.jobs:
            place.start(waiting.popleft())
            running += 1
        for message in place.wait(0.5):
            if isinstance(message, Epoch):
                place.answer(message, False)
                continue
            running -= 1
            name, seed = runs[message.number]
            result = message.result
            if result.status == "lost" and losses < RETRIES:
                losses += 1
                lost = jobs[message.number]
                again = f"{lost.keep.name}-again-{losses}"
                jobs[message.number] = replace(lost, keep=lost.keep.with_name(again))
                waiting.append(jobs[message.number])
            elif result.status != "done":
                why = result.error or result.status
                raise SweepFailed(f"the report's run of {name} with the seed {seed} came to no end: {why}")
            else:
                trained = jobs[message.number].keep
                accuracies[message.number] = candidates[name].test_accuracy(trained, result)
    values = [accuracies[number] for number in range(len(runs))]
    return {name: values[i * len(seeds) : (i + 1) * len(seeds)] for i, name in enumerate(candidates)}


def text(result: dict) -> str:
    """The report as lines for people."""
    lines = []
    for name, entry in result.items():
        deviation = "" if entry["std"] is None else f" ± {entry['std']:.2f}"
        each = ", ".join(f"{value:.2f}" for value in entry["test_accuracy"])
        lines.append(
            f"{name}: test accuracy {entry['mean']:.2f}{deviation} % over {len(entry['seeds'])} seeds ({each})"
        )
    return "\n".join(lines)
