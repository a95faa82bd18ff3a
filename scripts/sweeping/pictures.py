"""The pictures of a sweep, as PNG and SVG: importance, parallel coordinates, accuracy against time, Pareto front."""

import warnings
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import matplotlib
import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeping import objectives, parallel
from sweeping.objectives import OBJECTIVES
from sweeping.results import replacing
from sweeping.space import Space

# Before pyplot is imported: no display is needed.
matplotlib.use("agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

ACCURACY = OBJECTIVES[objectives.ACCURACY].label


def draw(folder: Path, study: optuna.Study, trials: Sequence[FrozenTrial], space: Space) -> list[str]:
    """Writes the pictures, and returns the names of those that need more trials."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    varied = [name for name in space.ranges if len({trial.params.get(name) for trial in complete} - {None}) > 1]
    pictures = [
        ("importance", len(complete) > 1 and bool(varied), lambda: plot_importance(study, varied)),
        ("parallel", len(complete) > 1, lambda: parallel.plot(complete, space)),
        ("accuracy", True, lambda: plot_accuracy(trials)),
    ]
    if len(space.objectives) > 1:
        pictures.append(("pareto", bool(complete), lambda: plot_front(complete, objectives.front(study), space)))
    missing = []
    for name, enough, plot in pictures:
        if enough:
            save(folder / name, plot)
        else:
            missing.append(name)
    return missing


def save(path: Path, plot: Callable[[], Figure]) -> None:
    """Draws and writes one picture."""
    with plt.style.context("default"):
        figure = plot()
        for ending in ["png", "svg"]:
            with replacing(path.with_suffix(f".{ending}")) as temporary:
                figure.savefig(temporary, format=ending, bbox_inches="tight", dpi=150)
        plt.close(figure)


def plot_importance(study: optuna.Study, names: Sequence[str]) -> Figure:
    """How much each setting decides whether a trial is among the most accurate (PED-ANOVA, Watanabe et al. 2023).

    Optuna's evaluator takes conditional settings into account.
    """
    # Lower is better to the evaluator, and it warns of that.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = optuna.importance.get_param_importances(study, params=list(names), target=lambda t: -t.values[0])
    figure, axes = plt.subplots(figsize=(7, 1 + 0.35 * len(shares)), layout="constrained")
    bars = axes.barh(list(shares), list(shares.values()), height=0.6)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("importance for a high validation accuracy")
    return figure


def plot_accuracy(trials: Sequence[FrozenTrial]) -> Figure:
    """Validation accuracy against the time at which a trial ended, and the best so far. Diverged ones are left out."""
    began = min(trial.datetime_start for trial in trials)
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    measured = [trial for trial in trials if trial.values and not trial.user_attrs.get("diverged")]
    shown = sorted(without_poor(axes, measured), key=lambda trial: trial.datetime_complete)
    best: list[tuple[float, float]] = []
    for state, label, marker in [(TrialState.COMPLETE, "complete", "o"), (TrialState.PRUNED, "pruned", "x")]:
        points = [(minutes(trial, began), trial.values[0]) for trial in shown if trial.state == state]
        if points:
            axes.scatter(*zip(*points, strict=True), marker=marker, label=label)
    for trial in shown:
        if trial.state == TrialState.COMPLETE and (not best or trial.values[0] > best[-1][1]):
            best.append((minutes(trial, began), trial.values[0]))
    if best:
        best.append((minutes(shown[-1], began), best[-1][1]))
        axes.step(*zip(*best, strict=True), where="post", label="best so far")
    axes.set(xlabel="minutes since the sweep began", ylabel=ACCURACY)
    axes.legend()
    return figure


def plot_front(complete: Sequence[FrozenTrial], front: Sequence[FrozenTrial], space: Space) -> Figure:
    """Accuracy against each other objective, the trials of the Pareto front marked and numbered."""
    others = space.objectives[1:]
    figure, panels = plt.subplots(1, len(others), figsize=(7 * len(others), 5), squeeze=False, layout="constrained")
    numbers = {trial.number for trial in front}
    for index, (axes, name) in enumerate(zip(panels[0], others, strict=True), 1):
        shown = without_poor(axes, complete)
        shown.sort(key=lambda trial: trial.values[0])
        rest = [(trial.values[index], trial.values[0]) for trial in shown if trial.number not in numbers]
        marked = [trial for trial in shown if trial.number in numbers]
        points = [(trial.values[index], trial.values[0]) for trial in marked]
        if rest:
            axes.scatter(*zip(*rest, strict=True), label="other trials", color="0.6", s=25)
        axes.scatter(*zip(*points, strict=True), label="Pareto front", color="C3", s=45, zorder=3)
        if len(others) == 1:
            # Who has the time for one trial of the front but not for the next one gets the accuracy of the first.
            axes.step(*zip(*points, strict=True), where="post", color="C3", lw=1)
        for trial, point in zip(marked, points, strict=True):
            axes.annotate(str(trial.number), point, xytext=(5, -10), textcoords="offset points", fontsize=8)
        axes.set(xlabel=OBJECTIVES[name].label, ylabel=ACCURACY)
        if name == "parameters":
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.legend()
    return figure


def without_poor(axes: Axes, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that are not far below the rest, so that differences among these can be seen; the picture says so."""
    lowest = parallel.floor([trial.values[0] for trial in trials])
    shown = [trial for trial in trials if trial.values[0] >= lowest]
    if len(shown) < len(trials):
        axes.set_title(
            f"not shown: {len(trials) - len(shown)} of {len(trials)} trials, below {lowest:.2f} %", fontsize=9
        )
    return shown


def minutes(trial: FrozenTrial, began: datetime) -> float:
    """When a trial ended."""
    return (trial.datetime_complete - began).total_seconds() / 60
