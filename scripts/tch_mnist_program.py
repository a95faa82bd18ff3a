"""The built program: where it is, and what it lists.

In a module of its own with a name that no user's module has: `print_net.py` imports the modules of others.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("TCH_MNIST", ROOT / "target/release/tch-mnist"))


def need_program() -> None:
    """Exits with a sentence if the program has not been built."""
    if not PROGRAM.exists():
        sys.exit(f"error: {PROGRAM} is missing: run scripts/setup")


@cache
def lists() -> dict[str, list]:
    """The program's lists of layers, settings, optimizers, schedules and so on."""
    need_program()
    return json.loads(subprocess.run([PROGRAM, "lists"], capture_output=True, text=True, check=True).stdout)
