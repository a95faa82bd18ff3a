"""The pictures of a sweep: what can be read in them, with many settings, long names, and trials without a setting."""

import itertools
import math
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from sweeping import objectives, parallel, pictures, space, study
from sweeping.trial import Result

ONE = 'lr = { type = "log-float", low = 0.003, high = 0.3 }\n'
CONDITIONAL = (
    ONE
    + """
optimizer = { type = "choice", values = ["sgd", "adam", "adamw", "rmsprop"] }
betas = { type = "choice", values = ["0.9,0.999", "0.9,0.99"], when = { optimizer = ["adam", "adamw"] } }
momentum = { type = "float", low = 0.5, high = 0.98, when = { optimizer = "sgd" } }
epochs = { type = "int", low = 1, high = 3 }
"""
)
MANY = (
    CONDITIONAL
    + """
schedule = { type = "choice", values = ["step", "cosine-with-warm-restarts-and-a-warm-up"] }
nesterov = { type = "choice", values = [true, false], when = { optimizer = "sgd" } }
weight_decay = { type = "log-float", low = 1e-6, high = 1e-2 }
init = { type = "choice", values = ["/a/long/path/of/weights-1.safetensors", "/a/long/path/of/weights-2.safetensors"] }
"""
)


def studied(
    folder: Path, ranges: str, names: str = "'accuracy'"
) -> tuple[optuna.Study, list[FrozenTrial], space.Space]:
    """A study of 30 trials with made-up results: some diverged, some pruned, one failed, one far below the rest."""
    path = folder / "made_up.toml"
    path.write_text(f"validation = 128\nobjectives = [{names}]\n[space]\n{ranges}")
    searched = space.read(path)
    sampler, pruner = optuna.samplers.RandomSampler(seed=1), study.make_pruner("none", 3)
    opened = study.open_study(optuna.storages.InMemoryStorage(), "made_up", searched, sampler, pruner)
    for number in range(30):
        trial = opened.ask()
        searched.draw(trial)
        accuracy = 11.35 if number == 20 else 98 - abs(math.log10(trial.params["lr"] / 0.05))
        if number % 10 == 3:
            trial.set_user_attr("diverged", True)
            opened.tell(trial, *objectives.outcome(searched.objectives, Result("diverged")))
        elif number % 10 == 5 and len(searched.objectives) == 1:
            trial.report(accuracy - 3, 1)
            opened.tell(trial, state=TrialState.PRUNED)
        elif number == 9:
            trial.set_user_attr("error", "no disk")
            opened.tell(trial, state=TrialState.FAIL)
        else:
            opened.tell(trial, [accuracy, number % 7 + 1.0, 8000.0 + number][: len(searched.objectives)])
    trials = opened.trials
    for trial in trials:
        trial.datetime_complete = trial.datetime_start + timedelta(seconds=trial.number)
    return opened, trials, searched


def complete(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state == TrialState.COMPLETE]


@pytest.mark.parametrize("ranges", [ONE, CONDITIONAL, MANY])
def test_no_two_texts_among_parallel_coordinates_overlap(tmp_path: Path, ranges: str) -> None:
    _, trials, searched = studied(tmp_path, ranges)
    figure = parallel.plot(complete(trials), searched)
    figure.canvas.draw()
    texts = [(text.get_text(), text.get_window_extent()) for text in figure.axes[0].texts]
    assert set(searched.ranges) < {text for text, _ in texts}
    for (one, a), (other, b) in itertools.combinations(texts, 2):
        assert not a.overlaps(b), f"{one} and {other}"
    pictures.plt.close(figure)


def test_every_line_can_be_seen_on_white() -> None:
    # Relative luminance and contrast as in the Web Content Accessibility Guidelines.
    for colour in parallel.COLOURS(np.linspace(0, 1, 11))[:, :3]:
        linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
        assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) > 2


def test_a_trial_passes_below_the_axis_of_a_setting_that_it_did_not_draw(tmp_path: Path) -> None:
    _, trials, searched = studied(tmp_path, CONDITIONAL)
    figure = parallel.plot(complete(trials), searched)
    lines = figure.axes[0].collections[0].get_segments()
    names = list(searched.ranges)
    expected = [[name in trial.params for name in names] for trial in complete(trials)]
    drawn = [[y >= 0 for y in line[:-1, 1]] for line in lines]
    assert sorted(drawn) == sorted(expected)
    assert sum(text.get_text() == "not drawn" for text in figure.axes[0].texts) == 2
    # The best one is in front of the others.
    assert lines[-1][-1, 1] == 1
    pictures.plt.close(figure)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.003, 0.3, ["0.005", "0.01", "0.02", "0.05", "0.1", "0.2"]),
        (1e-6, 1e-2, ["1e-06", "1e-05", "0.0001", "0.001", "0.01"]),
        (0.011, 0.019, ["0.012", "0.014", "0.016", "0.018"]),
    ],
)
def test_ticks_of_a_logarithmic_axis(low: float, high: float, labels: list[str]) -> None:
    scale = parallel.logarithmic("lr", low, high)
    assert [label for _, label in scale.ticks] == labels
    assert (scale.position(low), scale.position(high)) == (0, 1)
    assert scale.position((low * high) ** 0.5) == pytest.approx(0.5)


@pytest.mark.parametrize(("low", "high"), [(1, 2), (1, 3), (5, 30)])
def test_an_axis_of_whole_numbers_has_whole_ticks(low: int, high: int) -> None:
    ticks = [float(label) for _, label in parallel.linear("epochs", low, high, True).ticks]
    assert ticks and all(tick == int(tick) and low <= tick <= high for tick in ticks)


@pytest.mark.parametrize("names", ["'accuracy'", "'accuracy', 'seconds', 'parameters'"])
def test_all_pictures_of_a_study_with_conditions(tmp_path: Path, names: str) -> None:
    opened, trials, searched = studied(tmp_path, CONDITIONAL, names)
    assert pictures.draw(tmp_path, opened, trials, searched) == []
    expected = {"importance", "parallel", "accuracy"} | ({"pareto"} if "," in names else set())
    assert {path.stem for path in tmp_path.glob("*.svg")} == {path.stem for path in tmp_path.glob("*.png")} == expected


def test_the_front_is_marked_and_numbered(tmp_path: Path) -> None:
    opened, trials, searched = studied(tmp_path, ONE, "'accuracy', 'seconds'")
    front = objectives.front(opened)
    # The one far below is not shown, though its time may bring it into the front.
    shown = [trial for trial in front if trial.values[0] > 50]
    figure = pictures.plot_front(complete(trials), front, searched)
    axes = figure.axes[0]
    marked = next(points for points in axes.collections if points.get_label() == "Pareto front")
    assert sorted(map(tuple, marked.get_offsets())) == sorted((trial.values[1], trial.values[0]) for trial in shown)
    assert {text.get_text() for text in axes.texts} == {str(trial.number) for trial in shown}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("training time (s)", "validation accuracy (%)")
    assert axes.get_title() == f"not shown: 1 of {len(complete(trials))} trials, below {axes_floor(trials):.2f} %"
    pictures.plt.close(figure)


def axes_floor(trials: Sequence[FrozenTrial]) -> float:
    """The lowest accuracy but one."""
    return sorted(trial.values[0] for trial in complete(trials))[1]


def test_a_picture_that_needs_more_trials_is_named(tmp_path: Path) -> None:
    opened, trials, searched = studied(tmp_path, ONE)
    fewer = complete(trials)[:1]
    assert pictures.draw(tmp_path, opened, fewer, searched) == ["importance", "parallel"]
