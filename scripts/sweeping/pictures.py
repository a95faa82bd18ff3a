"""The pictures of a sweep, as PNG and SVG, by Optuna: importance, parallel coordinates, accuracies, Pareto front."""

import statistics
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import matplotlib
import optuna
from common import replacing
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from sweeping import objectives
from sweeping.objectives import OBJECTIVES
from sweeping.space import Space

# Before pyplot is imported: no display is needed.
matplotlib.use("agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.collections import LineCollection  # noqa: E402
from optuna.visualization import matplotlib as drawn_by_optuna  # noqa: E402

ACCURACY = OBJECTIVES[objectives.ACCURACY].label

# The fewest trials whose importances mean something. With fewer, chance decides which setting comes first.
ENOUGH = 30

# Which settings bring a trial into the better half (PED-ANOVA, Watanabe et al. 2023). Optuna's default is the best
# tenth: two or three trials in most sweeps, whose settings are as much chance as cause.
IMPORTANCE = PedAnovaImportanceEvaluator(target_quantile=0.5)


def draw(folder: Path, study: optuna.Study, trials: Sequence[FrozenTrial], space: Space) -> list[str]:
    """Writes the pictures, and returns those that need more trials, each with the reason."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    # Optuna leaves pruned trials out of the importances, though they are the poor ones.
    valued = [trial for trial in trials if accuracy_of(trial) is not None]
    varied = [name for name in space.ranges if len({trial.params.get(name) for trial in valued} - {None}) > 1]
    pictures = [
        ("importance", len(valued), ENOUGH, lambda: plot_importance(valued, varied)),
        ("parallel", len(complete), 2, lambda: plot_parallel(complete, space)),
        ("accuracy", len(complete), 1, lambda: plot_accuracy(study, complete)),
    ]
    if len(space.objectives) > 1:
        pictures.append(("pareto", len(complete), 1, lambda: plot_front(study, complete, space)))
    missing = []
    for name, count, least, plot in pictures:
        if count < least:
            missing.append(f"{name} (it takes {least} with an accuracy, and there are {count})")
        elif name != "importance" or varied:
            save(folder / name, plot)
    return missing


def save(path: Path, plot: Callable[[], Axes]) -> None:
    """Draws and writes one picture."""
    with plt.style.context("default"):
        figure = plot().figure
        for ending in ["png", "svg"]:
            with replacing(path.with_suffix(f".{ending}")) as temporary:
                figure.savefig(temporary, format=ending, bbox_inches="tight", dpi=150)
        plt.close(figure)


def accuracy_of(trial: FrozenTrial) -> float | None:
    """The accuracy of a trial, 0 if it diverged."""
    return 0.0 if trial.user_attrs.get("diverged") else objectives.accuracy(trial)


def by_accuracy(trials: Iterable[FrozenTrial]) -> optuna.Study:
    """A study of these trials, all complete, with the accuracy as their only value."""
    study = optuna.create_study(direction="maximize")
    for trial in trials:
        params = {"params": trial.params, "distributions": trial.distributions}
        study.add_trial(optuna.create_trial(value=accuracy_of(trial), **params))
    return study


def plot_importance(trials: Sequence[FrozenTrial], names: Sequence[str]) -> Axes:
    """How much each setting decides."""
    with warnings.catch_warnings():
        # Of a value that no more than one trial has.
        warnings.simplefilter("ignore")
        axes = drawn_by_optuna.plot_param_importances(by_accuracy(trials), IMPORTANCE, list(names))
    axes.get_legend().remove()
    axes.set_title("", loc="left")
    axes.set(ylabel="", xlabel="importance for a validation accuracy in the better half")
    return axes


def plot_parallel(complete: Sequence[FrozenTrial], space: Space) -> Axes:
    """An axis for each setting, a line for each trial, coloured by its accuracy."""
    (lowest, _), title = without_poor(complete)
    shown = [trial for trial in complete if accuracy_of(trial) >= lowest]
    names = [name for name in space.ranges if any(name in trial.params for trial in shown)]
    axes = drawn_by_optuna.plot_parallel_coordinate(by_accuracy(shown), names, target_name=ACCURACY)
    lines = next(it for it in axes.collections if isinstance(it, LineCollection))
    # The colour bar stands where the names of choices are, and the first axis says the same. In Optuna's colours poor
    # trials are nearly white.
    lines.colorbar.remove()
    lines.set_cmap("viridis_r")
    labels = [label for it in axes.figure.axes for label in it.get_yticklabels()]
    for label in labels:
        label.set_bbox({"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.5})
    axes.figure.set_size_inches(2 + len(names) * (1 + 0.08 * max(len(it.get_text()) for it in labels)), 5)
    axes.set_title(title, fontsize=9)
    return axes


def plot_accuracy(study: optuna.Study, complete: Sequence[FrozenTrial]) -> Axes:
    """The accuracy of each trial, and the best so far."""
    target = accuracy_of if len(study.directions) > 1 else None
    axes = drawn_by_optuna.plot_optimization_history(study, target=target, target_name=ACCURACY)
    limits, title = without_poor(complete)
    axes.set_ylim(limits)
    axes.set_title(title, fontsize=9)
    return axes


def plot_front(study: optuna.Study, complete: Sequence[FrozenTrial], space: Space) -> Axes:
    """The trials by all objectives, those of the Pareto front marked, and numbered where there are two objectives."""
    labels = [OBJECTIVES[name].label for name in space.objectives]
    axes = drawn_by_optuna.plot_pareto_front(study, target_names=labels)
    limits, title = without_poor(complete)
    axes.set_xlim(limits)
    axes.set_title(title, fontsize=9)
    if len(labels) == 2:
        for trial in objectives.front(study):
            axes.annotate(str(trial.number), trial.values, xytext=(5, -10), textcoords="offset points", clip_on=True)
    return axes


def without_poor(complete: Sequence[FrozenTrial]) -> tuple[tuple[float, float], str]:
    """The limits of an axis of accuracies, without those far below the rest, so that differences can be seen; and a
    title that says so."""
    accuracies = [accuracy_of(trial) for trial in complete]
    top, middle = max(accuracies), statistics.median(accuracies)
    lowest = min(it for it in accuracies if it >= top - 4 * (top - middle) or middle == top)
    margin = 0.05 * (top - lowest) or 1.0
    left_out = sum(it < lowest - margin for it in accuracies)
    title = f"not shown: {left_out} of {len(accuracies)} trials, below {lowest:.2f} %" if left_out else ""
    return (lowest - margin, top + margin), title
