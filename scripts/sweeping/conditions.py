"""Settings that are drawn only if others have certain values: `when = { schedule = ["step", "cosine"] }`."""

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from sweeping.settings import Setting, text_of

When = Mapping[str, list[Setting]]
"""The other settings that a condition names, each with the values it allows."""


def read(entry: object) -> dict[str, list[Setting]]:
    """A `when` of a space file; raises a ValueError if it is wrong."""
    if not isinstance(entry, dict) or not entry:
        raise ValueError(f'when takes settings and their values, as {{ schedule = "step" }}, not {entry!r}')
    when = {}
    for name, value in entry.items():
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(one, Setting) for one in values):
            raise ValueError(f"when takes a value or a list of values of {name}, not {value!r}")
        when[name.replace("-", "_")] = values
    return when


def holds(when: When, settings: Mapping[str, Setting]) -> bool:
    """Whether each setting is there and has one of its values."""
    return all(name in settings and contains(values, settings[name]) for name, values in when.items())


def contains(values: Iterable[Setting], value: Setting) -> bool:
    """Whether a value is in a list; to Python True is 1, but to the program it is not."""
    return any(one == value and isinstance(one, bool) == isinstance(value, bool) for one in values)


def complete(whens: Mapping[str, When], values_of: Mapping[str, list[Setting] | None]) -> dict[str, When]:
    """The condition of each setting joined with the conditions of the settings that it names.

    A setting comes after all that its condition names. `values_of` has the values of every setting that can be named,
    or None for a range of floats. Raises a ValueError if a condition can never hold.
    """
    for name, when in whens.items():
        for other, values in when.items():
            check(name, other, values, values_of)
    needs = {name: [other for other in when if other in whens] for name, when in whens.items()}
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        circle = error.args[1][::-1]
        raise ValueError(f"{circle[0]}: when goes in a circle: {' needs '.join(circle)}") from error
    found: dict[str, When] = {}
    for name in order:
        found[name] = dict(whens[name])
        for other in needs[name]:
            for key, allowed in found[other].items():
                found[name][key] = [it for it in found[name].get(key, allowed) if contains(allowed, it)]
                if not found[name][key]:
                    raise ValueError(f"{name}: when can never hold: {other} needs another value of {key}")
    return found


def check(name: str, other: str, values: list[Setting], values_of: Mapping[str, list[Setting] | None]) -> None:
    """Raises a ValueError if `other` cannot be named in the condition of `name`, or never has one of the values."""
    if other not in values_of:
        raise ValueError(f"{name}: when names {other}, which is neither in [space] nor in [fixed]")
    known = values_of[other]
    if known is None:
        raise ValueError(f"{name}: when names {other}, but takes only a choice, an int or a setting in [fixed]")
    for value in values:
        if not contains(known, value):
            options = ", ".join(map(text_of, known))
            raise ValueError(
                f"{name}: when asks for {other} = {text_of(value)}, but {other} is only ever one of {options}"
            )
