"""What a sweep looks for: the highest accuracy, alone or together with less time or fewer parameters.

With several objectives there is a Pareto front instead of one best trial: the trials that no other trial beats, which
would be at least as good in every objective and better in one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial

from sweeping.trial import Result

ACCURACY = "accuracy"


@dataclass(frozen=True)
class Objective:
    """One of them."""

    label: str
    """On the axis of a picture."""
    column: str
    """In sweep.csv."""
    direction: str
    value: Callable[[Result], float | None]
    """Its value for a trial that was trained to its end."""


OBJECTIVES = {
    ACCURACY: Objective("validation accuracy (%)", "validation_accuracy", "maximize", lambda result: result.accuracy),
    "seconds": Objective("training time (s)", "training_seconds", "minimize", lambda result: result.training_seconds),
    "parameters": Objective("parameters", "parameters", "minimize", lambda result: result.parameters),
}


def read(names: object) -> tuple[str, ...]:
    """The objectives of a space file; raises a ValueError if they are wrong."""
    known = ", ".join(OBJECTIVES)
    if not isinstance(names, list) or any(name not in list(OBJECTIVES) for name in names):
        raise ValueError(f"objectives takes a list of {known}, not {names!r}")
    if names[:1] != [ACCURACY] or len(set(names)) < len(names):
        raise ValueError(f"objectives takes {ACCURACY} first and each other one at most once, not {names!r}")
    return tuple(names)


def directions(names: Sequence[str]) -> list[str]:
    """Which way each one is better, as Optuna has it."""
    return [OBJECTIVES[name].direction for name in names]


def outcome(names: Sequence[str], result: Result) -> list[float] | None:
    """The values of a trial that was trained, pruned, or diverged; None for a pruned one."""
    if result.status == "done":
        return [OBJECTIVES[name].value(result) for name in names]
    if result.status == "diverged" and len(names) == 1:
        # The worst value, so that the sampler learns from it.
        return [0.0]
    # With several objectives a diverged trial has no values, for its few seconds could bring it into the front. To the
    # sampler a pruned trial without values is worse than all trials with values.
    return None


def accuracy(trial: FrozenTrial) -> float | None:
    """The accuracy of a trial, of a pruned one that of its last epoch."""
    return trial.values[0] if trial.values else None


def front(study: optuna.Study) -> list[FrozenTrial]:
    """The Pareto front, the most accurate trial first; with one objective the best trial."""
    if len(study.directions) > 1:
        return sorted(study.best_trials, key=lambda trial: trial.values[0], reverse=True)
    try:
        best_trial = study.best_trial
    except ValueError:
        return []
    return [] if best_trial.user_attrs.get("diverged") else [best_trial]


def best(study: optuna.Study) -> FrozenTrial | None:
    """The most accurate trial so far; of several that are equally accurate one that is in the Pareto front."""
    return next(iter(front(study)), None)
