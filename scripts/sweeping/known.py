"""Known good settings that a sweep tries first: `--enqueue FILE`."""

from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from sweeping.conditions import contains, holds
from sweeping.settings import Setting, separated, text_of
from sweeping.space import Space, UsageError, ask_program


def read(path: Path, space: Space, program: Path) -> dict[str, Setting]:
    """The settings of [space] that `tch-mnist train --config FILE` has. Those in [fixed] win over the file, the rest of
    the file does not matter, and what it lacks has the program's default."""
    if not path.is_file():
        raise UsageError(f"--enqueue {path} is not a file")
    more = [f"--config={path}", space.held_out]
    resolved = separated(ask_program(program, space.fixed, f"--enqueue {path}", *more))
    known: dict[str, Setting] = {}
    for name, drawn in space.ranges.items():
        if name not in resolved or not holds(drawn.when, {**space.fixed, **known}):
            continue
        value = inside(drawn.distribution, resolved[name])
        if value is None:
            raise UsageError(
                f"--enqueue {path}: {name} is {text_of(resolved[name])}, but [space] of {space.name}.toml draws "
                f"{describe(drawn.distribution)}"
            )
        known[name] = value
    return known


def inside(distribution: BaseDistribution, value: Setting) -> Setting | None:
    """The value as the distribution has it, None if it is not in there."""
    if isinstance(distribution, CategoricalDistribution):
        # A list, such as of betas, is a text in a choice: the flag's value.
        same = (one for one in distribution.choices if contains([one], value) or text_of(one) == text_of(value))
        return next(same, None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(distribution, FloatDistribution):
        value = float(value)
    try:
        optuna.create_trial(state=TrialState.WAITING, params={"it": value}, distributions={"it": distribution})
    except ValueError:
        return None
    return value


def describe(distribution: BaseDistribution) -> str:
    """What a setting is drawn from, in words."""
    if isinstance(distribution, CategoricalDistribution):
        return f"one of {', '.join(map(text_of, distribution.choices))}"
    steps = f" in steps of {distribution.step}" if distribution.step not in (None, 1) else ""
    return f"{distribution.low} to {distribution.high}{steps}"
