"""The files of a sweep: a table of its trials, the best one's settings, and pictures."""

import csv
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import matplotlib
import optuna
import tomli_w
from optuna.trial import FrozenTrial, TrialState

from sweeping.space import Setting

# Before pyplot is imported: no display is needed.
matplotlib.use("agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; the file is then renamed to `path`."""
    temporary = path.with_name(f".{path.name}.tmp")
    yield temporary
    os.replace(temporary, path)


def write_table(path: Path, trials: Sequence[FrozenTrial], parameters: Sequence[str]) -> None:
    """`sweep.csv`: one line per trial. The accuracy of a pruned one is that of its last epoch; of a diverged one 0."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["trial", "status", "validation_accuracy", *parameters, "epochs", "seconds", "started", "ended", "error"]
        )
        for trial in trials:
            attrs = trial.user_attrs
            writer.writerow(
                [
                    trial.number,
                    "diverged" if attrs.get("diverged") else STATUS[trial.state],
                    trial.value,
                    *(trial.params.get(name) for name in parameters),
                    attrs.get("epochs"),
                    round(attrs["seconds"], 3) if "seconds" in attrs else None,
                    *(
                        time.isoformat(timespec="milliseconds")
                        for time in [trial.datetime_start, trial.datetime_complete]
                    ),
                    attrs.get("error"),
                ]
            )


NAME = "validation accuracy (%)"

STATUS = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


def write_settings(path: Path, study: optuna.Study, settings: dict[str, Setting]) -> None:
    """`best.toml`: the settings that won, for `train --config`."""
    best = study.best_trial
    text = f"# Trial {best.number} of the sweep {study.study_name}: {best.value:.2f} % of the validation images.\n"
    with replacing(path) as temporary:
        temporary.write_text(text + tomli_w.dumps(settings))


def draw(folder: Path, study: optuna.Study, trials: Sequence[FrozenTrial]) -> list[str]:
    """Writes the pictures as PNG and SVG, and returns the names of those that need more trials."""
    from optuna.visualization import matplotlib as pictures

    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    varied = [name for name in study.best_params if len({trial.params.get(name) for trial in complete}) > 1]
    missing = []
    for name, enough, plot in [
        ("importance", bool(varied), lambda: pictures.plot_param_importances(study, params=varied, target_name=NAME)),
        ("parallel", len(complete) > 1, lambda: pictures.plot_parallel_coordinate(study, target_name=NAME)),
        ("accuracy", True, lambda: plot_accuracy(trials)),
    ]:
        if not enough:
            missing.append(name)
            continue
        # Optuna warns that its functions are experimental, and changes the style for good.
        with warnings.catch_warnings(), plt.style.context("default"):
            warnings.simplefilter("ignore")
            save(folder / name, plot)
    return missing


def save(path: Path, plot: Callable[[], Axes]) -> None:
    """Draws and writes one picture as PNG and SVG."""
    figure = plot().figure
    for ending in ["png", "svg"]:
        with replacing(path.with_suffix(f".{ending}")) as temporary:
            figure.savefig(temporary, format=ending, bbox_inches="tight", dpi=150)
    plt.close(figure)


def plot_accuracy(trials: Sequence[FrozenTrial]) -> Axes:
    """Validation accuracy against the time at which a trial ended, and the best so far. Diverged ones are left out."""
    shown = [trial for trial in trials if trial.value and not trial.user_attrs.get("diverged")]
    shown.sort(key=lambda trial: trial.datetime_complete)
    began = min(trial.datetime_start for trial in trials)
    axes = plt.subplots(figsize=(8, 5))[1]
    best: list[tuple[float, float]] = []
    for state, label, marker in [(TrialState.COMPLETE, "complete", "o"), (TrialState.PRUNED, "pruned", "x")]:
        points = [(minutes(trial, began), trial.value) for trial in shown if trial.state == state]
        if points:
            axes.scatter(*zip(*points, strict=True), marker=marker, label=label)
    for trial in shown:
        if trial.state == TrialState.COMPLETE and (not best or trial.value > best[-1][1]):
            best.append((minutes(trial, began), trial.value))
    if best:
        best.append((minutes(shown[-1], began), best[-1][1]))
        axes.step(*zip(*best, strict=True), where="post", label="best so far")
    axes.set(xlabel="minutes since the sweep began", ylabel=NAME)
    axes.legend()
    return axes


def minutes(trial: FrozenTrial, began: datetime) -> float:
    """When a trial ended."""
    return (trial.datetime_complete - began).total_seconds() / 60
