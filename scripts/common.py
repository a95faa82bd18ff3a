"""Shared by the scripts: where the program is, means of several runs, files that are never half-written."""

import json
import os
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("TCH_MNIST", ROOT / "target/release/tch-mnist"))


def need_program() -> None:
    """Exits with a sentence if the program has not been built."""
    if not PROGRAM.exists():
        sys.exit(f"error: {PROGRAM} is missing: run scripts/setup")


def say(event: str, **fields: object) -> None:
    """Prints a JSON line."""
    print(json.dumps({"event": event, **fields}), flush=True)


def write_json(path: Path, value: object) -> None:
    """Writes `value` to a temporary file and renames it."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, default=str, indent=1) + "\n")
    temporary.replace(path)


def spread(values: list[float], form: str) -> str:
    """Mean and standard error, formatted by `form`; a single value has no error."""
    if len(values) == 1:
        return format(values[0], form)
    error = statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):{form}} ± {error:{form.lstrip('+')}}"
