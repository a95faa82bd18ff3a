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
    shown = [trial for trial in trials if trial.values and not trial.user_attrs.get("diverged")]
    shown.sort(key=lambda trial: trial.datetime_complete)
    began = min(trial.datetime_start for trial in trials)
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
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
    leave_out_poor(axes, [trial.values[0] for trial in shown])
    axes.legend(loc="lower right")
    return figure


def plot_front(complete: Sequence[FrozenTrial], front: Sequence[FrozenTrial], space: Space) -> Figure:
    """Accuracy against each other objective, the trials of the Pareto front marked and numbered."""
    others = space.objectives[1:]
    figure, panels = plt.subplots(1, len(others), figsize=(7 * len(others), 5), squeeze=False, layout="constrained")
    numbers = {trial.number for trial in front}
    beaten = [trial for trial in complete if trial.number not in numbers]
    for index, (axes, name) in enumerate(zip(panels[0], others, strict=True), 1):
        for group, label, style in [
            (beaten, "beaten in all objectives", {"color": "0.6", "s": 25}),
            (front, "Pareto front", {"color": "C3", "s": 45, "zorder": 3}),
        ]:
            axes.scatter([t.values[index] for t in group], [t.values[0] for t in group], label=label, **style)
        if len(others) == 1:
            # The front is sorted by accuracy. Between two of its trials the poorer one is the best at that price.
            axes.step([t.values[1] for t in front], [t.values[0] for t in front], where="pre", color="C3", lw=1)
        for trial in front:
            at = trial.values[index], trial.values[0]
            axes.annotate(str(trial.number), at, xytext=(5, -10), textcoords="offset points", fontsize=8)
        axes.set(xlabel=OBJECTIVES[name].label, ylabel=ACCURACY)
        if name == "parameters":
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.xaxis.set_major_formatter("{x:,.0f}")
        leave_out_poor(axes, [trial.values[0] for trial in complete])
        axes.legend(loc="lower right")
    return figure


def leave_out_poor(axes: Axes, accuracies: Sequence[float]) -> None:
    """Cuts off what is far below the rest, so that differences among the good ones can be seen, and says so."""
    lowest = parallel.floor(accuracies)
    poor = sum(accuracy < lowest for accuracy in accuracies)
    if poor:
        top = max(accuracies)
        axes.set_ylim(lowest - 0.05 * (top - lowest), top + 0.05 * (top - lowest))
        trials = "trial" if poor == 1 else "trials"
        axes.text(0.01, 0.01, f"{poor} {trials} below {lowest:.2f} % not shown", transform=axes.transAxes, fontsize=8)


def minutes(trial: FrozenTrial, began: datetime) -> float:
    """When a trial ended."""
    return (trial.datetime_complete - began).total_seconds() / 60
