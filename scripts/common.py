"""Shared by the scripts: where the program is, what a process used, means of several runs, files that are whole."""

import json
import os
import resource
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tch_mnist_program import PROGRAM as PROGRAM
from tch_mnist_program import ROOT as ROOT
from tch_mnist_program import lists as lists
from tch_mnist_program import need_program as need_program


def say(event: str, **fields: object) -> None:
    """Prints a JSON line."""
    print(json.dumps({"event": event, **fields}), flush=True)


def wait_for(process: subprocess.Popen) -> resource.struct_rusage:
    """Waits for a process to end, sets its `returncode`, and returns the time and memory that it used."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; the file is then renamed to `path`."""
    temporary = path.with_name(f".{path.name}.tmp")
    yield temporary
    temporary.replace(path)


def write_json(path: Path, value: object) -> None:
    """Writes `value` to a file."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, default=str, indent=1) + "\n")


def spread(values: list[float], form: str) -> str:
    """Mean and standard error, formatted by `form`; a single value has no error."""
    if len(values) == 1:
        return format(values[0], form)
    error = statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):{form}} ± {error:{form.lstrip('+')}}"
