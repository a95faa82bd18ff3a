"""The picture of parallel coordinates: an axis for each setting, a line for each trial, coloured by its accuracy.

Optuna has such a picture too, but there the names of choices run into the colour bar, and poor trials are nearly white.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import matplotlib
import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial

from sweeping.objectives import ACCURACY, OBJECTIVES
from sweeping.settings import Setting, text_of
from sweeping.space import Space

matplotlib.use("agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.collections import LineCollection  # noqa: E402
from matplotlib.colors import LinearSegmentedColormap  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import LogLocator, MaxNLocator  # noqa: E402

# From orange to dark blue, without the light end of the map: all of it can be seen on white.
COLOURS = LinearSegmentedColormap.from_list("accuracy", plt.get_cmap("plasma_r")(np.linspace(0.3, 1, 256)))

# Where lines pass that lack the setting of an axis, which itself goes from 0 to 1.
NOT_DRAWN = -0.14

# Inches: a letter of a tick label and of a name, the least room between two axes, and the least width of all of them.
LETTER, NAME_LETTER = 0.075, 0.09
GAP, WIDTH = 0.9, 6.0


@dataclass(frozen=True)
class Scale:
    """One axis."""

    name: str
    position: Callable[[Setting], float]
    """Where a value lies, from 0 to 1."""
    ticks: list[tuple[float, str]]

    @property
    def width(self) -> float:
        """Inches of its longest tick label."""
        return LETTER * max(len(label) for _, label in self.ticks)


def plot(complete: Sequence[FrozenTrial], space: Space) -> Figure:
    """Trials with a value, the best in front of the others."""
    trials = sorted(complete, key=lambda trial: trial.values[0])
    scales = [scale_of(name, drawn.distribution) for name, drawn in space.ranges.items()]
    heights = [[position(scale, trial.params.get(scale.name)) for scale in scales] for trial in trials]
    # The accuracy comes last.
    for index, name in reversed(list(enumerate(space.objectives))):
        scales.append(scale_of_values(name, [trial.values[index] for trial in trials]))
        for row, trial in zip(heights, trials, strict=True):
            row.append(scales[-1].position(trial.values[index]))
    places = spread(scales)
    figure, axes = plt.subplots(figsize=(places[-1] + scales[-1].width + 0.4, 4.5))
    accuracies = [row[-1] for row in heights]
    axes.add_collection(
        LineCollection(
            [np.column_stack([places, row]) for row in heights],
            array=accuracies,
            cmap=COLOURS,
            clim=(0, 1),
            linewidths=[1.2] * (len(trials) - 1) + [2.5],
            alpha=0.85,
        )
    )
    lacking = [any(row[index] == NOT_DRAWN for row in heights) for index in range(len(scales))]
    for index, (scale, x) in enumerate(zip(scales, places, strict=True)):
        draw_axis(axes, scale, x, lacking[index], right=index == len(scales) - 1)
    axes.imshow(
        np.linspace(0, 1, 256)[:, None],
        extent=(places[-1], places[-1] + 0.08, 0, 1),
        origin="lower",
        cmap=COLOURS,
        aspect="auto",
    )
    axes.set(xlim=(0, places[-1] + scales[-1].width + 0.4), ylim=(NOT_DRAWN - 0.05 if any(lacking) else -0.03, 1.03))
    axes.set_axis_off()
    return figure


def draw_axis(axes: Axes, scale: Scale, x: float, lacking: bool, right: bool) -> None:
    """A line with its name above and its ticks to the left, or to the `right`."""
    axes.plot([x, x], [0, 1], color="black", lw=0.8, zorder=3)
    axes.text(x, 1.06, scale.name, ha="center", fontsize=9)
    for y, label in [*scale.ticks, *([(NOT_DRAWN, "not drawn")] if lacking else [])]:
        axes.plot([x - 0.03, x], [y, y], color="black", lw=0.8, zorder=3)
        axes.text(
            x + 0.14 if right else x - 0.06,
            y,
            label,
            ha="left" if right else "right",
            va="center",
            fontsize=8,
            zorder=4,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.5},
        )


def spread(scales: Sequence[Scale]) -> list[float]:
    """Where the axes stand, in inches, so that neither names nor tick labels run into each other."""
    places = [max(scales[0].width, NAME_LETTER * len(scales[0].name) / 2) + 0.2]
    gap = max(GAP, WIDTH / (len(scales) - 1))
    for index in range(1, len(scales)):
        names = NAME_LETTER * (len(scales[index].name) + len(scales[index - 1].name)) / 2 + 0.2
        # Those of the last axis are on its right.
        labels = scales[index].width + 0.4 if index < len(scales) - 1 else 0
        places.append(places[-1] + max(gap, names, labels))
    return places


def position(scale: Scale, value: Setting | None) -> float:
    """Where the line of a trial crosses an axis."""
    return NOT_DRAWN if value is None else scale.position(value)


def scale_of(name: str, distribution: BaseDistribution) -> Scale:
    """The axis of a setting, over all that can be drawn."""
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        at = [0.5] if len(choices) == 1 else [index / (len(choices) - 1) for index in range(len(choices))]
        ticks = [(y, shorten(text_of(choice))) for y, choice in zip(at, choices, strict=True)]
        return Scale(name, lambda value: at[choices.index(value)], ticks)
    if getattr(distribution, "log", False):
        return logarithmic(name, distribution.low, distribution.high)
    return linear(name, distribution.low, distribution.high, isinstance(distribution, IntDistribution))


def scale_of_values(name: str, values: Sequence[float]) -> Scale:
    """The axis of an objective; that of the accuracy has a lowest tick for all that are far below the rest."""
    label = OBJECTIVES[name].label
    if name != ACCURACY:
        return linear(label, min(values), max(values), False)
    lowest = floor(values)
    scale = linear(label, lowest, max(values), False)
    if lowest == min(values):
        return scale
    return replace(scale, ticks=[(0.0, f"≤ {lowest:.2f}"), *(tick for tick in scale.ticks if tick[0] > 0.05)])


def linear(name: str, low: float, high: float, whole: bool) -> Scale:
    """An axis with ticks at round numbers, whole ones only if asked; what is below it is drawn at its end."""
    if low == high:
        return Scale(name, lambda _: 0.5, [(0.5, f"{low:g}")])
    ticks = MaxNLocator(5, integer=whole, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    inside = [tick for tick in ticks if low - 1e-9 <= tick <= high + 1e-9]
    return Scale(
        name,
        lambda value: max(0.0, (value - low) / (high - low)),
        [((tick - low) / (high - low), f"{tick:.10g}") for tick in inside],
    )


def logarithmic(name: str, low: float, high: float) -> Scale:
    """An axis with ticks at powers of ten; closer ones if it is short."""
    span = math.log10(high / low)
    locator = LogLocator(subs=(1, 2, 5) if span < 2.5 else (1,), numticks=10) if span >= 1 else MaxNLocator(5)

    def at(value: float) -> float:
        return math.log10(value / low) / span

    ticks = [tick for tick in locator.tick_values(low, high) if low * 0.999 <= tick <= high * 1.001]
    return Scale(name, at, [(at(tick), f"{tick:g}") for tick in ticks])


def floor(accuracies: Sequence[float]) -> float:
    """The lowest accuracy that a picture shows to scale, without those that are far below the rest."""
    top, middle = max(accuracies), statistics.median(accuracies)
    return min(accuracy for accuracy in accuracies if accuracy >= top - 4 * (top - middle) or middle == top)


def shorten(text: str) -> str:
    """A long text without its middle; more of its end stays, which tells paths apart."""
    return text if len(text) <= 28 else f"{text[:10]}…{text[-17:]}"
