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

`points` says into how many values `--sampler grid` divides a float or log-float; `step` is the distance between the
values of an int (default 1) or a float.
"""

import itertools
import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Setting = bool | int | float | str


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


@dataclass(frozen=True)
class Space:
    """A space file."""

    name: str
    fixed: dict[str, Setting]
    ranges: dict[str, Range]
    seeds: int
    validation: int
    text: dict
    """The file as it was read, to tell whether a sweep that goes on is still the same."""

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The ranges as Optuna has them."""
        return {name: drawn.distribution for name, drawn in self.ranges.items()}

    def grid(self) -> list[dict[str, Setting]]:
        """Every combination of the grid's values."""
        for name, drawn in self.ranges.items():
            if drawn.grid is None:
                raise UsageError(f"--sampler grid needs to know how many values of {name} to try: give it points = N")
        values = [drawn.grid for drawn in self.ranges.values()]
        return [dict(zip(self.ranges, point, strict=True)) for point in itertools.product(*values)]


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
    unknown = table.keys() - {"seeds", "validation", "fixed", "space"}
    if unknown:
        raise wrong(f"{min(unknown)} is not a key of a space file; its keys are seeds, validation, [fixed] and [space]")
    for key in ["seeds", "validation"]:
        value = table.get(key, 1 if key == "seeds" else None)
        if value is None:
            raise wrong("validation is missing: write how many training images to hold out, as validation = 5000")
        if type(value) is not int or value < 1:
            raise wrong(f"{key} takes a whole number from 1 up, not {value!r}")
    for key in ["fixed", "space"]:
        if not isinstance(table.get(key, {}), dict):
            raise wrong(f"{key} is not a table: write [{key}]")
    fixed, entries = (
        {name.replace("-", "_"): x for name, x in table.get(key, {}).items()} for key in ["fixed", "space"]
    )
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
    return Space(path.stem, fixed, ranges, table.get("seeds", 1), table["validation"], table)


def read_range(entry: object) -> Range:
    """One entry of `[space]`; raises a ValueError if it is wrong."""
    if not isinstance(entry, dict) or entry.get("type") not in KEYS:
        raise ValueError(f'write {{ type = "...", ... }} with one of the types {", ".join(KEYS)}')
    kind = entry["type"]
    known, needed = KEYS[kind]
    for key in entry.keys() - known - {"type"}:
        raise ValueError(f"{key} is not a key of the type {kind}; its keys are {', '.join(sorted(known))}")
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


def flags(settings: Mapping[str, Setting]) -> list[str]:
    """Settings as flags of `tch-mnist train`."""

    def text(value: Setting) -> str:
        return str(value).lower() if isinstance(value, bool) else str(value)

    return [f"--{name.replace('_', '-')}={text(value)}" for name, value in settings.items()]


def check(space: Space, program: Path) -> dict[str, Setting]:
    """Lets the program check the ends of every range, and returns the settings of a run that varies nothing: those of
    [fixed] over the program's own."""
    ends = {name: ends_of(drawn.distribution) for name, drawn in space.ranges.items()}
    for index in range(max(len(values) for values in ends.values())):
        drawn = {name: values[min(index, len(values) - 1)] for name, values in ends.items()}
        ask_program(program, {**space.fixed, **drawn}, space.name)
    return ask_program(program, space.fixed, space.name)


def ends_of(distribution: BaseDistribution) -> list[Setting]:
    """The ends of all ranges: if the program accepts these, it accepts every value that can be drawn."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return [distribution.low, distribution.high]


def ask_program(program: Path, settings: Mapping[str, Setting], name: str) -> dict[str, Setting]:
    """The settings of a run with these flags, as the program resolves them."""
    command = [str(program), "train", "--print-config", *flags(settings)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise UsageError(f"--program {program} cannot be run ({error.strerror}): run scripts/setup") from error
    if done.returncode != 0:
        sentence = done.stderr.strip().removeprefix("error: ")
        raise UsageError(f"tch-mnist train does not take the settings of {name}.toml: {sentence}")
    return tomllib.loads(done.stdout)
