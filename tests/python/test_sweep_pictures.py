"""The pictures of a sweep: what can be read in them, with many settings, long names, and trials without a setting."""

import itertools
import math
import random
from pathlib import Path

import optuna
import pytest
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial, TrialState
from sweeping import objectives, pictures, space, study
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
"""
)


def studied(
    folder: Path, ranges: str, names: str = "'accuracy'"
) -> tuple[optuna.Study, list[FrozenTrial], space.Space]:
    """A study of 31 trials with made-up results: some diverged, some pruned, one failed, one far below the rest."""
    path = folder / "made_up.toml"
    path.write_text(f"validation = 128\nobjectives = [{names}]\n[space]\n{ranges}")
    searched = space.read(path)
    sampler, pruner = optuna.samplers.RandomSampler(seed=1), study.make_pruner("none", 3)
    opened = study.open_study(optuna.storages.InMemoryStorage(), "made_up", searched, sampler, pruner)
    for number in range(31):
        trial = opened.ask()
        searched.draw(trial)
        accuracy = 11.35 if number == 20 else 98 - abs(math.log10(trial.params["lr"] / 0.05))
        if number % 10 == 3:
            trial.set_user_attr("diverged", True)
            values = objectives.outcome(searched.objectives, Result("diverged"))
            opened.tell(trial, values, None if values else TrialState.PRUNED)
        elif number % 10 == 5 and len(searched.objectives) == 1:
            trial.report(accuracy - 3, 1)
            opened.tell(trial, state=TrialState.PRUNED)
        elif number == 9:
            trial.set_user_attr("error", "no disk")
            opened.tell(trial, state=TrialState.FAIL)
        else:
            opened.tell(trial, [accuracy, number % 7 + 1.0, 8000.0 + number][: len(searched.objectives)])
    return opened, study.finished(opened), searched


def complete(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state == TrialState.COMPLETE]


@pytest.mark.parametrize("ranges", [CONDITIONAL, MANY])
def test_no_two_labels_of_parallel_coordinates_overlap(tmp_path: Path, ranges: str) -> None:
    _, trials, searched = studied(tmp_path, ranges)
    figure = pictures.plot_parallel(complete(trials), searched).figure
    figure.canvas.draw()
    names = [label for axes in figure.axes[:1] for label in axes.get_xticklabels()]
    assert {label.get_text() for label in names} == {pictures.ACCURACY, *searched.ranges}
    columns = [
        [label.get_window_extent() for label in axes.get_yticklabels() if label.get_text()] for axes in figure.axes
    ]
    for one, other in itertools.combinations(columns, 2):
        assert not any(a.overlaps(b) for a in one for b in other)
    # The trials far below the rest would press the others together.
    assert figure.axes[0].get_title().startswith("not shown: 4 of 27 trials")
    pictures.plt.close(figure)


@pytest.mark.parametrize("names", ["'accuracy'", "'accuracy', 'seconds'", "'accuracy', 'seconds', 'parameters'"])
def test_all_pictures_of_a_study_with_conditions(tmp_path: Path, names: str) -> None:
    opened, trials, searched = studied(tmp_path, CONDITIONAL, names)
    assert pictures.draw(tmp_path, opened, trials, searched) == []
    expected = {"importance", "parallel", "accuracy"} | ({"pareto"} if "," in names else set())
    assert {path.stem for path in tmp_path.glob("*.svg")} == {path.stem for path in tmp_path.glob("*.png")} == expected


def test_the_trials_of_the_front_are_numbered(tmp_path: Path) -> None:
    opened, trials, searched = studied(tmp_path, ONE, "'accuracy', 'seconds'")
    axes = pictures.plot_front(opened, complete(trials), searched)
    assert {text.get_text() for text in axes.texts} == {str(trial.number) for trial in objectives.front(opened)}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("validation accuracy (%)", "training time (s)")
    pictures.plt.close(axes.figure)


@pytest.mark.parametrize("trials", [30, 50])
def test_the_setting_that_decides_everything_is_the_most_important_one(trials: int) -> None:
    """A rate of which two in three learn nothing, beside three settings that change nothing; accuracies have noise."""
    first, shares = 0, []
    for seed in range(10):
        noise = random.Random(seed)
        opened = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed), direction="maximize")
        for _ in range(trials):
            trial = opened.ask()
            rate = trial.suggest_categorical("lr", [0.05, 1e-9, 1e-10])
            trial.suggest_float("momentum", 0.5, 0.98)
            trial.suggest_int("batch_size", 32, 64, step=8)
            trial.suggest_categorical("schedule", ["step", "cosine"])
            opened.tell(trial, (98 if rate == 0.05 else 10) + noise.gauss(0, 0.05))
        found = get_param_importances(pictures.by_accuracy(opened.trials), evaluator=pictures.IMPORTANCE)
        first += max(found, key=found.get) == "lr"
        shares.append(found["lr"])
    assert first >= 8 and min(shares) > 0.1


def test_a_picture_that_needs_more_trials_is_named(tmp_path: Path) -> None:
    opened, trials, searched = studied(tmp_path, ONE)
    assert pictures.draw(tmp_path, opened, complete(trials)[:1], searched) == [
        "importance (it takes 30 with an accuracy, and there are 1)",
        "parallel (it takes 2 with an accuracy, and there are 1)",
    ]
