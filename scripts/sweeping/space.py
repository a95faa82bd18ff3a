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
import re
import subprocess
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

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

    def wrong(what: str) -> UsageError:
        return UsageError(f"{path}: {what}")

    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise wrong(f"it cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise wrong(f"it is not TOML: {error}") from error
    unknown = table.keys() - {"seeds", "validation", "objectives", "fixed", "space"}
    if unknown:
        keys = "seeds, validation, objectives, [fixed] and [space]"
        raise wrong(f"{min(unknown)} is not a key of a space file; its keys are {keys}")
    for key in ["seeds", "validation"]:
        value = table.get(key, 1 if key == "seeds" else None)
        if value is None:
            raise wrong("validation is missing: write how many training images to hold out, as validation = 5000")
        if type(value) is not int or value < 1:
            raise wrong(f"{key} takes a whole number from 1 up, not {value!r}")
    for key in ["fixed", "space"]:
        if not isinstance(table.get(key, {}), dict):
            raise wrong(f"{key} is not a table: write [{key}]")
    fixed, entries = (flat(table.get(key, {})) for key in ["fixed", "space"])
    if not entries:
        raise wrong("[space] names nothing to vary")
    for name in [*fixed, *entries]:
        if name in RESERVED:
            raise wrong(f"{name} is the sweep's own: {RESERVED[name]} instead")
    for name, value in fixed.items():
        if not isinstance(value, Setting):
            raise wrong(f"[fixed] {name} takes a text, a number or a truth value, not {value!r}")
        if name in entries:
            raise wrong(f"{name} is both in [fixed] and in [space]")
    ranges = {}
    for name, entry in entries.items():
        try:
            ranges[name] = read_range(entry)
        except ValueError as error:
            raise wrong(f"[space] {name}: {error}") from error
    try:
        ranges = in_order(ranges, fixed)
    except ValueError as error:
        raise wrong(f"[space] {error}") from error
    try:
        searched = objectives.read(table.get("objectives", [objectives.ACCURACY]))
    except ValueError as error:
        raise wrong(str(error)) from error
    return Space(path.stem, fixed, ranges, table.get("seeds", 1), table["validation"], table, searched)


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


def read_range(entry: object) -> Range:
    """One entry of `[space]`; raises a ValueError if it is wrong."""
    if isinstance(entry, dict) and "when" in entry:
        rest = {key: value for key, value in entry.items() if key != "when"}
        return replace(read_range(rest), when=conditions.read(entry["when"]))
    if not isinstance(entry, dict) or entry.get("type") not in KEYS:
        raise ValueError(f'write {{ type = "...", ... }} with one of the types {", ".join(KEYS)}')
    kind = entry["type"]
    known, needed = KEYS[kind]
    for key in entry.keys() - known - {"type"}:
        raise ValueError(f"{key} is not a key of the type {kind}; its keys are {', '.join([*sorted(known), 'when'])}")
    for key in sorted(needed - entry.keys()):
        raise ValueError(f"the type {kind} needs {key}")
    if kind == "choice":
        values = entry["values"]
        if not isinstance(values, list) or not values or not all(isinstance(value, Setting) for value in values):
            raise ValueError(f"values takes a list of texts, numbers or truth values, not {values!r}")
        return Range(CategoricalDistribution(values), values)

    whole = kind == "int"
    for key in entry.keys() - {"type"}:
        allowed = (int,) if whole or key == "points" else (int, float)
        if type(entry[key]) not in allowed or not math.isfinite(entry[key]):
            raise ValueError(f"{key} takes a {'whole number' if allowed == (int,) else 'number'}, not {entry[key]!r}")
    low, high, step, points = entry["low"], entry["high"], entry.get("step"), entry.get("points")
    if low >= high:
        raise ValueError(f"low is {low}, and must be below high, which is {high}")
    if kind == "log-float" and low <= 0:
        raise ValueError(f"low is {low}, and must be above 0 for a logarithm")
    if step is not None and step <= 0:
        raise ValueError(f"step is {step}, and must be above 0")
    if points is not None and points < 2:
        raise ValueError(f"points is {points}, and must be at least 2")
    if whole:
        step = step or 1
        return Range(IntDistribution(low, high, step=step), list(range(low, high + 1, step)))
    if step is not None:
        grid = [low + i * step for i in range(math.floor((high - low) / step + 1e-9) + 1)]
        return Range(FloatDistribution(low, high, step=step), grid)
    log = kind == "log-float"
    grid = None
    if points is not None:
        shares = [i / (points - 1) for i in range(points)]
        grid = [low * (high / low) ** share if log else low + (high - low) * share for share in shares]
        # Rounding must not lead out of the range.
        grid = [min(max(value, low), high) for value in grid]
    return Range(FloatDistribution(low, high, log=log), grid)


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
