"""What a sweep varies: a TOML file, read and checked before anything is started.

    seeds = 2                # a trial's value is the mean over this many seeds (default 1)
    validation = 5000        # training images held out, on which trials are measured

    [fixed]                  # settings of every trial
    epochs = 5
    limit_train = 20000

    [space]                  # what each trial draws: settings of `tch-mnist train`, under their names in config.toml
    lr = { type = "log-float", low = 0.003, high = 0.3 }
    momentum = { type = "float", low = 0.5, high = 0.99 }
    step_size = { type = "int", low = 1, high = 5 }
    schedule = { type = "choice", values = ["step", "cosine"] }
    gamma = { type = "float", low = 0.1, high = 0.9, when = { schedule = "step" } }

    [space.net_values]       # what fills {w1} in the file of `net`, a setting of [fixed]
    w1 = { type = "int", low = 8, high = 16, step = 4 }

A setting with `when` is drawn only if other settings have those values. `points` says into how many values
`--sampler grid` divides a float or log-float; `step` is the distance between the values of an int (default 1) or a
float. `objectives = ["accuracy", "seconds"]` above the tables looks for a short training too.
"""

import math
import random
import re
import subprocess
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from sweeping import conditions, objectives
from sweeping.conditions import When, holds
from sweeping.settings import Setting, flags, flat


class UsageError(Exception):
    """A mistake in the command line or in the space file: one sentence, exit code 2."""


# The keys of each type of entry, and those that it needs.
KEYS = {
    "float": ({"low", "high", "step", "points"}, {"low", "high"}),
    "log-float": ({"low", "high", "points"}, {"low", "high"}),
    "int": ({"low", "high", "step"}, {"low", "high"}),
    "choice": ({"values"}, {"values"}),
}

# The sweep itself sets these.
RESERVED = {
    "validation": "write validation = N above the tables",
    "seed": "write seeds = N above the tables",
    "threads": "give --cpus-per-trial",
    "data": "give --data",
    "out": "give --out",
}


@dataclass(frozen=True)
class Range:
    """What one setting is drawn from."""

    distribution: BaseDistribution
    grid: list[Setting] | None
    """The values that `--sampler grid` tries; None if the entry does not say how many."""
    when: When = field(default_factory=dict)
    """The setting is drawn only if this holds."""


@dataclass(frozen=True)
class Space:
    """A space file."""

    name: str
    fixed: dict[str, Setting]
    ranges: dict[str, Range]
    """A setting comes after all that its condition names."""
    seeds: int
    validation: int
    text: dict
    """The file as it was read, to tell whether a sweep that goes on is still the same."""
    objectives: tuple[str, ...] = (objectives.ACCURACY,)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The ranges as Optuna has them."""
        return {name: drawn.distribution for name, drawn in self.ranges.items()}

    @property
    def conditional(self) -> bool:
        """Whether some settings are drawn by some trials only."""
        return any(drawn.when for drawn in self.ranges.values())

    @property
    def held_out(self) -> str:
        """The flag by which every trial holds images out: some settings need that."""
        return f"--validation={self.validation}"

    def draws(self, name: str, settings: Mapping[str, Setting]) -> bool:
        """Whether a trial with these settings draws that one."""
        return holds(self.ranges[name].when, {**self.fixed, **settings})

    def draw(self, trial: Trial) -> None:
        """Draws the settings of a trial."""
        settings: dict[str, Setting] = {}
        for name, drawn in self.ranges.items():
            if self.draws(name, settings):
                settings[name] = suggest(trial, name, drawn.distribution)

    def grid(self) -> list[dict[str, Setting]]:
        """Every combination of the grid's values."""
        points: list[dict[str, Setting]] = [{}]
        for name, drawn in self.ranges.items():
            if drawn.grid is None:
                raise UsageError(f"--sampler grid needs to know how many values of {name} to try: give it points = N")
            points = [
                longer
                for point in points
                for longer in ([{**point, name: value} for value in drawn.grid] if self.draws(name, point) else [point])
            ]
        return points

    def ends(self) -> Iterator[dict[str, Setting]]:
        """Settings that a trial may have: together they have the ends of every range.

        The ends of a conditional range come with each of the values that its condition permits.
        """
        groups = {repr(drawn.when): drawn.when for drawn in self.ranges.values()}
        for when in groups.values():
            varied = {name: ends_of(drawn.distribution) for name, drawn in self.ranges.items() if drawn.when == when}
            varied |= {name: values for name, values in when.items() if name not in self.fixed}
            for index in range(max(map(len, varied.values()))):
                yield self._with({name: values[min(index, len(values) - 1)] for name, values in varied.items()})

    def _with(self, wanted: Mapping[str, Setting]) -> dict[str, Setting]:
        """Settings that a trial may have, these among them."""
        settings: dict[str, Setting] = {}
        for name, drawn in self.ranges.items():
            if self.draws(name, settings):
                settings[name] = wanted.get(name, ends_of(drawn.distribution)[0])
        return settings


def read(path: Path) -> Space:
    """Reads a space file."""
    try:
        return space_of(path.stem, tomllib.loads(path.read_text()))
    except OSError as error:
        raise UsageError(f"{path}: it cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: it is not TOML: {error}") from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


def space_of(name: str, table: dict) -> Space:
    """A space file's content; raises a ValueError if it is wrong."""
    unknown = table.keys() - {"seeds", "validation", "objectives", "fixed", "space"}
    if unknown:
        keys = "seeds, validation, objectives, [fixed] and [space]"
        raise ValueError(f"{min(unknown)} is not a key of a space file; its keys are {keys}")
    if "validation" not in table:
        raise ValueError("validation is missing: write how many training images to hold out, as validation = 5000")
    seeds, validation = table.get("seeds", 1), table["validation"]
    for key, value in [("seeds", seeds), ("validation", validation)]:
        if type(value) is not int or value < 1:
            raise ValueError(f"{key} takes a whole number from 1 up, not {value!r}")
    for key in ["fixed", "space"]:
        if not isinstance(table.get(key, {}), dict):
            raise ValueError(f"{key} is not a table: write [{key}]")
    fixed, entries = (flat(table.get(key, {})) for key in ["fixed", "space"])
    if not entries:
        raise ValueError("[space] names nothing to vary")
    for key in [*fixed, *entries]:
        if key in RESERVED:
            raise ValueError(f"{key} is the sweep's own: {RESERVED[key]} instead")
    for key, value in fixed.items():
        if not isinstance(value, Setting):
            raise ValueError(f"[fixed] {key} takes a text, a number or a truth value, not {value!r}")
        if key in entries:
            raise ValueError(f"{key} is both in [fixed] and in [space]")
    try:
        ranges = in_order({key: read_range(key, entry) for key, entry in entries.items()}, fixed)
    except ValueError as error:
        raise ValueError(f"[space] {error}") from error
    searched = objectives.read(table.get("objectives", [objectives.ACCURACY]))
    return Space(name, fixed, ranges, seeds, validation, table, searched)


def in_order(ranges: Mapping[str, Range], fixed: Mapping[str, Setting]) -> dict[str, Range]:
    """The ranges with their whole conditions, each after those that its condition names."""

    def listed(distribution: BaseDistribution) -> list[Setting] | None:
        if isinstance(distribution, IntDistribution):
            return list(range(distribution.low, distribution.high + 1, distribution.step))
        return list(distribution.choices) if isinstance(distribution, CategoricalDistribution) else None

    values_of = {name: [value] for name, value in fixed.items()}
    values_of |= {name: listed(drawn.distribution) for name, drawn in ranges.items()}
    whens = conditions.complete({name: drawn.when for name, drawn in ranges.items()}, values_of)
    return {name: replace(ranges[name], when=when) for name, when in whens.items()}


def read_range(name: str, entry: object) -> Range:
    """One entry of `[space]`; raises a ValueError if it is wrong."""
    try:
        if not isinstance(entry, dict) or entry.get("type") not in KEYS:
            raise ValueError(f'write {{ type = "...", ... }} with one of the types {", ".join(KEYS)}')
        when = conditions.read(entry["when"]) if "when" in entry else {}
        return Range(*range_of(**{key: value for key, value in entry.items() if key != "when"}), when)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def range_of(type: str, **entry: object) -> tuple[BaseDistribution, list[Setting] | None]:
    """What an entry draws from, and the values that `--sampler grid` tries, if it says how many."""
    known, needed = KEYS[type]
    for key in entry.keys() - known:
        raise ValueError(f"{key} is not a key of the type {type}; its keys are {', '.join([*sorted(known), 'when'])}")
    for key in sorted(needed - entry.keys()):
        raise ValueError(f"the type {type} needs {key}")
    if type == "choice":
        values = entry["values"]
        if not isinstance(values, list) or not values or not all(isinstance(value, Setting) for value in values):
            raise ValueError(f"values takes a list of texts, numbers or truth values, not {values!r}")
        return CategoricalDistribution(values), values

    for key, value in entry.items():
        whole = type == "int" or key == "points"
        if not isinstance(value, int if whole else int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise ValueError(f"{key} takes a {'whole number' if whole else 'number'}, not {value!r}")
    low, high, step, points = entry["low"], entry["high"], entry.get("step"), entry.get("points")
    if low >= high:
        raise ValueError(f"low is {low}, and must be below high, which is {high}")
    if points is not None and points < 2:
        raise ValueError(f"points is {points}, and must be at least 2")
    # Optuna refuses a step that is not above 0, and for a logarithm a low that is not.
    if type == "int":
        distribution = IntDistribution(low, high, step=1 if step is None else step)
        return distribution, list(range(low, high + 1, distribution.step))
    log = type == "log-float"
    distribution = FloatDistribution(low, high, log=log, step=step)
    if step is not None:
        return distribution, [low + i * step for i in range(math.floor((high - low) / step + 1e-9) + 1)]
    spaced = np.geomspace if log else np.linspace
    return distribution, None if points is None else spaced(low, high, points).tolist()


def spread(points: list[dict], trials: int) -> list[dict]:
    """That many of the grid's points, in an order that spreads them; always the same ones."""
    return random.Random(0).sample(points, len(points))[:trials]


def suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Setting:
    """Draws one setting of a trial."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    low, high, step = distribution.low, distribution.high, distribution.step
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, low, high, step=step)
    return trial.suggest_float(name, low, high, step=step, log=distribution.log)


def check(space: Space, program: Path) -> dict[str, Setting]:
    """Lets the program check the ends of every range, and returns the settings of a run that varies nothing: those of
    [fixed] over the program's own."""
    for drawn in space.ends():
        ask_program(program, {**space.fixed, **drawn}, f"{space.name}.toml", space.held_out)
    return ask_program(program, space.fixed, f"{space.name}.toml", space.held_out)


def ends_of(distribution: BaseDistribution) -> list[Setting]:
    """The ends of all ranges: if the program accepts these, it accepts every value that can be drawn."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return [distribution.low, distribution.high]


def with_keys(sentence: str, names: Iterable[str]) -> str:
    """A sentence of the program, in which settings have the names that they have in the file, not those of flags."""
    keys = {name.split(".")[0] for name in names}

    def key_of(flag: re.Match[str]) -> str:
        key = flag[1].replace("-", "_")
        return key if key in keys else flag[0]

    return re.sub(r"--([a-z0-9]+(?:-[a-z0-9]+)*)", key_of, sentence)


def ask_program(program: Path, settings: Mapping[str, Setting], source: str, *more: str) -> dict[str, Setting]:
    """The settings of a run with these flags, as the program resolves them. `source` is where they come from."""
    command = [str(program), "train", "--print-config", *more, *flags(settings)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise UsageError(f"--program {program} cannot be run ({error.strerror}): run scripts/setup") from error
    if done.returncode != 0:
        sentence = with_keys(done.stderr.strip().removeprefix("error: "), {*settings, "validation"})
        raise UsageError(f"tch-mnist train does not take the settings of {source}: {sentence}")
    return tomllib.loads(done.stdout)
