"""Settings of `tch-mnist train`, under their names in config.toml, and as its flags."""

from collections.abc import Mapping

Setting = bool | int | float | str

# The setting of the program that has the values of all placeholders of a net file: `w1=8,w2=12`. A sweep varies each of
# them under a name of its own, `net_values.w1`.
VALUES = "net_values"


def text_of(value: object) -> str:
    """A setting as it stands in a flag; a list is joined by commas."""
    if isinstance(value, list):
        return ",".join(map(text_of, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def flags(settings: Mapping[str, Setting]) -> list[str]:
    """Settings as flags."""
    return [f"--{name.replace('_', '-')}={text_of(value)}" for name, value in joined(settings).items()]


def joined(settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """The settings of the program: the values of all placeholders are one setting."""
    values = {name.removeprefix(f"{VALUES}."): x for name, x in settings.items() if name.startswith(f"{VALUES}.")}
    rest = {name: value for name, value in settings.items() if not name.startswith(f"{VALUES}.")}
    if values:
        given = [rest[VALUES]] if rest.get(VALUES) else []
        rest[VALUES] = ",".join([*given, *(f"{name}={text_of(value)}" for name, value in values.items())])
    return rest


def separated(settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """The same with a setting for each placeholder; a value that is a whole number is one."""
    values = [pair.split("=", 1) for pair in str(settings.get(VALUES, "")).split(",") if "=" in pair]
    return {**settings} | {f"{VALUES}.{name}": int(x) if x.isdecimal() else x for name, x in values}


def flat(table: Mapping[str, object]) -> dict[str, object]:
    """A table of a space file, in which `[space.net_values]` may have the placeholders."""
    names = {name.replace("-", "_"): value for name, value in table.items()}
    values = names.get(VALUES)
    if not isinstance(values, dict) or "type" in values:
        return names
    return {name: value for name, value in names.items() if name != VALUES} | {
        f"{VALUES}.{name}": value for name, value in values.items()
    }
