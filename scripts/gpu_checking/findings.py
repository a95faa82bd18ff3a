"""What a check finds, and the error of one that cannot go on."""

from dataclasses import dataclass, field


@dataclass
class Finding:
    """Something that was measured, and whether it is as promised."""

    what: str
    measured: str
    kept: bool | None = None  # None: nothing was promised
    numbers: dict = field(default_factory=dict)


class BrokenError(Exception):
    """A check cannot go on; its text is one sentence."""
