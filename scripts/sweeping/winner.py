"""The end of a sweep: the best settings and those of [fixed] alone, measured on the test set.

Both are trained on the whole training split, with seeds that no trial had; only settings that need images held out,
such as `keep = "best"`, hold out as many as the trials did. It is the only place where a sweep looks at the test
images, and nothing is chosen by them.
"""

import itertools
import json
import shutil
import statistics
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import write_json

from sweeping.places import Place
from sweeping.settings import Setting, flags
from sweeping.storage import SweepFailed
from sweeping.study import RETRIES
from sweeping.trial import Job

Settings = Mapping[str, Setting]


def report(
    folder: Path, place: Place, command: list[str], held_out: str, candidates: dict[str, Settings], seeds: list[int]
) -> dict | None:
    """Trains each candidate with each seed, and writes and returns `report.json`; None if the place was stopped.

    One that is there already for the same settings and seeds is kept.
    """
    path = folder / "report.json"
    wanted = {name: {"settings": dict(settings), "seeds": seeds} for name, settings in candidates.items()}
    if path.exists():
        known = json.loads(path.read_text())
        if {name: {key: entry[key] for key in ["settings", "seeds"]} for name, entry in known.items()} == wanted:
            return known
    shutil.rmtree(folder / "report", ignore_errors=True)
    runs = {name: Run(name, folder / "report", command, settings, held_out) for name, settings in candidates.items()}
    pairs = list(itertools.product(candidates, seeds))
    with ThreadPoolExecutor(place.jobs) as pool:
        try:
            measured = list(pool.map(lambda pair: runs[pair[0]].test_accuracy(place, pair[1]), pairs))
        except InterruptedError:
            return None
        except SweepFailed:
            place.stop()
            raise
    result = {}
    for number, (name, entry) in enumerate(wanted.items()):
        values = measured[number * len(seeds) :][: len(seeds)]
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

    def __init__(self, name: str, folder: Path, command: list[str], settings: Settings, held_out: str) -> None:
        self.name, self.folder = name, folder
        self.command = [*command, *flags(settings)]
        self.held_out = needs_held_out(command, settings)
        if self.held_out:
            self.command.append(held_out)

    def test_accuracy(self, place: Place, seed: int) -> float:
        """In percent, of a training from a seed, which is made again if its process dies."""
        name = f"{self.name}-seed-{seed}"
        for attempt in range(RETRIES + 1):
            trained = self.folder / (f"{name}-again-{attempt}" if attempt else name)
            result = place.run(Job(self.command, [seed], keep=trained), lambda *_: False)
            if place.stopped:
                raise InterruptedError("the sweep was stopped")
            if result.status != "lost":
                break
        if result.status != "done":
            why = result.error or result.status
            raise SweepFailed(f"the report's run of {self.name} with the seed {seed} came to no end: {why}")
        return self._evaluate(trained) if self.held_out else result.accuracy

    def _evaluate(self, trained: Path) -> float:
        shared = ("--data=", "--dataset=", "--limit-test=", "--threads=")
        # As in a training, the last of several values counts.
        flags = {flag.partition("=")[0]: flag for flag in self.command if flag.startswith(shared)}
        evaluate = [self.command[0], "evaluate", "-q", "--log-format=json", *flags.values()]
        done = subprocess.run([*evaluate, f"--weights={trained / 'model.safetensors'}"], capture_output=True, text=True)
        if done.returncode != 0:
            raise SweepFailed(f"the report's weights in {trained} cannot be tested: {done.stderr.strip()}")
        return json.loads(done.stdout)["test_accuracy"]


def text(result: dict) -> str:
    """The report as lines for people."""
    lines = []
    for name, entry in result.items():
        deviation = "" if entry["std"] is None else f" ± {entry['std']:.2f}"
        each = ", ".join(f"{value:.2f}" for value in entry["test_accuracy"])
        seeds = f"{len(entry['seeds'])} seed{'s' if len(entry['seeds']) != 1 else ''}"
        lines.append(f"{name}: test accuracy {entry['mean']:.2f}{deviation} % over {seeds} ({each})")
    return "\n".join(lines)
