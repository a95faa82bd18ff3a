"""Settings of `tch-mnist train`, under their names in config.toml, and as its flags."""

from collections.abc import Mapping

Setting = bool | int | float | str


def text_of(value: object) -> str:
    """A setting as it stands in a flag; a list is joined by commas."""
    if isinstance(value, list):
        return ",".join(map(text_of, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def flags(settings: Mapping[str, Setting]) -> list[str]:
    """Settings as flags."""
    return [f"--{name.replace('_', '-')}={text_of(value)}" for name, value in settings.items()]
